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
    with np.load(path) as file:
        assert str(file["key"]) == ""  # of no embeddings
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


def test_arrays_of_other_names_are_not_opened(tmp_path):
    # catches: a foreign array that is read (here a pickle, which is refused) before it is left out
    np.savez(tmp_path / "x.npz", **GOOD, notes=np.array([{}], object))
    assert np.array_equal(load_scores(tmp_path / "x.npz").score, GOOD["score"])


GOOD = {"score": np.linspace(-1, 1, 40), "same": np.arange(40) % 2, "fold": np.arange(40) // 10}
FINITE = r"wanted finite cosines; look at the model or images that gave it$"
REAL = r"wanted real numbers \(cosines\)$"
ZERO_ONE = r"values other than 0 and 1: wanted booleans, or 1 .* and 0 for two people$"
BAD = {
    "NaN": ({"score": np.r_[np.nan, GOOD["score"][1:]]},
            r"`score` is nan at pair 0 \(1 of 40 are not finite\): " + FINITE),
    "infinite": ({"score": np.r_[GOOD["score"][1:], np.inf]}, "is inf at pair 39 .*" + FINITE),
    "infinite flip": ({"score_flip": np.full(40, -np.inf)}, "`score_flip` is -inf .*40 of 40"),
    "a column": ({"score": GOOD["score"][:, None]},
                 r"`score` has shape \(40, 1\), wanted one dimension: one value a pair$"),
    "complex": ({"score": GOOD["score"] + 0j}, "`score` has type complex128, " + REAL),
    "text": ({"score": np.full(40, "0.5")}, REAL),
    "short same": ({"same": GOOD["same"][:-1]},
                   r"`same` has shape \(39,\), wanted \(40,\) like `score`: one value a pair$"),
    "labels 1 and 2": ({"same": GOOD["same"] + 1}, "`same` has type int64 with " + ZERO_ONE),
    "times": ({"same": GOOD["same"].astype("m8[s]")}, r"timedelta64\[s\] with " + ZERO_ONE),
    "no impostor": ({"same": np.ones(40)}, r"no impostor \(same = 0\) pair, nothing to"),
    "no genuine": ({"same": np.zeros(40)}, r"all 40 .* no genuine \(same = 1\) pair"),
    "one fold": ({"fold": np.full(40, 3)}, "all pairs are in fold 3: .* the other folds, so wanted "
                 "at least two; leave `fold` out for contiguous tenths$"),
    "real folds": ({"fold": np.arange(40) / 10}, r"float64, wanted integers \(any, one a fold\)$"),
    "short fold": ({"fold": GOOD["fold"][1:]}, r"`fold` has shape \(39,\), wanted \(40,\)"),
    "one fold of impostors": ({"same": np.arange(40) // 10 != 2},
                              "only fold 2 holds impostor .* that train its threshold have none: "
                              "wanted impostor pairs in at least two folds$"),
    "short flip": ({"score_flip": np.zeros(3)}, r"`score_flip` has shape \(3,\), wanted \(40,\)"),
    "short index": ({"index1": np.zeros(3)}, r"`index1` has shape \(3,\), wanted \(40,\)"),
    "half the identities": ({"id1": np.arange(40)}, "one of `id1` and `id2` .* both or none$"),
    "people who contradict": ({"id1": np.arange(40), "id2": np.arange(40) // 2 * 2},
                              r"pair 0 has same = 0, but its identities are 0 and 0 \(40 of 40 "
                              r"pairs contradict\): mend `same`, or `id1` and `id2`$"),
    "no pairs": ({"score": np.zeros(0)}, "`score` is empty: wanted one cosine a pair$"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_wrong_arrays_are_one_clear_error(tmp_path, case):
    # catches: a check removed; the file's name left out of the message
    change, message = BAD[case]
    np.savez(tmp_path / "bad.npz", **(GOOD | change))
    with pytest.raises(UserError, match=message) as caught:
        load_scores(tmp_path / "bad.npz")
    assert str(caught.value).startswith(f"{tmp_path / 'bad.npz'}: ")
    assert "\n" not in str(caught.value)


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
        again = "eval RUN` writes them" if name in (".", "absent.npz") else f"again with: {AGAIN}"
        assert str(caught.value).startswith(f"{tmp_path / name}: ")
        assert again in str(caught.value)
        what = " an .npz with `score`, `same`, maybe `fold`"
        assert what in str(caught.value) or name in (".", "absent.npz")


AGAIN = "python -m facelib eval RUN"


def test_an_array_that_scores_do_not_have_is_named_with_those_they_have():
    # catches: a misspelt `id1` that is dropped, so that intervals are over pairs
    with pytest.raises(UserError, match=r"\['ids', 'yaw'\]: allowed score_flip, id1, id2"):
        make_scores(GOOD["score"], GOOD["same"], yaw=GOOD["score"], ids=None)


def test_scores_that_are_not_those_of_the_figures_are_refused(tmp_path):
    # catches: figures beside the scores of another evaluation; a digest that is not compared
    scores = make_scores(GOOD["score"], GOOD["same"], GOOD["fold"])
    save_scores(tmp_path / "a.npz", scores, key="k")
    assert load_scores(tmp_path / "a.npz", scores.digest).digest == scores.digest
    other = make_scores(-GOOD["score"], GOOD["same"], GOOD["fold"]).digest
    wanted = rf"a.npz: not the scores that the figures come from; write it again with: {AGAIN}$"
    with pytest.raises(BadData, match=wanted):
        load_scores(tmp_path / "a.npz", other)
    with np.load(tmp_path / "a.npz") as file:
        arrays = {**file}
    assert arrays["key"] == "k"
    np.savez(tmp_path / "b.npz", **arrays | {"score": -arrays["score"]})
    with pytest.raises(BadData, match=rf"b.npz: .*{AGAIN}"):
        load_scores(tmp_path / "b.npz")
