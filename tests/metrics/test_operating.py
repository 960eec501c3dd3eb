"""Operating points: thresholds at a false match rate, their intervals, error against discard."""

import numpy as np
import pytest
from scipy.stats import norm

from facelib.errors import UserError
from facelib.metrics.operating import discard_curve, operating_points, pairs_worth, threshold_for
from facelib.metrics.scores import make_scores
from facelib.metrics.verification import tar_at_far


def people_scores(rng, people=60, pairs=300, folds=10, lean=0.06, noise=0.09):
    """Scores whose impostor pairs of one person lean the same way; their FMR is known exactly."""
    one = np.repeat(np.arange(folds), pairs) * people + rng.integers(people, size=folds * pairs)
    other = one // people * people + (one + rng.integers(1, people, len(one))) % people
    leans = rng.normal(0, lean, folds * people)
    impostors = 0.05 + leans[one] + leans[other] + rng.normal(0, noise, len(one))
    genuine = rng.normal(0.55, 0.14, len(one))
    same = np.repeat([True, False], len(one))
    return make_scores(np.r_[genuine, impostors], same, np.tile(one // people, 2),
                       id1=np.r_[one, one], id2=np.r_[one, other])  # fmt: skip


@pytest.mark.parametrize("fmr", [1e-2, 1e-3])
def test_the_interval_of_the_fmr_holds_the_true_rate_of_new_people(fmr):
    # Catches: pairs of one person taken as independent; an interval around another threshold.
    rng, hits, sets = np.random.default_rng(0), 0, 250
    spread = np.hypot(0.06 * np.sqrt(2), 0.09)
    for _ in range(sets):
        point = threshold_for(people_scores(rng), fmr)
        true = norm.sf((point["threshold"] - 0.05) / spread)
        lo, hi = point["expected"]
        hits += lo <= true <= hi
    assert 0.90 <= hits / sets <= 0.985


def test_the_threshold_lets_as_many_pass_as_the_rate_allows():
    # Catches: >= in place of >, ties that pass, FNMR of the impostors.
    scores = people_scores(np.random.default_rng(1))
    rates = tar_at_far(scores.score, scores.same)
    for rate, point in operating_points(scores, (1e-2, 1e-3)).items():
        accepted = scores.score >= point["threshold"]
        assert accepted[~scores.same].mean() == float(rate)
        assert point["fnmr"] == pytest.approx(1 - rates[float(rate)])
    assert operating_points(scores)["1e-5"]["threshold"] is None  # 3,000 impostors
    with pytest.raises(UserError, match="FMR 1.5"):
        threshold_for(scores, 1.5)


def test_copies_of_a_pair_are_worth_one_pair():
    # Catches: a formula that counts what a person's pairs share once instead of always.
    wrong = np.arange(200) % 10 == 0
    people = np.arange(200)
    assert pairs_worth(wrong, people, people + 1000) == pytest.approx(200)
    copies = [np.repeat(x, 5) for x in (wrong, people, people + 1000)]
    assert 150 < pairs_worth(*copies) < 250
    genuine = [np.repeat(x, 5) for x in (wrong, people, people)]
    assert pairs_worth(*genuine) == pytest.approx(200)
    assert pairs_worth(wrong, None, None) == 200


def test_discarding_the_worst_pairs_lowers_the_error_when_quality_tells():
    # Catches: the best discarded first; impostors in the rate.
    scores = people_scores(np.random.default_rng(2))
    discarded, fnmr = discard_curve(scores, scores.score, threshold=0.5)
    missed = (scores.score[scores.same] < 0.5).mean()
    assert (discarded[0], fnmr[0]) == (0, pytest.approx(missed))
    assert fnmr[discarded >= missed].max() == 0
    order = -scores.score  # a quality that is wrong about every pair
    assert discard_curve(scores, order, 0.5)[1][-1] == 1
