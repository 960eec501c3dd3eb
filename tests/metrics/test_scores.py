"""Scores files: what goes in comes out, and what is wrong is named in one line."""

import numpy as np
import pytest

from facelib.errors import BadData, UserError
from facelib.metrics.scores import load_scores, make_scores, save_scores
from facelib.metrics.verification import verify_scores
from tests.evaluate.reference import made_scores


def test_a_scores_file_round_trips_with_its_fold_numbers(tmp_path):
    # catches: folds renumbered in the file, optional arrays dropped, ".npz.npz", left-over files
    score, same = made_scores("random", 300, seed=0)
    people = np.arange(300).astype("U4")
    others = np.where(same, people, np.roll(people, 1))
    scores = make_scores(
        score, same, np.arange(300) % 4 + 5, score_flip=score / 2, id1=people, id2=others
    )
    path = tmp_path / "lfw.npz"
    save_scores(path, scores)
    back = load_scores(path)
    assert [p.name for p in tmp_path.iterdir()] == ["lfw.npz"]
    assert back.fold_labels.tolist() == [5, 6, 7, 8]
    for name in ("score", "same", "fold", "score_flip", "id1", "id2"):
        assert np.array_equal(getattr(back, name), getattr(scores, name))


@pytest.mark.parametrize("as_type", [bool, np.int8, np.int64, np.float32])
def test_same_may_be_booleans_or_ones_and_zeros(tmp_path, as_type):
    # catches: ~ on an integer array, which gives -1 and -2
    score, same = made_scores("random", 500, seed=1)
    np.savez(tmp_path / "x.npz", score=score.astype(np.float32), same=same.astype(as_type))
    np.savez(tmp_path / "y.npz", score=score.astype(np.float32), same=same)
    x, y = (verify_scores(load_scores(tmp_path / f"{n}.npz")).to_dict() for n in "xy")
    assert x == y


GOOD = {"score": np.linspace(-1, 1, 40), "same": np.arange(40) % 2, "fold": np.arange(40) // 10}
BAD = {
    "NaN": ({"score": np.r_[np.nan, GOOD["score"][1:]]}, "`score` is nan at pair 0"),
    "infinite": ({"score": np.r_[GOOD["score"][1:], np.inf]}, "`score` is inf at pair 39"),
    "a column": ({"score": GOOD["score"][:, None]}, r"shape \(40, 1\)"),
    "complex": ({"score": GOOD["score"] + 0j}, "complex128"),
    "text": ({"score": np.full(40, "0.5")}, "wanted real numbers"),
    "short same": ({"same": GOOD["same"][:-1]}, r"`same` has shape \(39,\)"),
    "labels 1 and 2": ({"same": GOOD["same"] + 1}, "other than 0 and 1"),
    "no impostor": ({"same": np.ones(40)}, "no impostor"),
    "no genuine": ({"same": np.zeros(40)}, "no genuine"),
    "one fold": ({"fold": np.full(40, 3)}, "all pairs are in fold 3"),
    "real folds": ({"fold": np.arange(40) / 10}, "float64, wanted integers"),
    "one fold of impostors": ({"same": np.arange(40) // 10 != 2}, "only fold 2 holds impostor"),
    "short flip": ({"score_flip": np.zeros(3)}, r"`score_flip` has shape \(3,\)"),
    "half the identities": ({"id1": np.arange(40)}, "only one of `id1` and `id2`"),
    "no pairs": ({"score": np.zeros(0)}, "empty"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_arrays_are_one_clear_error(tmp_path, case):
    # catches: a check removed; the file's name left out of the message
    change, message = BAD[case]
    np.savez(tmp_path / "bad.npz", **(GOOD | change))
    with pytest.raises(UserError, match=message) as caught:
        load_scores(tmp_path / "bad.npz")
    assert "bad.npz" in str(caught.value) and "\n" not in str(caught.value)


def test_too_few_pairs_for_tenths_are_refused():
    # catches: empty folds
    with pytest.raises(UserError, match="9 pairs cannot be cut into ten folds"):
        make_scores(np.linspace(0, 1, 9), np.arange(9) % 2)


def test_files_that_are_no_scores_are_one_clear_error(tmp_path):
    # catches: numpy and zip traces reaching the user; pickles being opened
    good = tmp_path / "good.npz"
    np.savez(good, **GOOD)
    whole = good.read_bytes()
    damaged = bytearray(whole)
    damaged[60:90] = bytes(30)
    files = {
        "empty.npz": b"",
        "text.npz": b"score,same\n1,1\n",
        "cut.npz": whole[: len(whole) // 2],
        "damaged.npz": bytes(damaged),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    np.save(tmp_path / "array.npy", GOOD["score"])
    np.savez(tmp_path / "pickle.npz", score=np.array([{}], object), same=GOOD["same"])
    np.savez(tmp_path / "lacking.npz", score=GOOD["score"])
    for name in [*files, "array.npy", "pickle.npz", "lacking.npz", "absent.npz", "."]:
        with pytest.raises(BadData) as caught:
            load_scores(tmp_path / name)
        assert "\n" not in str(caught.value)
