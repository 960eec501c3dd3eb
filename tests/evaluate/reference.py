"""Slow, independent restatements that the tests and the benchmark compare with."""

import numpy as np
from sklearn.model_selection import KFold


def insightface_folds(pairs: int):
    """(train, test) index pairs as InsightFace's `LFold(n_splits=10, shuffle=False)`."""
    return list(KFold(n_splits=10, shuffle=False).split(np.arange(pairs)))


def insightface_accuracy(threshold, distance, same) -> float:
    """Share of right decisions where a distance below the threshold means one person."""
    predicted = np.less(distance, threshold)
    true = np.sum(np.logical_and(predicted, same))
    false = np.sum(np.logical_and(np.logical_not(predicted), np.logical_not(same)))
    return float(true + false) / distance.size


def insightface_kfold(distance, same, splits=None) -> np.ndarray:
    """Held-out accuracies (F,) of the loop over folds and 400 thresholds (`calculate_roc`)."""
    thresholds = np.arange(0, 4, 0.01)
    accuracy = []
    for train, test in splits or insightface_folds(len(distance)):
        trained = [insightface_accuracy(t, distance[train], same[train]) for t in thresholds]
        chosen = thresholds[np.argmax(trained)]
        accuracy.append(insightface_accuracy(chosen, distance[test], same[test]))
    return np.array(accuracy)


def insightface_rates(threshold, distance, same) -> tuple[float, float, float]:
    """TPR, FPR and accuracy as InsightFace's `calculate_accuracy` counts them."""
    predicted = np.less(distance, threshold)
    tp = np.sum(np.logical_and(predicted, same))
    fp = np.sum(np.logical_and(predicted, np.logical_not(same)))
    tn = np.sum(np.logical_and(np.logical_not(predicted), np.logical_not(same)))
    fn = np.sum(np.logical_and(np.logical_not(predicted), same))
    tpr = 0 if tp + fn == 0 else float(tp) / float(tp + fn)
    fpr = 0 if fp + tn == 0 else float(fp) / float(fp + tn)
    return tpr, fpr, float(tp + tn) / distance.size


def insightface_roc(distance, same) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(TPR, FPR, held-out accuracies): all that the loop of `calculate_roc` computes."""
    thresholds, splits = np.arange(0, 4, 0.01), insightface_folds(len(distance))
    tpr, fpr = np.zeros((2, len(splits), len(thresholds)))
    accuracy = np.zeros(len(splits))
    for fold, (train, test) in enumerate(splits):
        trained = [insightface_rates(t, distance[train], same[train])[2] for t in thresholds]
        for i, t in enumerate(thresholds):
            tpr[fold, i], fpr[fold, i], _ = insightface_rates(t, distance[test], same[test])
        best = thresholds[np.argmax(trained)]
        accuracy[fold] = insightface_rates(best, distance[test], same[test])[2]
    return tpr.mean(0), fpr.mean(0), accuracy


def insightface_val(distance, same, far_target=1e-3) -> np.ndarray:
    """Held-out TAR of `calculate_val`: FAR interpolated over the thresholds with SciPy.

    Raises ValueError from SciPy where two thresholds share a FAR, which is the normal case.
    """
    from scipy.interpolate import interp1d

    thresholds = np.arange(0, 4, 0.001)
    tar = []
    for train, test in insightface_folds(len(distance)):
        impostor = distance[train][~same[train]]
        far = np.array([np.mean(impostor < t) for t in thresholds])
        threshold = 0.0
        if far.max() >= far_target:
            threshold = interp1d(far, thresholds, kind="slinear")(far_target)
        tar.append(np.mean(distance[test][same[test]] < threshold))
    return np.array(tar)


def strict_by_hand(score, same, fold):
    """(accuracy, threshold) per fold of the strict protocol, pair by pair in Python."""
    accuracies, thresholds = [], []
    for held_out in sorted(set(fold.tolist())):
        rows = list(zip(score.tolist(), same.tolist(), fold.tolist()))
        impostors = sorted((s for s, y, f in rows if not y and f != held_out), reverse=True)
        k = int(0.001 * len(impostors))
        threshold = impostors[k - 1] if k else impostors[0] + 1e-6
        right = [(s >= threshold) == y for s, y, f in rows if f == held_out]
        accuracies.append(sum(right) / len(right))
        thresholds.append(threshold)
    return np.array(accuracies), np.array(thresholds)


def made_scores(case: str, pairs: int, seed: int):
    """Random, tied, degenerate or hard scores: (score, same) of `pairs` pairs."""
    rng = np.random.default_rng(seed)
    same = rng.random(pairs) < 0.5
    score = np.clip(rng.normal(np.where(same, 0.5, 0.1), 0.2), -1, 1)
    if case == "tied":
        score = np.round(score, 2)
    elif case == "on the grid":  # squared distances that fall on thresholds, up to rounding
        score = 1 - rng.choice(np.arange(0, 4, 0.01), pairs) / 2
    elif case == "constant":
        score = np.full(pairs, 0.25)
    elif case == "extremes":
        score = rng.choice([-1.0, 1.0], pairs)
    elif case == "reversed":
        score = -score
    elif case == "three impostors":
        same = np.ones(pairs, bool)
        same[[1, pairs // 2, pairs - 2]] = False
    elif case == "sorted by class":
        same = np.sort(same)
    return score, same


CASES = (
    "random",
    "tied",
    "on the grid",
    "constant",
    "extremes",
    "reversed",
    "three impostors",
    "sorted by class",
)
