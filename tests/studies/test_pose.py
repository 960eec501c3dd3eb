"""Pose: pairs in the right bin, thresholds that are what they say, every run in the table."""

import numpy as np
import pytest

from facelib.metrics.scores import make_scores
from facelib.studies import pose


class Run:
    """A run of one benchmark with given scores, as far as the pose table looks at it."""

    def __init__(self, label, scores, threshold=0.5):
        self.result, self.label, self.benchmarks = self, label, list(scores)
        self.scores, self._threshold = scores.__getitem__, threshold

    def threshold(self, name):
        return self._threshold


def made(yaw, seed=0, pairs=2000):
    rng = np.random.default_rng(seed)
    same = np.arange(pairs) % 2 == 0
    turn = rng.uniform(0, 90, pairs) if yaw else None
    falls = 0.5 * turn / 90 if yaw else 0
    score = np.clip(np.where(same, 0.8, 0.2) - falls + 0.1 * rng.normal(size=pairs), -1, 1)
    sides = {"yaw1": np.zeros(pairs), "yaw2": -turn} if yaw else {}
    people = rng.integers(0, 100, pairs)
    return make_scores(score, same, id1=people, id2=people + 1000 * ~same, **sides)


def test_pairs_fall_into_the_bin_of_their_turn_whatever_its_sign():
    # Catches: the sign of the yaw, the upper edge in the lower bin, a turn beyond the last edge.
    scores = make_scores(
        np.zeros(10), np.arange(10) % 2, yaw1=np.array([0, 14.9, 15, -40, 60] * 2),
        yaw2=np.array([0, 0, 0, 40, -60] * 2),
    )  # fmt: skip
    wanted = ["0–15", "0–15", "15–30", "75–90", "75–90"]
    assert pose.bins_of(scores, "lfw").tolist() == wanted * 2


def test_without_yaws_frontal_and_profile_benchmarks_are_the_bins():
    # Catches: an error on files without yaws, benchmarks in one bin.
    runs = [Run("A", {"cfp_ff": made(False), "cfp_fp": made(False, 1)})]
    table = pose.pose_table(runs, "cfp_ff")
    assert list(table.index) == [("frontal, frontal", "A"), ("frontal, profile", "A")]
    assert (table["genuine"] == 1000).all()


def test_the_threshold_of_a_bin_accepts_its_share_of_the_bin_s_impostors():
    # Catches: the global threshold in its place, FAR of genuine pairs, bins out of order.
    table = pose.pose_table([Run("A", {"toy": made(True)})], "toy", far=0.05)
    scores = made(True)
    assert [p for p, _ in table.index] == ["0–15", "15–30", "30–45", "45–60", "60–75", "75–90"]
    for (name, _), row in table.iterrows():
        inside = pose.bins_of(scores, "toy") == name
        impostors = scores.score[inside & ~scores.same]
        assert 0 <= 0.05 - (impostors > row["threshold"]).mean() < 1 / len(impostors)
        genuine = scores.score[inside & scores.same]
        assert row["own TAR"] == pytest.approx((genuine > row["threshold"]).mean())
        assert row["TAR"] == pytest.approx((genuine > 0.5).mean())
        assert row["FAR"] == pytest.approx((impostors > 0.5).mean())
    assert table["TAR"].iloc[0] > table["TAR"].iloc[-1] + 0.5
    assert (table["own TAR lo"] <= table["own TAR"]).all()


def test_every_run_has_its_curve_with_its_own_threshold():
    # Catches: one run's threshold for all, a bin of few pairs kept, names and values apart.
    runs = [Run("A", {"toy": made(True)}, 0.3), Run("B", {"toy": made(True)}, 0.9)]
    table = pose.pose_table(runs, "toy")
    frame = pose.curve_frame(table, "TAR")
    means = frame.groupby("name")["tar"].mean()
    assert means["A"] > 0.7
    assert means["B"] < 0.2
    assert frame.groupby("bin")["middle"].nunique().eq(1).all()
    few = Run("A", {"toy": made(True, pairs=400)})
    assert pose.pose_table([few, *runs], "toy").loc["0–15"].index.tolist() == ["A", "B"]
    assert pose.pose_table([few], "toy").empty
