"""Two models on the same pairs: exact McNemar and paired differences."""

from math import comb

import numpy as np
import pytest

from facelib.errors import UserError
from facelib.metrics.compare import compare_files, compare_scores, mcnemar
from facelib.metrics.scores import make_scores, save_scores
from tests.evaluate.reference import made_scores


def test_mcnemar_is_the_exact_two_sided_coin():
    # catches: the chi-square approximation, concordant pairs counted, a one-sided p
    a = np.repeat([True, True, False, False], [50, 9, 2, 7])
    b = np.repeat([True, False, True, False], [50, 9, 2, 7])
    found = mcnemar(a, b)
    assert (found.only_a, found.only_b) == (9, 2)
    assert found.p == pytest.approx(2 * sum(comb(11, k) for k in range(3)) / 2**11)
    assert mcnemar(a, a).p == 1.0
    assert mcnemar(b, a).p == found.p


def two_models(noise=0.15, pairs=1000):
    score, same = made_scores("random", pairs, seed=0)
    rng = np.random.default_rng(1)
    fold = np.arange(pairs) % 10
    id1 = fold * 20 + rng.integers(0, 20, pairs)
    id2 = np.where(same, id1, fold * 20 + (id1 + 1 + rng.integers(0, 19, pairs)) % 20)
    worse = np.clip(score + rng.normal(0, noise, pairs), -1, 1)
    return [make_scores(s, same, fold, id1=id1, id2=id2) for s in (score, worse)]


def test_a_model_does_not_differ_from_itself():
    # catches: unpaired draws, which would give two copies of one model an interval around 0
    model, _ = two_models()
    result = compare_scores(model, model, bootstrap=50)
    assert result["mcnemar"]["strict"]["p"] == result["mcnemar"]["best"]["p"] == 1.0
    known = [d for d in result["differences"].values() if d is not None]
    assert known and all(d["difference"] == 0 and d["interval"] in ([0, 0], None) for d in known)


def test_a_noisier_model_is_worse_and_the_sign_is_a_minus_b():
    # catches: B - A, decisions compared instead of correctness
    good, bad = two_models(noise=0.3)
    result = compare_scores(good, bad, bootstrap=200)
    test = result["mcnemar"]["best"]
    assert test["only_a"] > test["only_b"] and test["p"] < 0.01
    auc = result["differences"]["auc"]
    assert 0 < auc["interval"][0] < auc["difference"] < auc["interval"][1]
    assert result["differences"]["tar_at_far.1e-6"] is None


def test_pairing_makes_the_interval_of_a_difference_narrow():
    # catches: another seed for the second model
    good, near = two_models(noise=0.02)
    paired = compare_scores(good, near, 200)["differences"]["auc"]["interval"]
    shifted = compare_scores(good, good, 200)["differences"]["auc"]["interval"]
    assert shifted == [0.0, 0.0]
    assert paired[1] - paired[0] < 0.01


def test_scores_of_other_pairs_are_refused(tmp_path):
    # catches: comparing two benchmarks, or one in another order
    a, b = two_models()
    save_scores(tmp_path / "a.npz", a)
    flipped = make_scores(b.score, ~b.same, b.fold)
    save_scores(tmp_path / "b.npz", flipped)
    with pytest.raises(UserError, match="differ in `same` at pair 0"):
        compare_files(tmp_path / "a.npz", tmp_path / "b.npz")
    short = make_scores(b.score[:500], b.same[:500], b.fold[:500])
    with pytest.raises(UserError, match="1000 and 500 pairs"):
        compare_scores(a, short)
    with pytest.raises(UserError, match="bootstrap = 0"):
        compare_scores(a, b, bootstrap=0)
