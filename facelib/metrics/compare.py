"""Is one model better than another on the same pairs? Two paired answers from two scores files.

Exact McNemar counts the pairs that only one model decides correctly on the held-out folds; it takes
pairs as independent, which they are not (they share people), so its p-values are too small. The
paired identity bootstrap draws the same people for both models and gives the interval of each
difference; claim an order only where that interval leaves out 0.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

from facelib.errors import UserError
from facelib.metrics.bootstrap import (
    draw_weights,
    percentile_interval,
    resampling_units,
    weighted_figures,
)
from facelib.metrics.scores import Scores, load_scores
from facelib.metrics.verification import best_threshold_protocol, strict_protocol

IDENTIFYING = ("id1", "id2", "index1", "index2")


@dataclass(frozen=True)
class McNemar:
    """Pairs decided correctly by one model only, and the two-sided exact p-value."""

    only_a: int
    only_b: int
    p: float


def mcnemar(correct_a: np.ndarray, correct_b: np.ndarray) -> McNemar:
    """Exact McNemar test of two models on the same pairs.

    Args:
        correct_a: (P,) bool, model A decided pair p correctly.
        correct_b: (P,) bool.

    Under the null each pair that exactly one model gets right is a fair coin. Without such pairs
    the models cannot be told apart and p = 1.
    """
    only_a = int((correct_a & ~correct_b).sum())
    only_b = int((correct_b & ~correct_a).sum())
    discordant = only_a + only_b
    p = float(binomtest(only_a, discordant, 0.5).pvalue) if discordant else 1.0
    return McNemar(only_a, only_b, p)


def check_same_pairs(a: Scores, b: Scores) -> None:
    """Raise UserError unless both hold the same pairs in the same order and folds."""
    if len(a.score) != len(b.score):
        raise UserError(
            f"{len(a.score)} and {len(b.score)} pairs: wanted two models' scores of one benchmark"
        )
    for name in ("same", "fold", *IDENTIFYING):
        x, y = getattr(a, name), getattr(b, name)
        if x is not None and y is not None and not np.array_equal(x, y):
            raise UserError(
                f"the files differ in `{name}` at pair {int(np.argmax(x != y))}: "
                "wanted two models' scores of one benchmark, pairs in one order"
            )


def paired_bootstrap(
    a: Scores, b: Scores, replicates: int = 1000, seed: int = 0
) -> dict[str, dict | None]:
    """Difference A - B of every figure with its 95 % interval, both models on the same draws.

    Returns:
        figure -> {"difference", "interval": [lo, hi]}; None where a figure is not estimable.
    """
    check_same_pairs(a, b)
    if replicates < 1:
        raise UserError(f"bootstrap = {replicates}: wanted at least 1 replicate (1000 is usual)")
    ones = np.ones((1, len(a.score)))
    point = _differences(a, b, ones)
    units = resampling_units(a if a.id1 is not None else b)
    blocks = [_differences(a, b, w) for w in draw_weights(units, replicates, seed)]
    result: dict[str, dict | None] = {}
    for name, value in point.items():
        interval = percentile_interval(np.concatenate([block[name] for block in blocks]))
        known = np.isfinite(value[0])
        result[name] = {"difference": float(value[0]), "interval": interval} if known else None
    return result


def _differences(a: Scores, b: Scores, weights: np.ndarray) -> dict[str, np.ndarray]:
    of_a, of_b = weighted_figures(a, weights), weighted_figures(b, weights)
    return {name: of_a[name] - of_b[name] for name in of_a}


def compare_scores(a: Scores, b: Scores, bootstrap: int = 1000, seed: int = 0) -> dict:
    """JSON-able comparison: McNemar under both protocols and the paired differences A - B."""
    check_same_pairs(a, b)
    decisions = {
        "strict": [strict_protocol(s.score, s.same, s.fold).predicted for s in (a, b)],
        "best": [best_threshold_protocol(s.best_score, s.same, s.fold).predicted for s in (a, b)],
    }
    tests = {k: mcnemar(x == a.same, y == b.same) for k, (x, y) in decisions.items()}
    units = resampling_units(a if a.id1 is not None else b)
    return {
        "pairs": len(a.score),
        "mcnemar": {k: asdict(test) for k, test in tests.items()},
        "bootstrap": units.describe(bootstrap, seed),
        "differences": paired_bootstrap(a, b, bootstrap, seed),
    }


def compare_files(a: Path | str, b: Path | str, bootstrap: int = 1000, seed: int = 0) -> dict:
    """`compare_scores` of two scores files; the errors are those of `load_scores`."""
    scores = load_scores(a), load_scores(b)
    try:
        return compare_scores(*scores, bootstrap, seed)
    except UserError as error:
        raise UserError(f"{a}, {b}: {error}") from error
