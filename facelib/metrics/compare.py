"""Is one model better than another on the same pairs? Two paired answers from two scores files.

Exact McNemar counts the pairs that only one model decides correctly on the held-out folds; it takes
pairs as independent, which they are not (they share people), so its p-values are too small. The
intervals of the paired differences know who shares a pair (`intervals`); claim an order only where
they leave out 0.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

from facelib.errors import UserError
from facelib.metrics import intervals as iv
from facelib.metrics.scores import Scores, load_scores
from facelib.metrics.verification import Report, verify_scores

PROTOCOLS = ("strict", "best")
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


def report_differences(a: Report, b: Report, replicates: int, seed: int = 0) -> dict:
    """Difference A - B of every figure of two reports on the same pairs, with its 95 % interval.

    Returns:
        figure -> {"difference", "interval": [lo, hi]}; None where a figure is not estimable.
    """
    people = a.scores if a.scores.id1 is not None else b.scores
    draws = iv.Draws(people, replicates, seed, beside=a.scores)
    first, second = a.estimates(draws), b.estimates(draws)
    found: dict[str, dict | None] = {}
    for (name, x), y in zip(a.figures().items(), b.figures().values(), strict=True):
        limits = None
        if name in first and name in second:
            limits = iv.difference_interval(first[name], second[name], draws)
        found[name] = None if x is None or y is None else {"difference": x - y, "interval": limits}
    accuracy, tar = found["strict.accuracy"], found["strict.tar"]
    accuracy["interval"] = iv.strict_accuracy(
        a.scores, accuracy["difference"], tar["difference"], tar["interval"]
    )
    return found


def compare_scores(a: Scores, b: Scores, bootstrap: int = 1000, seed: int = 0) -> dict:
    """JSON-able comparison: McNemar under both protocols and the paired differences A - B."""
    check_same_pairs(a, b)
    one, other = verify_scores(a), verify_scores(b)
    right = {k: [getattr(r, k).predicted == a.same for r in (one, other)] for k in PROTOCOLS}
    return {
        "pairs": len(a.score),
        "mcnemar": {k: asdict(mcnemar(*sides)) for k, sides in right.items()},
        "bootstrap": iv.Draws(a if a.id1 is not None else b, bootstrap, seed).describe(),
        "differences": report_differences(one, other, bootstrap, seed),
    }


def compare_files(a: Path | str, b: Path | str, bootstrap: int = 1000) -> dict:
    """`compare_scores` of two scores files; the errors are those of `load_scores`."""
    scores = load_scores(a), load_scores(b)
    try:
        return compare_scores(*scores, bootstrap)
    except UserError as error:
        raise UserError(f"{a}, {b}: {error}") from error
