"""Accuracy where the people of a pair were in training, and where they were not.

The decisions are the protocol's own (threshold from the other folds, all pairs), so overlapping and
disjoint pairs face one threshold. Groups of pairs, by their people who are also in training:

    overlapping   at least one (of an impostor pair) or the one person (of a genuine pair)
    both          both: the same as overlapping for genuine pairs
    disjoint      none

Accuracy of a group is the mean of its genuine and impostor shares, so that groups with unequal
numbers of either can be compared. Intervals: identity bootstrap, decisions held fixed, which
leaves out that the threshold would move too.
"""

from collections.abc import Collection

import numpy as np
import pandas as pd

from facelib.errors import UserError
from facelib.metrics.bootstrap import draw_weights, percentile_interval, resampling_units
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
            "scores without id1 and id2: evaluate the run again (python -m facelib eval)"
        )
    seen = np.array(sorted(in_training))
    first, second = np.isin(scores.id1, seen), np.isin(scores.id2, seen)
    return {"overlapping": first | second, "both": first & second, "disjoint": ~(first | second)}


def accuracy_by_overlap(
    scores: Scores, in_training: Collection[int], replicates: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Shares decided correctly with 95 % intervals, for each protocol, kind and group.

    Returns:
        Frame with protocol, kind, group, pairs, people, value, lo, hi.
    """
    return _table(scores, decided_correctly(scores), in_training, replicates, seed)


def inflation(
    with_overlap: Scores, clean: Scores, in_training: Collection[int],
    replicates: int = 1000, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """What training on benchmark people adds, in accuracy: the same pairs, two runs.

    Groups: as above (run with overlap − clean run), and "difference": overlapping − disjoint, the
    difference in differences. Disjoint pairs carry what the runs differ in otherwise.

    Returns:
        Frame with protocol, kind, group, pairs, people, value, lo, hi.
    """
    check_same_pairs(with_overlap, clean)
    a, b = decided_correctly(with_overlap), decided_correctly(clean)
    gains = {name: a[name].astype(float) - b[name] for name in a}
    return _table(with_overlap, gains, in_training, replicates, seed, difference=True)


def _table(scores, values, in_training, replicates: int, seed: int, difference=False):
    groups = pair_groups(scores, in_training)
    units = resampling_units(scores)
    weights = np.concatenate(
        [np.ones((1, len(scores.score))), *draw_weights(units, replicates, seed)]
    )
    rows = []
    for protocol, value in values.items():
        means = {group: _means(weights, value, mask, scores.same) for group, mask in groups.items()}
        if difference:
            over, none = means["overlapping"], means["disjoint"]
            means["difference"] = {kind: over[kind] - none[kind] for kind in KINDS}
        for kind in KINDS:
            for group, found in means.items():
                mask = groups.get(group, np.ones(len(scores.same), bool))
                mask = mask & {"genuine": scores.same, "impostor": ~scores.same}.get(kind, True)
                people = len(np.unique(np.r_[scores.id1[mask], scores.id2[mask]]))
                row = {"protocol": protocol, "kind": kind, "group": group, "pairs": int(mask.sum())}
                lo, hi = percentile_interval(found[kind][1:]) or (np.nan, np.nan)
                rows.append(row | {"people": people, "value": found[kind][0], "lo": lo, "hi": hi})
    return pd.DataFrame(rows)


def _means(weights: np.ndarray, value: np.ndarray, mask: np.ndarray, same: np.ndarray) -> dict:
    """Kind -> weighted means (1 + R,) of a value (P,) over the pairs of a group."""
    found = {}
    with np.errstate(invalid="ignore", divide="ignore"):  # a group that a replicate does not hold
        for kind, rows in (("genuine", mask & same), ("impostor", mask & ~same)):
            found[kind] = (weights[:, rows] @ value[rows].astype(float)) / weights[:, rows].sum(1)
    return found | {"accuracy": (found["genuine"] + found["impostor"]) / 2}
