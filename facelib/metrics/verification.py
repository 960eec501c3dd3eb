"""1:1 face verification, from scores alone: two protocols side by side, and what needs no folds.

Strict. Score: cosine of f(x). Threshold from the other folds: the k-th largest impostor cosine,
k = floor(0.001 x impostors), or the largest + 1e-6 if k = 0. Same person if cos >= threshold.

Best threshold (InsightFace). Score: cosine of f(x) + f(flip x), where the file has it. Threshold
from the other folds: the first of `arange(0, 4, 0.01)` with the highest accuracy, on squared L2
distances 2 - 2 cos. Same person if distance < threshold.

The strict threshold hangs on the few largest impostor scores, so it is noisy: its spread over the
folds is part of the result. A strict accuracy is about (TAR + TNR) / 2 with TNR near 1, which
pushes weak models towards 0.5; compare it only with other strict accuracies.
"""

from dataclasses import dataclass, replace

import numpy as np

from facelib.metrics import intervals as iv
from facelib.metrics.caveats import interval_warnings, score_warnings
from facelib.metrics.scores import (
    DISTANCE_GRID,
    EPSILON,
    FARS,
    STRICT_FAR,
    Scores,
    far_name,
    make_scores,
)


@dataclass(frozen=True, eq=False)
class StrictResult:
    """Strict protocol, F folds in the order of their labels; rates are fractions of pairs.

    `tar` (`far`) of a fold without genuine (impostor) pairs is NaN and left out of the mean.
    """

    threshold: np.ndarray  # (F,) cosine
    accuracy: np.ndarray  # (F,)
    tar: np.ndarray  # (F,)
    far: np.ndarray  # (F,)
    predicted: np.ndarray  # (P,) bool: held-out decision "same"


@dataclass(frozen=True, eq=False)
class BestResult:
    """Best-threshold protocol, F folds; `threshold` is a squared L2 distance.

    `at_far`: the strict rule (FAR 1e-3, order statistics) on the scores of this protocol.
    `in_sample`: decisions at the best threshold of all folds, too good by its choice.
    """

    threshold: np.ndarray  # (F,)
    accuracy: np.ndarray  # (F,)
    at_far: StrictResult
    predicted: np.ndarray  # (P,) bool: held-out decision "same"
    in_sample: np.ndarray  # (P,) bool


def fold_mean(values: np.ndarray) -> float:
    """Mean over folds of the defined values (at least one fold has a pair of each kind)."""
    return float(np.nanmean(values))


def strict_threshold(impostors: np.ndarray, far: float = STRICT_FAR) -> float:
    """k-th largest of the impostor scores (n,), k = floor(far * n); the largest + 1e-6 if k = 0."""
    return _kth_largest(np.sort(impostors)[::-1], far)


def _kth_largest(falling: np.ndarray, far: float) -> float:
    """`strict_threshold` of impostor scores (n,) that fall already."""
    k = int(np.floor(far * len(falling)))
    return float(falling[k - 1] if k else falling[0] + EPSILON)


def strict_protocol(score: np.ndarray, same: np.ndarray, fold: np.ndarray) -> StrictResult:
    """Threshold at FAR 1e-3 on the other folds, decisions on the held-out fold.

    Args:
        score: (P,) cosines.
        same: (P,) bool.
        fold: (P,) 0..F-1.

    A FAR finer than 1/impostors gives k = 0: a threshold just above every training impostor.
    Ties with the threshold count as accepted, so the training FAR may exceed 1e-3.
    """
    folds = int(fold.max()) + 1
    impostors, owner = score[~same], fold[~same]
    order = np.argsort(impostors)[::-1]  # once, for all folds
    falling, owner = impostors[order], owner[order]
    threshold = np.array([_kth_largest(falling[owner != f], STRICT_FAR) for f in range(folds)])
    predicted = score >= threshold[fold]
    tar, far = _rates_per_fold(predicted, same, fold, folds)
    accuracy = _count(predicted == same, fold, folds) / np.bincount(fold)
    return StrictResult(threshold, accuracy, tar, far, predicted)


def best_threshold_protocol(score: np.ndarray, same: np.ndarray, fold: np.ndarray) -> BestResult:
    """Threshold of the highest accuracy on the other folds, decisions on the held-out fold.

    Args as in `strict_protocol`. The same numbers as InsightFace's `calculate_roc`, counted once:
    a pair is accepted by every grid threshold above its distance, so one histogram a fold and
    class replaces the loop over thresholds. Of equally accurate thresholds the smallest wins.
    """
    folds, bins = int(fold.max()) + 1, len(DISTANCE_GRID) + 1
    distance = 2.0 - 2.0 * score
    first = np.searchsorted(DISTANCE_GRID, distance, side="right")  # first threshold > distance
    gain = np.where(same, 1, -1)  # an accepted pair is right or wrong, against accepting none
    steps = np.bincount(fold * bins + first, weights=gain, minlength=folds * bins)
    correct = np.cumsum(steps.reshape(folds, bins)[:, :-1], axis=1)  # (F, T), up to a constant
    together = correct.sum(axis=0)
    threshold = DISTANCE_GRID[np.argmax(together - correct, axis=1)]
    predicted = distance < threshold[fold]
    accuracy = _count(predicted == same, fold, folds) / np.bincount(fold)
    in_sample = distance < DISTANCE_GRID[np.argmax(together)]
    at_far = strict_protocol(score, same, fold)
    return BestResult(threshold, accuracy, at_far, predicted, in_sample)


def _count(chosen: np.ndarray, fold: np.ndarray, folds: int) -> np.ndarray:
    return np.bincount(fold[chosen], minlength=folds)


def _rates_per_fold(predicted, same, fold, folds) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(invalid="ignore"):  # 0/0: the rate of an absent class is not a number
        tar = _count(predicted & same, fold, folds) / _count(same, fold, folds)
        far = _count(predicted & ~same, fold, folds) / _count(~same, fold, folds)
    return tar, far


def tar_at_far(score: np.ndarray, same: np.ndarray, fars=FARS) -> dict[float, float | None]:
    """Highest TAR at which at most `far` of all impostors are accepted, by order statistics.

    With n impostors, floor(far * n) may pass: accepted is what exceeds the next one, so ties with
    it are refused. None ("not estimable") where far * n < 1. No interpolation.
    """
    impostors = np.sort(score[~same])[::-1]
    genuine = np.sort(score[same])
    result: dict[float, float | None] = {}
    for far in fars:
        k = int(np.floor(far * len(impostors)))
        if k >= len(impostors):
            result[far] = 1.0
        elif k == 0:
            result[far] = None
        else:
            accepted = len(genuine) - np.searchsorted(genuine, impostors[k], side="right")
            result[far] = float(accepted / len(genuine))
    return result


def auc(score: np.ndarray, same: np.ndarray) -> float:
    """Probability that a genuine pair scores above an impostor pair, ties counted half."""
    impostors = np.sort(score[~same])
    genuine = np.sort(score[same])  # searches of neighbours are fast
    below = np.searchsorted(impostors, genuine, side="left").sum(dtype=np.int64)
    not_above = np.searchsorted(impostors, genuine, side="right").sum(dtype=np.int64)
    return float((below + not_above) / (2 * len(impostors) * len(genuine)))


def roc(score: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ROC points (far, tar, threshold), each (D + 1,): refuse all, then every distinct score.

    A threshold accepts cos >= threshold; thresholds fall, from infinity.
    """
    order = np.argsort(score)[::-1]
    falling, genuine = score[order], np.cumsum(same[order])
    last = np.flatnonzero(np.r_[falling[1:] != falling[:-1], True])  # of each distinct score
    accepted = genuine[last]
    far = (last + 1 - accepted) / (len(score) - genuine[-1])
    return np.r_[0.0, far], np.r_[0.0, accepted / genuine[-1]], np.r_[np.inf, falling[last]]


def eer(score: np.ndarray, same: np.ndarray) -> float:
    """Rate at which false accepts equal false rejects, linear between the ROC points."""
    far, tar, _ = roc(score, same)
    gap = far - (1 - tar)  # rises from -1 to 1
    i = int(np.argmax(gap >= 0))
    part = gap[i - 1] / (gap[i - 1] - gap[i])
    return float(far[i - 1] + part * (far[i] - far[i - 1]))


@dataclass(frozen=True, eq=False)
class Report:
    """All verification figures of one scores file; `intervals` maps a figure's name to [lo, hi]."""

    scores: Scores
    strict: StrictResult
    best: BestResult
    tar_at_far: dict[float, float | None]
    auc: float
    eer: float
    warnings: tuple[str, ...]
    bootstrap: dict | None = None
    intervals: dict[str, list[float] | None] | None = None

    def figures(self) -> dict[str, float | None]:
        """All figures under the names that intervals use: "best.accuracy", "tar_at_far.1e-3" …"""
        found = {"auc": self.auc, "eer": self.eer}
        found |= {f"strict.{k}": v for k, v in self._strict().items()}
        found |= {f"best.{k}": v for k, v in self._best().items()}
        found |= {f"tar_at_far.{far_name(far)}": v for far, v in self.tar_at_far.items()}
        return {k: v for k, v in found.items() if not k.endswith(("std", "folds"))}

    def estimates(self, draws: iv.Draws) -> dict[str, iv.Estimate]:
        """The figures that have intervals of their own, and how each varies."""
        return iv.estimates(self.scores, self.strict, self.best, self.figures(), draws)

    def to_dict(self) -> dict:
        """JSON-able figures; undefined rates are null, `std` is the population's over folds."""
        same = self.scores.same
        result = {
            "pairs": len(same),
            "genuine": int(same.sum()),
            "impostors": int((~same).sum()),
            "folds": len(self.scores.fold_labels),
            "flip": self.scores.score_flip is not None,
            "strict": self._strict(),
            "best": self._best(),
            "tar_at_far": {far_name(far): v for far, v in self.tar_at_far.items()},
            "auc": self.auc,
            "eer": self.eer,
            "warnings": list(self.warnings),
        }
        if self.bootstrap is not None:
            result |= {"bootstrap": self.bootstrap, "intervals": self.intervals}
        return result

    def _strict(self) -> dict:
        rates = {"tar": self.strict.tar, "far": self.strict.far}
        return self._protocol(self.strict, rates, rates)

    def _best(self) -> dict:
        at_far = self.best.at_far
        return self._protocol(
            self.best, {"tar_at_far_1e-3": at_far.tar, "far_at_far_1e-3": at_far.far}, {}
        )

    def _protocol(self, r: StrictResult | BestResult, rates: dict, of_folds: dict) -> dict:
        """Means over folds, then the folds; `of_folds`: rates that are told of each fold too."""
        columns = {"threshold": r.threshold, "accuracy": r.accuracy, **of_folds}
        return {
            "accuracy": fold_mean(r.accuracy),
            "std": float(r.accuracy.std()),
            "threshold": float(r.threshold.mean()),
            "threshold_std": float(r.threshold.std()),
            **{name: fold_mean(values) for name, values in rates.items()},
            "folds": [
                {"fold": int(label)}
                | {k: None if np.isnan(v[f]) else float(v[f]) for k, v in columns.items()}
                for f, label in enumerate(self.scores.fold_labels)
            ],
        }


def verify_scores(scores: Scores, bootstrap: int = 0, seed: int = 0) -> Report:
    """All figures of checked scores; with `bootstrap` replicates also 95 % intervals."""
    score, same, fold = scores.score, scores.same, scores.fold
    area = auc(score, same)
    report = Report(
        scores=scores,
        strict=strict_protocol(score, same, fold),
        best=best_threshold_protocol(scores.best_score, same, fold),
        tar_at_far=tar_at_far(score, same),
        auc=area,
        eer=eer(score, same),
        warnings=tuple(score_warnings(scores, area)),
    )
    if not bootstrap:
        return report
    draws, figures = iv.Draws(scores, bootstrap, seed), report.figures()
    found = dict.fromkeys(figures) | {
        name: iv.interval(one, draws) for name, one in report.estimates(draws).items()
    }
    found["strict.accuracy"] = iv.strict_accuracy(
        scores, figures["strict.accuracy"], figures["strict.tar"], found["strict.tar"]
    )
    report = replace(report, bootstrap=draws.describe(), intervals=found)
    return replace(report, warnings=(*report.warnings, *interval_warnings(report.to_dict())))


def verify(
    score, same, fold=None, score_flip=None, id1=None, id2=None, bootstrap=0, seed=0
) -> Report:
    """Check raw arrays (see `facelib.metrics.scores`) and compute all figures from them.

    AUC, EER and the pooled TAR@FAR are of `score`; the best-threshold protocol and its own TAR@FAR
    take `score_flip` where given.

    Raises:
        UserError: see `make_scores`.
    """
    scores = make_scores(score, same, fold, score_flip=score_flip, id1=id1, id2=id2)
    return verify_scores(scores, bootstrap, seed)
