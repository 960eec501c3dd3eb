"""Accuracy where the people of a pair were in training, and where they were not.

The decisions are the protocol's own (threshold from the other folds, all pairs), so overlapping and
disjoint pairs face one threshold. Groups of pairs, by their people who are also in training:

    overlapping   at least one (of an impostor pair) or the one person (of a genuine pair)
    both          both: the same as overlapping for genuine pairs
    disjoint      none

Accuracy of a group is the mean of its genuine and impostor shares, so that groups with unequal
numbers of either can be compared. Intervals: over people and with thresholds that move
(`metrics.intervals`), of accuracies only: a share of one kind rises and falls with its threshold.
"""

from collections.abc import Collection
from itertools import product

import numpy as np
import pandas as pd

from facelib.errors import UserError
from facelib.metrics import intervals as iv
from facelib.metrics.compare import check_same_pairs
from facelib.metrics.scores import Scores
from facelib.metrics.verification import best_threshold_protocol, strict_protocol

GROUPS = ("overlapping", "both", "disjoint")
KINDS = ("genuine", "impostor", "accuracy")
PROTOCOLS = ("best threshold", "strict")
DRAWS = 1000  # of thresholds


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
    """Shares decided correctly, for each protocol, kind and group; accuracies with 95 % intervals.

    Returns:
        Frame with protocol, kind, group, pairs, people, value, lo, hi.
    """
    groups, draws = pair_groups(scores, in_training), iv.Draws(scores, DRAWS, 0)
    found = {}
    for key, (shares, one) in _decided(scores, groups, draws).items():
        people = _people(scores, groups[key[1]])
        found[key] = shares, one and iv.interval(one, draws, people)
    return _table(scores, groups, found)


def inflation(with_overlap: Scores, clean: Scores, in_training: Collection[int]) -> pd.DataFrame:
    """What training on benchmark people adds, in accuracy: the same pairs, two runs.

    Groups: as above (run with overlap − clean run), and "difference": overlapping − disjoint, the
    difference in differences. Disjoint pairs carry what the runs differ in otherwise.

    Returns:
        Frame with protocol, kind, group, pairs, people, value, lo, hi.
    """
    check_same_pairs(with_overlap, clean)
    groups = pair_groups(with_overlap, in_training)
    draws = iv.Draws(with_overlap, DRAWS, 0, beside=with_overlap)
    a, b = (_decided(scores, groups, draws) for scores in (with_overlap, clean))
    for found, protocol in product((a, b), PROTOCOLS):
        (over, one), (none, other) = (found[protocol, g] for g in ("overlapping", "disjoint"))
        found[protocol, "difference"] = over - none, one and other and one.minus(other)
    gains = {}
    for key, (shares, one) in a.items():
        before, other = b[key]
        gains[key] = shares - before, one and other and iv.difference_interval(one, other, draws)
    return _table(with_overlap, groups, gains)


def _decided(scores: Scores, groups: dict[str, np.ndarray], draws: iv.Draws) -> dict[tuple, tuple]:
    """(protocol, group) -> shares (3,) by `KINDS`, and how the accuracy varies if that is known."""
    same, found = scores.same, {}
    best = best_threshold_protocol(scores.best_score, same, scores.fold)
    strict = strict_protocol(scores.score, same, scores.fold)
    shifts = draws.strict_shifts("score", scores)
    for protocol, result in zip(PROTOCOLS, (best, strict), strict=True):
        right = result.predicted == same
        for group, mask in groups.items():
            sides = mask & same, mask & ~same
            shares = [right[side].mean() if side.any() else np.nan for side in sides]
            weight = sum(side / (2 * max(side.sum(), 1)) for side in sides)
            value, psi, one = np.mean(shares), iv.influence(right, same, weight), None
            if np.isfinite(value) and result is best:
                one = iv.Estimate(value, psi, choice=iv.cost_of_choice(scores, best, weight))
            elif np.isfinite(value) and shifts is not None:
                genuine = scores.score[sides[0]]
                one = iv.moving(value, genuine, strict.threshold, psi, shifts, tar=1 / 2)
            found[protocol, group] = np.array([*shares, value]), one
    return found


def _people(scores: Scores, mask: np.ndarray) -> int:
    return len(np.unique(np.r_[scores.id1[mask], scores.id2[mask]]))


def _table(scores: Scores, groups: dict[str, np.ndarray], found: dict[tuple, tuple]):
    """Rows of (protocol, group) -> shares (3,) and the limits of the accuracy or None."""
    rows = []
    for protocol, (place, kind) in product(PROTOCOLS, enumerate(KINDS)):
        for group in dict.fromkeys(group for _, group in found):
            mask = groups.get(group, np.ones(len(scores.same), bool))
            mask = mask & {"genuine": scores.same, "impostor": ~scores.same}.get(kind, True)
            row = {"protocol": protocol, "kind": kind, "group": group, "pairs": int(mask.sum())}
            shares, limits = found[protocol, group]
            lo, hi = limits if limits and kind == "accuracy" else (np.nan, np.nan)
            row |= {"people": _people(scores, mask), "value": shares[place], "lo": lo, "hi": hi}
            rows.append(row)
    return pd.DataFrame(rows)
