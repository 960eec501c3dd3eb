"""What a reader of verification figures must be warned of: one sentence each."""

from collections.abc import Iterator

import numpy as np

from facelib.metrics.scores import STRICT_FAR, Scores

FEW = 3  # a threshold that fewer impostor pairs decide is warned of
TOLERANCE = 1e-3  # of cosines that were computed with few digits
SURE = 3  # standard deviations of the AUC of scores that tell nothing


def score_warnings(scores: Scores, auc: float) -> Iterator[str]:
    """Of scores, pairs and folds.

    Args:
        auc: of `scores.score`.
    """
    if max(np.abs(scores.score).max(), np.abs(scores.best_score).max()) > 1 + TOLERANCE:
        yield "scores outside [-1, 1] are no cosines: the best-threshold grid misses them"
    genuine, impostors = int(scores.same.sum()), int((~scores.same).sum())
    spread = np.sqrt((genuine + impostors + 1) / (12 * genuine * impostors))
    if auc < 0.5 - SURE * spread:
        yield (
            f"genuine pairs score lower than impostor pairs (AUC {auc:.3f}): are these distances, "
            "or is `same` inverted?"
        )
    yield from _folds_of_one_kind(scores)
    if repeated := _repeated_pairs(scores):
        yield f"{repeated} of {len(scores.same)} pairs are there before: each counts again"
    folds = len(scores.fold_labels)
    trained = impostors - int(np.bincount(scores.fold[~scores.same], minlength=folds).max())
    decides = int(np.floor(STRICT_FAR * trained))
    if decides < 1:
        above = "the strict threshold lies above all"
        yield f"{impostors} impostor pairs cannot show FAR 1e-3: {above}"
    elif decides < FEW:
        yield (
            f"the strict threshold hangs on the {decides} highest of {trained} impostor scores: "
            "read its accuracy with its spread over folds"
        )


def interval_warnings(figures: dict) -> Iterator[str]:
    """Of intervals on one side of their estimate, in `Report.to_dict()`."""
    one_sided = []
    for name, interval in (figures.get("intervals") or {}).items():
        group, _, key = name.partition(".")
        value = figures.get(group)
        value = value.get(key) if key and value is not None else value
        if value is not None and interval and not interval[0] < value < interval[1]:
            one_sided.append(name)
    if one_sided:
        yield f"one-sided intervals, the estimate is at or beyond an end: {', '.join(one_sided)}"


def _folds_of_one_kind(scores: Scores) -> Iterator[str]:
    folds = len(scores.fold_labels)
    for kind, name, rate in ((scores.same, "genuine", "TAR"), (~scores.same, "impostor", "FAR")):
        lacking = scores.fold_labels[np.bincount(scores.fold[kind], minlength=folds) == 0]
        if len(lacking):
            some = ", ".join(map(str, lacking[:5])) + (", ..." if len(lacking) > 5 else "")
            yield f"no {name} pair in fold {some}: its {rate} is left out of the mean"


def _repeated_pairs(scores: Scores) -> int:
    """Pairs whose two images were a pair before, in any order; 0 where images are not known."""
    if scores.index1 is None or scores.index2 is None:
        return 0
    pairs = np.sort(np.stack([scores.index1, scores.index2], axis=1), axis=1)
    return len(pairs) - len(np.unique(pairs, axis=0))
