"""Accuracy where people were in training and where not, on scores whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest

from facelib.audit.overlap_pairs import accuracy_by_overlap, inflation, pair_groups
from facelib.errors import UserError
from facelib.metrics.scores import make_scores
from facelib.metrics.verification import best_threshold_protocol

SEEN = range(0, 200, 2)  # every second person was in training


def benchmark(lift=0.0, pairs=4000, seed=0, everywhere=0.0):
    """Scores in which genuine pairs of seen people (or all) score `lift` (`everywhere`) higher."""
    rng = np.random.default_rng(seed)
    fold, same = np.arange(pairs) % 10, np.arange(pairs) // 10 % 2 == 0
    id1 = fold * 20 + rng.integers(0, 20, pairs)
    id2 = np.where(same, id1, fold * 20 + (id1 + 1 + rng.integers(0, 19, pairs)) % 20)
    score = rng.normal(0.25 * same, 0.15) + same * (everywhere + lift * (id1 % 2 == 0))
    return make_scores(score.clip(-1, 1), same, fold, id1=id1, id2=id2)


def test_an_impostor_pair_overlaps_if_either_person_was_in_training():
    # Catches: "both" for "either", genuine pairs in a group of their own.
    scores = benchmark(pairs=400)
    groups = pair_groups(scores, SEEN)
    sides = (scores.id1 % 2 == 0).astype(int) + (scores.id2 % 2 == 0)
    np.testing.assert_array_equal(groups["overlapping"], sides > 0)
    np.testing.assert_array_equal(groups["both"], sides == 2)
    np.testing.assert_array_equal(groups["disjoint"], sides == 0)
    anonymous = make_scores(scores.score, scores.same, scores.fold)
    with pytest.raises(UserError, match="scores without id1 and id2"):
        pair_groups(anonymous, SEEN)


def test_shares_are_those_of_the_protocol_and_accuracy_is_balanced():
    # Catches: thresholds of the subset, accuracy weighted by the numbers of pairs.
    scores = benchmark()
    table = accuracy_by_overlap(scores, SEEN)
    found = table.set_index(["protocol", "kind", "group"])
    right = best_threshold_protocol(scores.score, scores.same, scores.fold).predicted == scores.same
    for group, mask in pair_groups(scores, SEEN).items():
        shares = [right[mask & scores.same].mean(), right[mask & ~scores.same].mean()]
        rows = found.loc["best threshold"].xs(group, level="group")
        assert rows.loc[["genuine", "impostor"], "value"].tolist() == pytest.approx(shares)
        assert rows.loc["accuracy", "value"] == pytest.approx(np.mean(shares))
        assert rows.loc["accuracy", "pairs"] == mask.sum()
    whole = table[table["kind"] == "accuracy"]
    assert whole["value"].between(whole["lo"], whole["hi"]).all()
    assert table.loc[table["kind"] != "accuracy", ["lo", "hi"]].isna().all(axis=None)


def test_a_lift_of_seen_people_shows_in_the_difference_of_differences():
    # Catches: clean − overlap, disjoint − overlapping, intervals of unpaired draws (far too wide).
    gains = inflation(benchmark(lift=0.15), benchmark(), SEEN)
    found = gains.set_index(["protocol", "kind", "group"]).loc["best threshold"]
    assert found.loc[("genuine", "overlapping"), "value"] > 0.1
    assert found.loc[("accuracy", "difference"), "lo"] > 0
    difference = found.loc[("genuine", "overlapping")] - found.loc[("genuine", "disjoint")]
    assert found.loc[("genuine", "difference"), "value"] == pytest.approx(difference["value"])


def test_a_lift_of_everybody_is_no_inflation():
    # Catches: what the runs differ in otherwise counted as an effect of overlap.
    gains = inflation(benchmark(everywhere=0.1), benchmark(), SEEN)
    rows = gains[(gains["kind"] == "accuracy") & (gains["protocol"] == "best threshold")]
    found = rows.set_index("group")
    assert found.loc["overlapping", "lo"] > 0 and found.loc["disjoint", "lo"] > 0
    assert found.loc["difference", "lo"] < 0 < found.loc["difference", "hi"]
    same = inflation(benchmark(), benchmark(), SEEN)
    assert (same[["value", "lo", "hi"]].fillna(0) == 0).all(axis=None)
    assert same.loc[same["kind"] == "accuracy", "lo"].notna().all()


def test_a_strict_accuracy_is_as_unsure_as_its_threshold():
    # Catches: decisions held fixed; the error of a threshold that both groups share counted twice.
    found = accuracy_by_overlap(benchmark(), SEEN).set_index(["protocol", "kind", "group"])
    width = (found["hi"] - found["lo"]).xs("accuracy", level="kind")
    assert width["strict", "overlapping"] > 1.5 * width["best threshold", "overlapping"]
    noise = np.random.default_rng(2).normal(0, 0.1, 4000)
    other = replace(benchmark(), score=benchmark().score + noise)
    gains = inflation(other, benchmark(), SEEN).set_index(["protocol", "kind", "group"])
    width = (gains["hi"] - gains["lo"]).sort_index().loc["strict", "accuracy"]
    assert width["difference"] < width["overlapping"]
