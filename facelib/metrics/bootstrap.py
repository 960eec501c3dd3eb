"""Intervals by a bootstrap over identities: people, not pairs, are what was sampled.

A replicate draws as many identities as there are, with replacement; an identity drawn m times
weighs m. A pair weighs the product of its two identities' draws (a pair inside one identity: its
draws). Where the folds share no identity the draw is made inside each fold, so that held-out people
stay held out. Without identities, pairs are drawn inside their folds instead ("unit": "pair"),
which ignores that pairs share people and gives intervals that are too narrow.

Every rate and threshold of `verification` is computed here from weights; with whole-number weights
it equals that module's figure on the pairs repeated so many times. All replicates of a block at
once: (R, P) arrays, pairs sorted by score one time. The standard deviations over folds get no
interval: a replicate holds fewer different people than the data, which inflates them.

Read the intervals of the strict protocol as one-sided: its threshold is nearly the largest impostor
score, and no replicate can hold a larger one than the data, though another sample of people could.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from facelib.errors import UserError
from facelib.metrics.scores import DISTANCE_GRID, EPSILON, FARS, STRICT_FAR, Scores, far_name

BLOCK = 100  # most replicates at once
BLOCK_WEIGHTS = 2_000_000  # most weights at once: 16 MB, whatever the number of pairs
LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class Units:
    """What is drawn: units `0..n-1` in groups (folds), and the unit of each side of each pair."""

    name: str  # "identity" or "pair"
    group: np.ndarray  # (U,) group of each unit
    side1: np.ndarray  # (P,)
    side2: np.ndarray  # (P,)
    within_folds: bool
    stratum: np.ndarray  # (P,) fold and class of each pair

    def describe(self, replicates: int, seed: int) -> dict:
        """JSON-able: how the intervals were made."""
        return {
            "replicates": replicates,
            "seed": seed,
            "level": LEVEL,
            "unit": self.name,
            "within_folds": self.within_folds,
        }


def resampling_units(scores: Scores) -> Units:
    """Identities where the file has them, inside folds if no identity is in two; else pairs."""
    stratum = np.unique(2 * scores.fold + scores.same, return_inverse=True)[1]
    if scores.id1 is None:
        pairs = np.arange(len(scores.score))
        return Units("pair", scores.fold, pairs, pairs, True, stratum)
    people, sides = np.unique(np.r_[scores.id1, scores.id2], return_inverse=True)
    folds = np.r_[scores.fold, scores.fold]
    lowest = np.full(len(people), folds.max())
    highest = np.zeros(len(people), dtype=folds.dtype)
    np.minimum.at(lowest, sides, folds)
    np.maximum.at(highest, sides, folds)
    disjoint = bool((lowest == highest).all())
    group = lowest if disjoint else np.zeros_like(lowest)
    side1, side2 = np.split(sides, 2)
    return Units("identity", group, side1, side2, disjoint, stratum)


def draw_weights(units: Units, replicates: int, seed: int) -> Iterator[np.ndarray]:
    """Yield blocks (R, P) of pair weights, the same for the same units and seed."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(units.group == g) for g in np.unique(units.group)]
    one_unit = units.side1 == units.side2
    block = max(1, min(BLOCK, BLOCK_WEIGHTS // len(units.side1)))
    for start in range(0, replicates, block):
        rows = min(block, replicates - start)
        draws = np.zeros((rows, len(units.group)))
        for unit in members:
            n = len(unit)
            draws[:, unit] = rng.multinomial(n, np.full(n, 1 / n), size=rows)
        weight = draws[:, units.side1]
        weight = np.where(one_unit, weight, weight * draws[:, units.side2])
        yield _keep_class_sizes(weight, units.stratum)


def _keep_class_sizes(weight: np.ndarray, stratum: np.ndarray) -> np.ndarray:
    """Scale (R, P) weights so that each fold keeps its numbers of genuine and impostor pairs.

    The protocols fix them. A product of two multiplicities sums to (n − 1)/n of the impostors on
    average, and would shift every accuracy towards the genuine pairs' share.
    """
    counts = np.bincount(stratum)
    drawn = weight @ np.eye(len(counts))[stratum]  # (R, strata)
    factor = np.divide(counts, drawn, out=np.zeros_like(drawn), where=drawn > 0)
    return weight * factor[:, stratum]


def weighted_figures(scores: Scores, weights: np.ndarray) -> dict[str, np.ndarray]:
    """All figures for each row of pair weights (R, P); NaN where a replicate cannot show one."""
    with np.errstate(invalid="ignore", divide="ignore"):  # 0/0 where a class was not drawn
        strict = _at_far_folds(scores.score, scores, weights)
        best = _best_folds(scores, weights)
        plain = scores.score_flip is None
        at_far = strict if plain else _at_far_folds(scores.score_flip, scores, weights)
        return {
            "strict.accuracy": _mean(strict["accuracy"]),
            "strict.threshold": _mean(strict["threshold"]),
            "strict.tar": _mean(strict["tar"]),
            "strict.far": _mean(strict["far"]),
            "best.accuracy": _mean(best["accuracy"]),
            "best.threshold": _mean(best["threshold"]),
            "best.tar_at_far_1e-3": _mean(at_far["tar"]),
            "best.far_at_far_1e-3": _mean(at_far["far"]),
            **_pooled(scores, weights),
        }


def _mean(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    return np.where(known, values, 0).sum(axis=1) / known.sum(axis=1)


def _at_far_folds(score, scores: Scores, weights) -> dict[str, np.ndarray]:
    """The strict rule for each fold: (R, F) threshold, accuracy, tar, far."""
    same, fold, folds = scores.same, scores.fold, len(scores.fold_labels)
    out = {k: np.empty((len(weights), folds)) for k in ("threshold", "accuracy", "tar", "far")}
    falling = np.argsort(-score, kind="stable")
    for f in range(folds):
        trained = falling[(~same & (fold != f))[falling]]
        mass = np.cumsum(weights[:, trained], axis=1)
        k = np.floor(STRICT_FAR * mass[:, -1])
        # the k-th largest of the repeated scores; of the drawn ones the largest if k = 0
        place = (mass < np.maximum(k, 1)[:, None]).sum(axis=1)
        threshold = score[trained][np.minimum(place, len(trained) - 1)] + EPSILON * (k == 0)
        threshold[mass[:, -1] == 0] = np.nan
        held_out = np.flatnonzero(fold == f)
        w, genuine = weights[:, held_out], same[held_out]
        accepted = w * (score[held_out] >= threshold[:, None])
        total = w.sum(axis=1)
        true, false = accepted[:, genuine].sum(axis=1), accepted[:, ~genuine].sum(axis=1)
        n_genuine = w[:, genuine].sum(axis=1)
        absent = np.isnan(threshold)
        for key, value in (
            ("threshold", np.where(total > 0, threshold, np.nan)),
            ("accuracy", (true + total - n_genuine - false) / total),
            ("tar", true / n_genuine),
            ("far", false / (total - n_genuine)),
        ):
            out[key][:, f] = np.where(absent, np.nan, value)
    return out


def _best_folds(scores: Scores, weights) -> dict[str, np.ndarray]:
    """Best-threshold protocol: (R, F) threshold and accuracy, from weighted histograms."""
    folds, bins, rows = len(scores.fold_labels), len(DISTANCE_GRID) + 1, len(weights)
    first = np.searchsorted(DISTANCE_GRID, 2.0 - 2.0 * scores.best_score, side="right")
    cell = scores.fold * bins + first
    order = np.argsort(cell, kind="stable")
    cells, starts = np.unique(cell[order], return_index=True)
    gain = (weights * np.where(scores.same, 1.0, -1.0))[:, order]
    steps = np.zeros((rows, folds * bins))
    steps[:, cells] = np.add.reduceat(gain, starts, axis=1)
    correct = np.cumsum(steps.reshape(rows, folds, bins)[:, :, :-1], axis=2)  # (R, F, T)
    chosen = np.argmax(correct.sum(axis=1, keepdims=True) - correct, axis=2)
    rejected = _fold_sums(weights * ~scores.same, scores)  # right if nothing is accepted
    right = np.take_along_axis(correct, chosen[:, :, None], axis=2)[:, :, 0] + rejected
    total = _fold_sums(weights, scores)
    return {
        "threshold": np.where(total > 0, DISTANCE_GRID[chosen], np.nan),
        "accuracy": right / total,
    }


def _fold_sums(weights: np.ndarray, scores: Scores) -> np.ndarray:
    order = np.argsort(scores.fold, kind="stable")
    _, starts = np.unique(scores.fold[order], return_index=True)
    return np.add.reduceat(weights[:, order], starts, axis=1)  # (R, F)


def _pooled(scores: Scores, weights) -> dict[str, np.ndarray]:
    """TAR@FAR, AUC, EER over all pairs: cumulated weights at the distinct scores, falling."""
    order = np.argsort(-scores.score, kind="stable")
    falling, same = scores.score[order], scores.same[order]
    ends = np.flatnonzero(np.r_[falling[1:] != falling[:-1], True])  # last pair of each tie
    sorted_weights = weights[:, order]
    genuine = np.cumsum(sorted_weights * same, axis=1)[:, ends]  # (R, D)
    impostor = np.cumsum(sorted_weights * ~same, axis=1)[:, ends]
    n_genuine, n_impostor = genuine[:, -1:], impostor[:, -1:]
    figures = {}
    for far in FARS:
        k = np.floor(far * n_impostor)
        passed = (impostor <= k).sum(axis=1)  # thresholds that accept at most k impostors
        tar = np.where(passed > 0, _at(genuine, passed - 1), 0.0) / n_genuine[:, 0]
        figures[f"tar_at_far.{far_name(far)}"] = np.where(k[:, 0] > 0, tar, np.nan)
    before = np.diff(impostor, axis=1, prepend=0)
    area = (before * genuine).sum(axis=1) - 0.5 * (
        before * np.diff(genuine, axis=1, prepend=0)
    ).sum(axis=1)
    figures["auc"] = area / (n_genuine * n_impostor)[:, 0]
    figures["eer"] = _eer(impostor / n_impostor, genuine / n_genuine)
    return figures


def _at(values: np.ndarray, column: np.ndarray) -> np.ndarray:
    return np.take_along_axis(values, np.maximum(column, 0)[:, None], axis=1)[:, 0]


def _eer(far: np.ndarray, tar: np.ndarray) -> np.ndarray:
    """Crossing of false accepts and false rejects on each row's ROC polyline, (R, D) -> (R,)."""
    gap = far + tar - 1
    i = np.argmax(gap >= 0, axis=1)
    gap1, far1 = _at(gap, i), _at(far, i)
    gap0 = np.where(i > 0, _at(gap, i - 1), -1.0)  # the polyline starts at (0, 0)
    far0 = np.where(i > 0, _at(far, i - 1), 0.0)
    return far0 + gap0 / (gap0 - gap1) * (far1 - far0)


def bootstrap_figures(scores: Scores, replicates: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Each figure of each replicate, (replicates,)."""
    if replicates < 1:
        raise UserError(f"bootstrap = {replicates}: wanted at least 1 replicate (1000 is usual)")
    blocks = [
        weighted_figures(scores, w)
        for w in draw_weights(resampling_units(scores), replicates, seed)
    ]
    return {name: np.concatenate([b[name] for b in blocks]) for name in blocks[0]}


def percentile_interval(values: np.ndarray, level: float = LEVEL) -> list[float] | None:
    """[lo, hi] of the defined replicates (R,); None where fewer than half are defined."""
    known = values[np.isfinite(values)]
    if 2 * len(known) < len(values):
        return None
    tail = 100 * (1 - level) / 2
    return [float(v) for v in np.percentile(known, [tail, 100 - tail])]


def bootstrap_intervals(scores: Scores, replicates: int, seed: int = 0) -> dict:
    """`{"bootstrap": how it was done, "intervals": {figure: [lo, hi] or None}}`."""
    figures = bootstrap_figures(scores, replicates, seed)
    return {
        "bootstrap": resampling_units(scores).describe(replicates, seed),
        "intervals": {name: percentile_interval(v) for name, v in figures.items()},
    }
