"""What figures warn of, and that every text output says so."""

import numpy as np
import pytest

from facelib.cli.main import main
from facelib.errors import BadData
from facelib.metrics.caveats import interval_warnings
from facelib.metrics.scores import load_scores, make_scores, save_scores
from facelib.metrics.tables import warning_lines
from facelib.metrics.verification import verify_scores


def pairs(count: int = 8000, **changes) -> dict:
    """Clean scores: cosines of half genuine and half impostor pairs, mixed over ten folds."""
    rng = np.random.default_rng(0)
    same = np.arange(count) % 2 == 0
    score = np.clip(rng.normal(np.where(same, 0.6, 0.1), 0.1), -1, 1)
    fold = np.arange(count) // 2 % 10
    index = np.arange(count)
    return {"score": score, "same": same, "fold": fold, "index1": index, "index2": index + count,
            **changes}  # fmt: skip


def warned(**changes) -> list[str]:
    return verify_scores(make_scores(**pairs(**changes))).to_dict()["warnings"]


def test_clean_scores_warn_of_nothing():
    # Mutation: a warning that is always there, which nobody reads.
    assert warned() == []


def test_scores_that_fall_where_they_should_rise_are_warned_of():
    # Mutations: distances or inverted labels without a word; chance called inverted.
    clean = pairs()
    found = warned(score=1 - clean["score"])
    assert any("genuine pairs score lower than impostor pairs (AUC 0.0" in text for text in found)
    (found,) = warned(same=~clean["same"])
    assert "`same` inverted" in found
    noise = np.random.default_rng(1).permutation(clean["score"])
    assert not any("inverted" in text for text in warned(score=noise))
    assert any("no cosines" in text for text in warned(score=100 * clean["score"]))


def test_folds_of_one_kind_and_pairs_there_twice_are_warned_of():
    # Mutations: all genuine pairs first, unseen; a pair whose sides are swapped not found again.
    clean = pairs()
    found = warned(fold=np.where(clean["same"], 0, 1 + clean["fold"]))
    assert any(text.startswith("no genuine pair in fold 1, 2, 3, 4, 5, ...") for text in found)
    assert any(text.startswith("no impostor pair in fold 0:") for text in found)
    index1, index2 = clean["index1"].copy(), clean["index2"].copy()
    index1[2], index2[2] = index2[0], index1[0]
    assert warned(index1=index1, index2=index2) == [
        "1 of 8000 pairs are there before: each counts again"
    ]


@pytest.mark.parametrize(("count", "said"), [
    (2000, "cannot show FAR 1e-3"), (4000, "hangs on the 1 highest of 1800 impostor scores"),
    (6000, "hangs on the 2 highest of 2700 impostor scores"), (6700, ""),
])  # fmt: skip
def test_a_threshold_of_fewer_than_three_impostors_is_warned_of(count, said):
    # Mutations: all impostors counted instead of those of the other folds; two for three.
    found = warned(**pairs(count))
    assert (len(found) == 1 and said in found[0]) if said else found == []


def test_one_sided_intervals_are_named():
    # Mutation: an interval that ends at its estimate shown as if it were two-sided.
    figures = {"strict": {"accuracy": 0.8, "threshold": 0.4}, "auc": 1.0, "tar_at_far": {}}
    ends = {"strict.accuracy": [0.7, 0.9], "strict.threshold": [0.3, 0.4], "auc": [0.9, 1.0]}
    figures["intervals"] = ends | {"tar_at_far.1e-6": [0, 1], "eer": None}
    (found,) = interval_warnings(figures)
    assert found.endswith("an end: strict.threshold, auc")
    assert list(interval_warnings({})) == []


def test_every_text_output_of_verify_shows_the_warnings(tmp_path, capsys):
    # Mutation: warnings in --json only.
    path = tmp_path / "mine.npz"
    save_scores(path, make_scores(**pairs(2000)))
    assert main(["verify", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("warning: mine: 1000 impostor pairs cannot show FAR 1e-3")
    report = {"warnings": ["a"], "benchmarks": {"lfw": {"warnings": ["b"]}, "old": {}}}
    assert warning_lines(report) == "warning: a\nwarning: lfw: b\n"


def test_labels_against_identities_are_refused(tmp_path):
    # Mutation: a pair of one person by its label and of two by its identities, counted as either.
    clean = pairs(40)
    id1 = np.arange(40)
    clean |= {"id1": id1, "id2": np.where(clean["same"], id1, id1 + 1)}
    np.savez(tmp_path / "a.npz", **clean)
    load_scores(tmp_path / "a.npz")
    for pair in (2, 3):
        wrong = clean["same"].copy()
        wrong[pair] ^= True
        np.savez(tmp_path / "a.npz", **clean | {"same": wrong})
        with pytest.raises(BadData, match=rf"a\.npz: pair {pair} has same = {pair % 2}"):
            load_scores(tmp_path / "a.npz")
