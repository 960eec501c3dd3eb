"""Which pairs of rendered people a benchmark compares."""

from itertools import product

import numpy as np

FOLDS, PAIRS = 10, 350  # folds of a benchmark; genuine and impostor pairs in each


def choose_pairs(
    rng: np.random.Generator, identities: int, first: range, second: range
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs in folds of disjoint people: in each fold first the genuine, then the impostors.

    Up to `PAIRS` of either kind in each fold, equally many everywhere; no pair occurs twice, in
    either order.

    Returns:
        pairs (P, 2, 2): (identity, picture) of both sides; same (P,) bool; fold (P,) 0-based.
    """
    drawn = []
    for people in np.array_split(np.arange(identities), FOLDS):
        sides = product(people, people, first, second)
        everyone = [((a, m), (b, n)) for a, b, m, n in sides if first != second or (a, m) < (b, n)]
        genuine = [pair for pair in everyone if pair[0][0] == pair[1][0]]
        impostor = [pair for pair in everyone if pair[0][0] != pair[1][0]]
        drawn.append((rng.permutation(genuine), rng.permutation(impostor)))
    count = min(PAIRS, *(len(kind) for fold in drawn for kind in fold))
    pairs = np.concatenate([kind[:count] for fold in drawn for kind in fold])
    same = np.tile(np.repeat([True, False], count), FOLDS)
    return pairs, same, np.repeat(np.arange(FOLDS), 2 * count)
