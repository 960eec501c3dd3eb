"""Weighted figures equal the plain ones on repeated pairs; draws are of people, inside folds."""

import time

import numpy as np
import pytest

from facelib.errors import UserError
from facelib.metrics.bootstrap import (
    bootstrap_figures,
    bootstrap_intervals,
    draw_weights,
    percentile_interval,
    resampling_units,
    weighted_figures,
)
from facelib.metrics.scores import make_scores
from facelib.metrics.verification import verify, verify_scores
from tests.evaluate.reference import CASES, made_scores


def people(fold, same, each=30, seed=0):
    """Identity of each side: `each` people a fold, shared by no two folds."""
    rng = np.random.default_rng(seed)
    id1 = fold * each + rng.integers(0, each, len(fold))
    other = fold * each + (id1 - fold * each + rng.integers(1, each, len(fold))) % each
    return id1, np.where(same, id1, other)


def flat(report: dict) -> dict:
    """Figures of a report under the names that intervals use."""
    found = {"auc": report["auc"], "eer": report["eer"]}
    for part in ("strict", "best", "tar_at_far"):
        found |= {f"{part}.{key}": value for key, value in report[part].items()}
    return found


@pytest.mark.parametrize("case", CASES)
def test_whole_weights_equal_repeated_pairs(case):
    # catches: any weighted figure that differs from the plain one: ties, k = 0, absent weight,
    # the fold's own impostors in its threshold, the first best threshold
    score, same = made_scores(case, 3000, seed=1)
    rng = np.random.default_rng(2)
    flip = np.clip(score + rng.normal(0, 0.01, 3000), -1, 1)
    fold = rng.permutation(3000) % 7
    weights = rng.poisson(1.2, (3, 3000))
    weights[1, fold == 3] = 0  # a fold that was not drawn
    if case == "three impostors":  # each row lacks another one, so k = 0 and the largest may go
        weights[:, ~same] = 1 - np.eye(3, dtype=int)
    scores = make_scores(score, same, fold, score_flip=flip)
    figures = weighted_figures(scores, weights.astype(float))
    for row, times in enumerate(weights):
        repeated = [np.repeat(a, times) for a in (score, same, fold, flip)]
        wanted = flat(verify(*repeated).to_dict())
        for name, values in figures.items():
            if wanted[name] is None:
                assert np.isnan(values[row])
            else:
                assert values[row] == pytest.approx(wanted[name], abs=1e-9), name


def test_unit_weights_give_the_report_itself():
    # catches: intervals keyed by names that no figure has
    score, same = made_scores("random", 2000, seed=3)
    scores = make_scores(score, same)
    wanted = flat(verify_scores(scores).to_dict())
    for name, values in weighted_figures(scores, np.ones((1, 2000))).items():
        assert wanted[name] is None or values[0] == pytest.approx(wanted[name], abs=1e-12)


def test_a_pair_weighs_the_product_of_its_peoples_draws():
    # catches: squared weights of genuine pairs, sums for products, draws that cross folds
    fold = np.repeat([0, 1], 4)
    id1 = np.array([0, 0, 1, 2, 3, 3, 4, 5])
    id2 = np.array([0, 1, 2, 2, 3, 4, 5, 5])
    scores = make_scores(np.linspace(0, 1, 8), id1 == id2, fold, id1=id1, id2=id2)
    units = resampling_units(scores)
    assert (units.name, units.within_folds) == ("identity", True)
    seen = 0
    for w in np.concatenate(list(draw_weights(units, 250, seed=0))):
        for pairs, people in ((range(4), (0, 1, 2)), (range(4, 8), (3, 4, 5))):
            first, last = people[0], people[-1]  # genuine pairs of the first and the last person
            impostor = w[[p for p in pairs if id1[p] != id2[p]]]
            if not impostor.all():
                continue
            # impostor pairs are (first, middle), (middle, last): their ratio is that of the draws
            genuine = {int(id1[p]): w[p] for p in pairs if id1[p] == id2[p]}
            assert genuine[first] / genuine[last] == pytest.approx(impostor[0] / impostor[1])
            seen += 1
    assert seen > 50


def test_each_fold_keeps_its_numbers_of_genuine_and_impostor_pairs():
    # catches: impostor weights that sum to (n - 1) / n of their pairs, which shifts accuracies:
    # the interval of a strict accuracy near 50 % would then lie below its estimate
    score, same = made_scores("random", 2000, seed=6)
    fold = np.arange(2000) % 10
    id1, id2 = people(fold, same)
    scores = make_scores(score, same, fold, id1=id1, id2=id2)
    for w in next(draw_weights(resampling_units(scores), 20, seed=0)):
        for f in range(10):
            for kind in (True, False):
                chosen = (fold == f) & (same == kind)
                assert w[chosen].sum() in (pytest.approx(chosen.sum()), 0)


def test_people_in_two_folds_are_drawn_over_all_and_pairs_where_nobody_is_known():
    # catches: the within-fold draw used where it would split a person, a silent fall-back
    score, same = made_scores("random", 400, seed=4)
    fold = np.arange(400) % 4
    id1, id2 = people(fold, same)
    id2[0] = 119  # fold 3's last person, now in fold 0 too
    known = bootstrap_intervals(make_scores(score, same, fold, id1=id1, id2=id2), 20)
    assert known["bootstrap"]["unit"] == "identity"
    assert known["bootstrap"]["within_folds"] is False
    unknown = bootstrap_intervals(make_scores(score, same, fold), 20)
    assert unknown["bootstrap"]["unit"] == "pair"
    weights = next(draw_weights(resampling_units(make_scores(score, same, fold)), 5, 0))
    for f in range(4):
        assert weights[:, fold == f].sum(axis=1) == pytest.approx(np.full(5, 100))


def test_names_serve_as_identities_and_the_seed_decides():
    # catches: identities assumed to be small integers, an unseeded generator
    score, same = made_scores("random", 600, seed=5)
    fold = np.arange(600) % 3
    id1, id2 = people(fold, same)
    numbers = make_scores(score, same, fold, id1=id1, id2=id2)
    names = make_scores(score, same, fold, id1=id1.astype("U5"), id2=id2.astype("U5"))
    assert bootstrap_intervals(numbers, 30) == bootstrap_intervals(numbers, 30)
    assert bootstrap_intervals(numbers, 30) != bootstrap_intervals(numbers, 30, seed=1)
    assert bootstrap_figures(names, 30)["auc"].std() > 0


def test_dependent_pairs_widen_the_identity_interval():
    # catches: pairs resampled where people should be; here each person's pairs move together
    rng = np.random.default_rng(6)
    fold = np.repeat(np.arange(10), 200)
    same = np.arange(2000) % 2 == 0
    id1, id2 = people(fold, same, each=20)
    habit = rng.normal(0, 0.25, 200)
    score = np.where(same, 0.4, 0.1) + habit[id1] / 2 + habit[id2] / 2
    score = np.clip(score + rng.normal(0, 0.05, 2000), -1, 1)
    people_known = make_scores(score, same, fold, id1=id1, id2=id2)
    widths = {}
    for name, scores in (("identity", people_known), ("pair", make_scores(score, same, fold))):
        low, high = bootstrap_intervals(scores, 200)["intervals"]["auc"]
        widths[name] = high - low
    assert widths["identity"] > 1.5 * widths["pair"]


def test_intervals_are_null_where_a_figure_is_seldom_estimable():
    # catches: an interval from the few replicates that happen to hold enough impostors
    assert percentile_interval(np.r_[np.full(60, np.nan), np.ones(40)]) is None
    assert percentile_interval(np.arange(1001.0)) == pytest.approx([25, 975])
    with pytest.raises(UserError, match="bootstrap = -1"):
        score, same = made_scores("random", 100, seed=7)
        verify(score, same, bootstrap=-1)


def test_a_thousand_replicates_of_seven_thousand_pairs_are_quick():
    # catches: a loop over replicates, pairs or thresholds (measured: 1 s; the limit is 5)
    score, same = made_scores("random", 7000, seed=8)
    fold = np.arange(7000) // 700
    id1, id2 = people(fold, same, each=50)
    scores = make_scores(score, same, fold, score_flip=score, id1=id1, id2=id2)
    start = time.process_time()
    report = verify_scores(scores, bootstrap=1000).to_dict()
    assert time.process_time() - start < 5
    low, high = report["intervals"]["strict.threshold"]
    assert low <= report["strict"]["threshold"] <= high
