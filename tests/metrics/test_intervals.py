"""Intervals: variances over people, thresholds in the tail, coverage on simulated people."""

import time
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from facelib.errors import UserError
from facelib.metrics import intervals as iv
from facelib.metrics.compare import report_differences
from facelib.metrics.scores import make_scores
from facelib.metrics.verification import verify, verify_scores
from tests.evaluate.reference import made_scores
from tests.metrics.coverage import Design, coverage


def people(fold, same, each=30, seed=0):
    """Identity of each side: `each` people a fold, shared by no two folds."""
    rng = np.random.default_rng(seed)
    id1 = fold * each + rng.integers(0, each, len(fold))
    other = fold * each + (id1 - fold * each + rng.integers(1, each, len(fold))) % each
    return id1, np.where(same, id1, other)


def test_the_variance_adds_the_products_of_all_pairs_that_share_a_person():
    # catches: couples counted twice, genuine pairs counted for two people, a forgotten side
    rng = np.random.default_rng(0)
    id1 = rng.integers(0, 12, 80)
    id2 = np.where(np.arange(80) < 30, id1, (id1 + rng.integers(1, 12, 80)) % 12)
    psi = rng.normal(size=80) + id1 / 6
    share = [[len({id1[p], id2[p]} & {id1[q], id2[q]}) > 0 for q in range(80)] for p in range(80)]
    wanted = psi @ np.array(share) @ psi
    assert wanted > psi @ psi
    assert iv.People(id1, id2, 80).variance(psi) == pytest.approx(wanted)
    assert iv.People(None, None, 80).variance(psi) == pytest.approx(psi @ psi)


def test_a_share_of_independent_trials_has_wilson_s_interval():
    # catches: another quantile, n − 1 trials, limits that are not on the logit scale
    wanted = binomtest(37, 40).proportion_ci(method="wilson")
    found = iv.wilson(37 / 40, 37 * 3 / 40**3, trials=1)
    assert found == pytest.approx([wanted.low, wanted.high])
    odds = [np.log(x / (1 - x)) for x in found]
    assert sum(odds) / 2 == pytest.approx(np.log(37 / 3))
    assert iv.wilson(1.0, 0.0, trials=40) == pytest.approx([40 / (40 + iv.Z**2), 1])


def test_independent_pairs_give_the_accuracy_wilson_s_interval():
    # catches: influences of wrong size; all pairs of one fold size, nobody known. The choice of
    # the threshold may only widen it.
    score, same = made_scores("random", 2000, seed=3)
    report = verify(score, same, bootstrap=50)
    right = round(2000 * report.best.accuracy.mean())
    genuine = [int((report.best.predicted == same)[kind].sum()) for kind in (same, ~same)]
    spread = sum(c * (n - c) / n for c, n in zip(genuine, (same.sum(), (~same).sum()))) / 2000**2
    lo, hi = iv.wilson(right / 2000, spread, 2000)
    low, high = report.intervals["best.accuracy"]
    assert low <= lo + 1e-9 < hi - 1e-9 <= high
    assert high - low < 1.5 * (hi - lo)


def test_dependent_pairs_widen_the_interval():
    # catches: pairs taken as independent where people are known; here a person's move together
    rng = np.random.default_rng(6)
    fold = np.repeat(np.arange(10), 200)
    same = np.arange(2000) % 2 == 0
    id1, id2 = people(fold, same, each=20)
    habit = rng.normal(0, 0.25, 200)
    score = np.where(same, 0.4, 0.1) + habit[id1] / 2 + habit[id2] / 2
    score = np.clip(score + rng.normal(0, 0.05, 2000), -1, 1)
    known = make_scores(score, same, fold, id1=id1.astype("U5"), id2=id2.astype("U5"))
    widths = {}
    for scores in (known, make_scores(score, same, fold)):
        report = verify_scores(scores, 200)
        low, high = report.intervals["auc"]
        widths[report.bootstrap["unit"]] = high - low
    assert widths["identity"] > 1.5 * widths["pair"]


def test_the_true_far_of_a_threshold_spreads_as_an_order_statistic():
    # catches: k off by one, folds that do not leave out their own impostors
    rng = np.random.default_rng(1)
    uniform = np.sort(rng.random((4000, 1500)), axis=1)[:, :40]
    pooled = np.log(uniform[:, 2])
    owner = rng.integers(0, 10, uniform.shape)
    held_out = np.mean(
        [np.log([u[o != f][0] for u, o in zip(uniform, owner)]) for f in range(10)], 0
    )
    for k, folds, wanted in ((3, 1, pooled), (1, 10, held_out)):
        found = iv.order_statistics(k, folds)
        assert found.std() == pytest.approx(wanted.std(), rel=0.08)
        assert found.mean() == pytest.approx(wanted.mean() + np.log(1500), abs=0.08)


def test_thresholds_of_two_models_vary_together_as_their_highest_impostors_do():
    # Catches: independent draws, models that are alike only where the threshold does not lie
    rng = np.random.default_rng(4)
    same = np.arange(4000) % 2 == 0
    one, other = rng.normal(0, 0.1, (2, 4000))
    found = {}
    for alike in (0, 0.9, 1):
        scores = [make_scores(np.clip(x + same * 0.5, -1, 1), same)
                  for x in (one, alike * one + np.sqrt(1 - alike**2) * other)]  # fmt: skip
        draws = iv.Draws(scores[0], 500, 0, beside=scores[0])
        shifts = [draws.strict_shifts("score", s) for s in scores]
        found[alike] = np.corrcoef(*shifts)[0, 1]
    assert abs(found[0]) < 0.2 < found[0.9] < 0.45  # 0.5 among the 30 highest
    assert found[1] == pytest.approx(1)


def some_scores(seed):
    """Data of any kind: few or many pairs and people, ties, folds of unequal size, flips."""
    rng = np.random.default_rng(seed)
    pairs = int(rng.integers(60, 800))
    same = rng.random(pairs) < rng.uniform(0.2, 0.8)
    score = np.clip(rng.normal(same * rng.uniform(-0.2, 1), 0.3), -1, 1)
    score = np.round(score, int(rng.integers(1, 5)))
    fold = rng.integers(0, 5, pairs)
    id1, id2 = people(fold, same, each=int(rng.integers(3, 40)), seed=seed)
    flip = np.clip(score + rng.normal(0, 0.05, pairs), -1, 1)
    return make_scores(score, same, fold, id1=id1, id2=id2, score_flip=flip)


@pytest.mark.parametrize("seed", range(12))
def test_an_estimate_lies_in_its_interval_and_rates_between_0_and_1(seed):
    # catches: quantiles of draws that miss their figure, limits beyond 0 and 100 %
    scores = some_scores(seed)
    report = verify_scores(scores, bootstrap=60)
    other = verify_scores(replace(scores, score=scores.score_flip))
    for pair in report_differences(report, other, 60).values():
        if pair and pair["interval"]:
            assert pair["interval"][0] <= pair["difference"] <= pair["interval"][1]
    figures, known = report.figures(), 0
    assert set(report.intervals) == set(figures)
    for name, limits in report.intervals.items():
        if limits is None:
            continue
        known += 1
        assert limits[0] <= figures[name] <= limits[1], name
        assert name == "strict.threshold" or (limits[0] >= 0 and limits[1] <= 1), name
    assert known >= 3


@pytest.mark.parametrize(("genuine", "accuracy"), [(0.9, 1.0), (-0.4, 0.5)])
def test_all_right_and_all_wrong_leave_room_for_error(genuine, accuracy):
    # catches: an interval of no width where no error was seen
    same = np.arange(400) % 2 == 0
    score = np.where(same, genuine, 0.1 * np.random.default_rng(0).random(400))
    report = verify(score, same, np.arange(400) // 40, bootstrap=100)
    low, high = report.intervals["best.accuracy"]
    assert report.best.accuracy.mean() == accuracy
    assert low < accuracy - 0.005 and (high == 1 or high > accuracy + 0.005)
    low, high = report.intervals["strict.tar"]
    assert high - low > 0.005


def test_figures_without_an_interval_say_why():
    # catches: an interval of a rate that the protocol sets; one from a handful of impostors
    score, same = made_scores("random", 400, seed=7)
    report = verify(score, same, bootstrap=20)
    for name, why in report.bootstrap["no_interval"].items():
        assert report.intervals[name] is None and len(why) > 10
    few = np.r_[np.flatnonzero(same), np.flatnonzero(~same)[:8]]
    scores = make_scores(score[few], same[few], np.arange(len(few)) % 2)
    assert verify_scores(scores, 20).intervals["strict.tar"] is None
    with pytest.raises(UserError, match="bootstrap = -1"):
        verify(score, same, bootstrap=-1)


def test_the_seed_decides():
    # catches: an unseeded generator
    score, same = made_scores("random", 600, seed=5)
    scores = make_scores(score, same)
    first = verify_scores(scores, 30).intervals
    assert verify_scores(replace(scores), 30).intervals == first
    assert verify_scores(scores, 30, seed=1).intervals != first


@pytest.mark.slow
@pytest.mark.parametrize("strength", ["weak", "strong"])
def test_intervals_hold_the_truth_in_95_percent_of_data_sets(strength):
    # catches: the identity bootstrap (strict 85 %, best 100 %), Wilson with all pairs as trials
    # (AUC and best below 90 %). The bars are 95 % ± 1.5, what the record shows, and three standard
    # errors of 300 data sets.
    table = coverage(Design(3000, True, strength), 300, 200).set_index("figure")
    found = table.loc[["best.accuracy", "strict.accuracy", "strict.threshold", "auc", "eer"]]
    error = 3 * np.sqrt(0.95 * 0.05 / 300)
    assert (found["coverage"] > 0.935 - error).all(), found["coverage"]
    assert (found.loc[["best.accuracy", "auc", "eer"], "coverage"] < 0.965 + error).all()
    difference = [f"difference of {name}" for name in found.index]
    assert table.loc[difference, "coverage"].between(0.925 - error, 0.975 + error).all()


def test_a_thousand_draws_of_seven_thousand_pairs_are_quick():
    # catches: a loop over draws, pairs or thresholds (measured: 0.1 s; the limit is 2)
    score, same = made_scores("random", 7000, seed=8)
    fold = np.arange(7000) // 700
    id1, id2 = people(fold, same, each=50)
    scores = make_scores(score, same, fold, score_flip=score, id1=id1, id2=id2)
    start = time.process_time()
    verify_scores(scores, bootstrap=1000)
    assert time.process_time() - start < 2
