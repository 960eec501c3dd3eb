"""Accuracy where the people of a pair were in training, and where they were not.

The decisions are the protocol's own (threshold from the other folds, all pairs), so overlapping and
disjoint pairs face one threshold. Groups of pairs, by their people who are also in training:

    overlapping   at least one (of an impostor pair) or the one person (of a genuine pair)
    both          both: the same as overlapping for genuine pairs
    disjoint      none

Accuracy of a group is the mean of its genuine and impostor shares, so that groups with unequal
numbers of either can be compared. Intervals: over people (`metrics.intervals`), decisions held
fixed, which leaves out that the threshold would move too.
"""

from collections.abc import Collection

import numpy as np
import pandas as pd

from facelib.errors import UserError
from facelib.metrics import intervals as iv
from facelib.metrics.compare import check_same_pairs
from facelib.metrics.scores import Scores
from facelib.metrics.verification import best_threshold_protocol, strict_protocol

GROUPS = ("overlapping", "both", "disjoint")
KINDS = ("genuine", "impostor", "accuracy")


def decided_correctly(scores: Scores) -> dict[str, np.ndarray]:
    """Protocol -> (P,) bool: was the pair decided correctly while its fold was held out?"""
    predicted = {
        "best threshold": best_threshold_protocol(scores.best_score, scores.same, scores.fold),
        "strict": strict_protocol(scores.score, scores.same, scores.fold),
    }
    return {name: found.predicted == scores.same for name, found in predicted.items()}


def pair_groups(scores: Scores, in_training: Collection[int]) -> dict[str, np.ndarray]:
    """Group -> (P,) bool. `in_training`: benchmark identities that training has seen.

    Raises:
        UserError: scores without identities.
    """
    if scores.id1 is None or scores.id2 is None:
        raise UserError(
            "scores without id1 and id2: evaluate the run again: python -m facelib eval RUN --force"
        )
    seen = np.array(sorted(in_training))
    first, second = np.isin(scores.id1, seen), np.isin(scores.id2, seen)
    return {"overlapping": first | second, "both": first & second, "disjoint": ~(first | second)}


def accuracy_by_overlap(scores: Scores, in_training: Collection[int]) -> pd.DataFrame:
    """Shares decided correctly with 95 % intervals, for each protocol, kind and group.

    Returns:
        Frame with protocol, kind, group, pairs, people, value, lo, hi.
    """
    return _table(scores, decided_correctly(scores), in_training)


def inflation(with_overlap: Scores, clean: Scores, in_training: Collection[int]) -> pd.DataFrame:
    """What training on benchmark people adds, in accuracy: the same pairs, two runs.

    Groups: as above (run with overlap − clean run), and "difference": overlapping − disjoint, the
    difference in differences. Disjoint pairs carry what the runs differ in otherwise.

    Returns:
        Frame with protocol, kind, group, pairs, people, value, lo, hi.
    """
    check_same_pairs(with_overlap, clean)
    a, b = decided_correctly(with_overlap), decided_correctly(clean)
    gains = {name: a[name].astype(float) - b[name] for name in a}
    return _table(with_overlap, gains, in_training, difference=True)


def _table(scores, values, in_training, difference=False):
    groups = pair_groups(scores, in_training)
    people = iv.People(scores.id1, scores.id2, len(scores.score))
    rows = []
    for protocol, value in values.items():
        parts = {group: _parts(value, mask, scores.same) for group, mask in groups.items()}
        if difference:
            over, none = parts["overlapping"], parts["disjoint"]
            parts["difference"] = {
                kind: tuple(x - y for x, y in zip(over[kind], none[kind])) for kind in KINDS
            }
        for kind in KINDS:
            for group, found in parts.items():
                mask = groups.get(group, np.ones(len(scores.same), bool))
                mask = mask & {"genuine": scores.same, "impostor": ~scores.same}.get(kind, True)
                count = len(np.unique(np.r_[scores.id1[mask], scores.id2[mask]]))
                row = {"protocol": protocol, "kind": kind, "group": group, "pairs": int(mask.sum())}
                mean, psi = found[kind]
                lo, hi = np.nan, np.nan
                if np.isfinite(mean):
                    reach = iv.Z * np.sqrt(people.variance(psi))
                    lo, hi = mean - reach, mean + reach
                    if not difference and value.dtype == bool:
                        lo, hi = iv.wilson(mean, people.variance(psi), count)
                rows.append(row | {"people": count, "value": mean, "lo": lo, "hi": hi})
    return pd.DataFrame(rows)


def _parts(value: np.ndarray, mask: np.ndarray, same: np.ndarray) -> dict:
    """Kind -> mean of a value (P,) over the pairs of a group, and each pair's influence on it."""
    found = {}
    for kind, rows in (("genuine", mask & same), ("impostor", mask & ~same)):
        count = rows.sum()
        mean = value[rows].mean() if count else np.nan
        found[kind] = mean, np.where(rows, value - mean, 0) / max(count, 1)
    (a, first), (b, second) = found.values()
    return found | {"accuracy": ((a + b) / 2, (first + second) / 2)}
