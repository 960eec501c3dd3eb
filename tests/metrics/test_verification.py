"""The protocols against slow restatements, scikit-learn, and the published reference figures."""

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from facelib.metrics import verification as v
from facelib.metrics.caveats import interval_warnings
from facelib.metrics.scores import contiguous_tenths
from tests.evaluate.reference import (
    CASES,
    insightface_folds,
    insightface_kfold,
    insightface_val,
    made_scores,
    strict_by_hand,
)

# mean ± std, TAR, FAR of the strict protocol; mean ± std of the best threshold; AUC; EER
REAL = {
    "FF": ("0.978857 0.006963 0.958286 0.000571", "0.992286 0.001938", "0.999651", "0.006857"),
    "FP": ("0.680000 0.044730 0.360571 0.000571", "0.932857 0.014597", "0.982490", "0.068000"),
}
# fold by fold: strict threshold, accuracy, TAR, FAR; best threshold, accuracy
REAL_FOLDS = {
    "FF": """0.482495 0.971429 0.942857 0.000000 1.27 0.994286
             0.482495 0.971429 0.942857 0.000000 1.23 0.992857
             0.482495 0.981429 0.962857 0.000000 1.27 0.990000
             0.482495 0.980000 0.960000 0.000000 1.23 0.994286
             0.469364 0.990000 0.982857 0.002857 1.24 0.990000""",
    "FP": """0.567315 0.662857 0.325714 0.000000 1.52 0.938571
             0.567315 0.655714 0.311429 0.000000 1.51 0.945714
             0.567315 0.685714 0.371429 0.000000 1.51 0.947143
             0.467105 0.762857 0.528571 0.002857 1.52 0.924286
             0.567315 0.632857 0.265714 0.000000 1.52 0.908571""",
}


@pytest.mark.parametrize("protocol", ["FF", "FP"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_real_scores_give_the_reference_figures_to_the_printed_digits(real_faces, protocol, dtype):
    # catches: k off by one, > for >=, last instead of first tie, sample std, folds sorted wrongly
    data = np.load(real_faces / "cfp_dev_mobilefacenet.npz", allow_pickle=False)
    i, j, y, fold = (data[f"{protocol}_{name}"] for name in ("i1", "i2", "y", "fold"))
    emb = data["emb"].astype(dtype)  # unit to 1e-7 only: a threshold's sixth digit hangs on it
    emb /= np.linalg.norm(emb, axis=1, keepdims=True)
    score = (emb[i] * emb[j]).sum(axis=1)
    report = v.verify(score, y, fold).to_dict()
    strict, best = report["strict"], report["best"]
    found = [f"{strict[k]:.6f}" for k in ("accuracy", "std", "tar", "far")]
    found += [f"{best[k]:.6f}" for k in ("accuracy", "std")]
    found += [f"{report[k]:.6f}" for k in ("auc", "eer")]
    assert found == " ".join(REAL[protocol]).split()
    rows = [
        f"{a['threshold']:.6f} {a['accuracy']:.6f} {a['tar']:.6f} {a['far']:.6f} "
        f"{b['threshold']:.2f} {b['accuracy']:.6f}"
        for a, b in zip(strict["folds"], best["folds"])
    ]
    assert rows == [line.strip() for line in REAL_FOLDS[protocol].splitlines()]
    assert [row["fold"] for row in strict["folds"]] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("pairs", [200, 607])
def test_best_threshold_equals_the_insightface_loop(case, pairs):
    # catches: <= for <, searchsorted on the wrong side, cos grid, last tie, folds of unequal size
    score, same = made_scores(case, pairs, seed=pairs)
    ours = v.verify(score, same).best
    assert ours.accuracy == pytest.approx(insightface_kfold(2 - 2 * score, same), abs=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_strict_equals_a_pair_by_pair_restatement(case):
    # catches: k from all folds instead of the training ones, thresholds of the held-out fold
    score, same = made_scores(case, 2500, seed=4)
    report = v.verify(score, same)
    accuracy, threshold = strict_by_hand(score, same, contiguous_tenths(2500))
    assert np.array_equal(report.strict.threshold, threshold)
    assert report.strict.accuracy == pytest.approx(accuracy, abs=1e-12)


def test_folds_without_an_array_are_those_of_scikit_learn():
    # catches: np.array_split into nine, longer folds at the end
    for pairs in (10, 19, 101, 6000):
        fold = contiguous_tenths(pairs)
        for f, (_, test) in enumerate(insightface_folds(pairs)):
            assert np.array_equal(np.flatnonzero(fold == f), test)


def test_fold_numbers_are_only_names():
    # catches: bincount on raw fold values, folds assumed contiguous or 0-based
    score, same = made_scores("random", 600, seed=1)
    names = np.array([7, -3, 100, 41, 12])
    fold = np.random.default_rng(0).integers(0, 5, 600)
    odd = v.verify(score, same, names[fold])
    ranks = np.argsort(np.argsort(names))
    plain = v.verify(score, same, ranks[fold])
    assert np.array_equal(odd.strict.accuracy, plain.strict.accuracy)
    assert [row["fold"] for row in odd.to_dict()["best"]["folds"]] == sorted(names.tolist())


def test_too_few_impostors_put_the_strict_threshold_just_above_them():
    # catches: k = 0 read as "the smallest impostor" (partition at -0)
    impostors = np.array([0.1, 0.7, 0.3])
    assert v.strict_threshold(impostors) == 0.7 + 1e-6
    assert v.strict_threshold(np.arange(2999.0)) == 2997.0  # k = 2: second largest
    assert v.strict_threshold(np.arange(3000.0)) == 2997.0  # k = 3: third largest


def test_duplicate_far_values_break_the_interpolation_but_not_ours():
    # catches: interp1d over FAR coming back; here SciPy refuses what real scores always hold
    score, same = made_scores("random", 3000, seed=2)
    with pytest.raises(ValueError, match="duplicates"):
        insightface_val(2 - 2 * score, same)
    best = v.verify(score, same).to_dict()["best"]
    assert 0 < best["tar_at_far_1e-3"] < 1


@pytest.mark.parametrize("case", ["random", "tied", "constant", "reversed", "three impostors"])
def test_roc_auc_and_tar_at_far_agree_with_scikit_learn(case):
    # catches: ties counted whole, interpolated TAR, an accepted (k+1)-th impostor
    score, same = made_scores(case, 2000, seed=3)
    far, tar, threshold = v.roc(score, same)
    theirs = roc_curve(same, score, drop_intermediate=False)
    for ours, other in zip((far, tar, threshold), theirs):
        assert ours == pytest.approx(other, abs=1e-12)
    assert v.auc(score, same) == pytest.approx(roc_auc_score(same, score), abs=1e-12)
    for target, value in v.tar_at_far(score, same, (0.5, 1e-2, 1e-3, 1e-4)).items():
        if (~same).sum() * target < 1:
            assert value is None
        else:
            assert value == pytest.approx(theirs[1][theirs[0] <= target].max(), abs=1e-12)
    assert v.tar_at_far(score, same, (1.0,)) == {1.0: 1.0}


def test_eer_is_the_crossing_of_the_roc_polyline():
    # catches: nearest point instead of interpolation; solved here by bisection on np.interp
    for case in CASES:
        score, same = made_scores(case, 300, seed=5)
        far, tar, _ = v.roc(score, same)
        along = np.linspace(0, 1, len(far))
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            fa, ta = np.interp(middle, along, far), np.interp(middle, along, tar)
            low, high = (middle, high) if fa < 1 - ta else (low, middle)
        assert v.eer(score, same) == pytest.approx(np.interp(high, along, far), abs=1e-9)


def test_flip_scores_serve_the_best_threshold_protocol_only():
    # catches: the strict protocol, AUC or EER taken from f(x) + f(flip x)
    score, same = made_scores("random", 1000, seed=6)
    flip, _ = made_scores("random", 1000, seed=7)
    both, plain = v.verify(score, same, score_flip=flip), v.verify(score, same)
    flipped = v.verify(flip, same)
    assert both.to_dict()["strict"] == plain.to_dict()["strict"]
    assert (both.auc, both.eer) == (plain.auc, plain.eer)
    assert both.to_dict()["best"] == flipped.to_dict()["best"]


@pytest.mark.filterwarnings("error")
def test_a_fold_without_impostors_has_no_far_and_says_so():
    # catches: 0/0 reported as FAR 0, or NaN that spoils the mean and the JSON
    score, same = made_scores("sorted by class", 400, seed=8)
    report = v.verify(score, same).to_dict()
    assert report["strict"]["folds"][-1]["far"] is None
    assert 0 <= report["strict"]["far"] <= 1
    assert any("no impostor pair in fold" in line for line in report["warnings"])
    json.dumps(report, allow_nan=False)
    turned = v.verify(score[::-1], same[::-1]).to_dict()
    assert turned["strict"]["folds"][-1]["tar"] is None and turned["strict"]["tar"] <= 1
    assert (turned["genuine"], turned["impostors"]) == (same.sum(), 400 - same.sum())


def test_a_distance_on_the_threshold_is_refused_and_the_grid_is_tried_to_its_end():
    # catches: <= for <, which accepts impostors at the threshold; a grid without its last step
    same, fold = np.array([True, False] * 2), np.repeat([0, 1], 2)
    for genuine, impostor, threshold in ((0.7525, 0.75, 0.5), (-0.9925, -1.0, 3.99)):
        best = v.verify(np.array([genuine, impostor] * 2), same, fold).best
        assert best.threshold == pytest.approx([threshold] * 2)
        assert np.array_equal(best.in_sample, same) and np.array_equal(best.predicted, same)


def test_report_has_the_promised_keys_and_the_spread_of_the_strict_threshold():
    # catches: renamed keys; a threshold std that is not the population's over the folds
    score, same = made_scores("random", 3000, seed=9)
    report = v.verify(score, same).to_dict()
    assert {"pairs", "folds", "strict", "best", "tar_at_far", "auc", "eer"} <= set(report)
    wanted = {"accuracy", "std", "threshold", "threshold_std", "tar", "far", "folds"}
    assert wanted <= set(report["strict"])
    assert {"accuracy", "std", "threshold", "tar_at_far_1e-3"} <= set(report["best"])
    assert list(report["tar_at_far"]) == ["1e-2", "1e-3", "1e-4", "1e-5", "1e-6"]
    thresholds = [row["threshold"] for row in report["strict"]["folds"]]
    assert report["strict"]["threshold_std"] == pytest.approx(np.std(thresholds))


def test_every_figure_of_eight_pairs_is_the_one_worked_out_by_hand():
    # catches: any figure under another name, of another protocol, class or fold, or left out
    score = np.array([0.875, 0.75, 0.125, 0.25, 0.6875, 0.3125, 0.4375, 0.0])
    same, fold = np.array([1, 1, 0, 0] * 2), np.repeat([3, 8], 4)
    report = v.verify(score, same, fold)
    found = report.to_dict()
    # Strict: just above the highest impostor of the other fold. Best: the first step of 0.01 above
    # the distance 0.625 (0.5) of the genuine pair that the other fold accepts last.
    assert found.pop("strict") == {
        "accuracy": 0.875, "std": 0.125, "threshold": pytest.approx(0.34375 + 1e-6),
        "threshold_std": pytest.approx(0.09375), "tar": 1.0, "far": 0.25,
        "folds": [
            {"fold": 3, "threshold": 0.4375 + 1e-6, "accuracy": 1.0, "tar": 1.0, "far": 0.0},
            {"fold": 8, "threshold": 0.25 + 1e-6, "accuracy": 0.75, "tar": 1.0, "far": 0.5},
        ],
    }  # fmt: skip
    assert found.pop("best") == {
        "accuracy": 0.75, "std": 0.25, "threshold": pytest.approx(0.57),
        "threshold_std": pytest.approx(0.06), "tar_at_far_1e-3": 1.0, "far_at_far_1e-3": 0.25,
        "folds": [
            {"fold": 3, "threshold": 0.63, "accuracy": 1.0},
            {"fold": 8, "threshold": 0.51, "accuracy": 0.5},
        ],
    }  # fmt: skip
    assert found.pop("tar_at_far") == dict.fromkeys(["1e-2", "1e-3", "1e-4", "1e-5", "1e-6"])
    assert found.pop("warnings")
    assert found == {"pairs": 8, "genuine": 4, "impostors": 4, "folds": 2, "flip": False,
                     "auc": 15 / 16, "eer": 0.25}  # fmt: skip
    assert report.best.in_sample.tolist() == [True, True, False, False, True, False, False, False]
    figures = report.figures()
    assert figures["strict.far"] == figures["best.far_at_far_1e-3"] == figures["eer"] == 0.25
    assert figures["tar_at_far.1e-3"] is None and not {"strict.std", "best.folds"} & set(figures)


def test_the_people_and_the_seed_reach_the_intervals():
    # catches: identities or the seed dropped on the way; estimates without their interval
    score, same = made_scores("random", 400, seed=3)
    people = np.arange(400) // 5
    given = {"id1": people, "id2": np.where(same, people, people + 1)}
    first = v.verify(score, same, bootstrap=30, **given).to_dict()
    other = v.verify(score, same, bootstrap=30, seed=2, **given).to_dict()
    scores = v.make_scores(score, same, **given)
    again = v.verify_scores(scores, 30).to_dict()
    assert "intervals" not in v.verify_scores(scores).to_dict()
    assert first == again and first["intervals"] != other["intervals"]
    assert first["bootstrap"] != v.verify(score, same, bootstrap=30, seed=1).to_dict()["bootstrap"]
    low, high = first["intervals"]["strict.accuracy"]
    assert low < first["strict"]["accuracy"] < high
    assert first["intervals"]["best.threshold"] is None and first["intervals"]["auc"][0] < 1
    assert v.verify(score, same, score_flip=score).to_dict()["flip"] is True
    parted = v.verify(np.where(same, 0.9, 0.1), same, bootstrap=30).to_dict()
    said = list(interval_warnings(parted))  # that all are right bounds a rate on one side only
    assert said and parted["warnings"][-len(said) :] == said
