"""Verification pairs drawn from labelled images: seeded, folds that share no person."""

from math import comb
from pathlib import Path

import numpy as np

from facelib.errors import UserError
from facelib.formats.trees import list_identities
from facelib.prepare.lists import Pair

FOLDS = 10
MOST = 4  # times its even share that a person, or a couple, may have


def draw_pairs(
    label: np.ndarray, pairs: int, seed: int = 0, folds: int = FOLDS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Half genuine, half impostor pairs; no pair twice, and every person in one fold only.

    People, and in impostor pairs couples of people, take turns, up to `MOST` times an even share:
    one with many images does not fill the list. Where a fold has too few different pairs of a
    kind, it gets those there are.

    Args:
        label: (N,) identity of each image.
        pairs: wanted in all, an even share per fold and kind.
        folds: at most; fewer where not every fold would have two people with two images.

    Returns:
        index1, index2: int64 (P,), rows of `label`; fold: int64 (P,), in order.

    Raises:
        UserError: fewer than two folds are possible, or fewer pairs than two a fold are wanted.
    """
    rng = np.random.default_rng(seed)
    images = [np.flatnonzero(label == one) for one in np.unique(label)]
    images = [images[i] for i in rng.permutation(len(images))]
    images.sort(key=lambda rows: len(rows) < 2)  # stable: those with a genuine pair come first
    several = sum(len(rows) > 1 for rows in images)
    folds = min(folds, several // 2)
    if folds < 2:
        raise UserError(
            f"{several} people with two or more good images: wanted at least 4, two in each of "
            "two folds, since a fold's threshold comes from the people of the others"
        )
    if pairs < 2 * folds:
        raise UserError(f"{pairs} pairs: wanted at least {2 * folds}, two in each of {folds} folds")
    found = []
    for fold in range(folds):
        own, count = images[fold::folds], pairs // (2 * folds)
        for drawn in (_genuine(own, count, rng), _impostors(own, count, rng)):
            found.append(np.column_stack([drawn, np.full(len(drawn), fold)]))
    return tuple(np.concatenate(found).T)


def draw_from_folder(images_dir: Path, pairs: int, folds: int = FOLDS, seed: int = 0) -> list[Pair]:
    """`draw_pairs` of the images in `IMAGES/NAME/*.jpg`: exactly as many as wanted.

    Args:
        pairs: a multiple of 2 · folds, half of them genuine.

    Raises:
        UserError: no such folder, or more pairs than its images give; says how many they give.
    """
    least = max(2, folds)
    step = 2 * least
    if folds < 2 or pairs < 1 or pairs % step:
        raise UserError(
            f"pairs={pairs}, folds={folds}: wanted two folds or more and a multiple of {step} pairs"
            " (as many genuine as impostor ones in each fold), e.g."
            f" --pairs {max(1, pairs // step) * step} --folds {least}"
        )
    people = list(list_identities(images_dir).values())
    paths = [path for own in people for path in own]
    label = np.repeat(np.arange(len(people)), [len(own) for own in people])
    most = pairs // step
    while most:  # with fewer pairs in all, fewer may be of one person: asked again
        a, b, fold = draw_pairs(label, most * step, seed, folds)
        same = label[a] == label[b]
        each = min(int(((fold == k) & (same == kind)).sum())
                   for k in range(folds) for kind in (True, False))  # fmt: skip
        if each == most:
            break
        most = each
    if most < pairs // step:
        way = f"use --pairs {step * most} or fewer" if most else "use fewer --folds, or more people"
        raise UserError(
            f"{images_dir}: {len(people)} people in {folds} folds give at most {most} genuine and"
            f" as many impostor pairs in each fold, wanted {pairs // step}; {way}"
        )
    return [
        Pair(paths[i], paths[j], int(label[i]), int(label[j]), bool(is_same), int(k))
        for i, j, is_same, k in zip(a, b, same, fold)
    ]


def _genuine(people: list[np.ndarray], count: int, rng: np.random.Generator) -> np.ndarray:
    """(P, 2) rows of one person each, P ≤ count."""
    turns, most = [], MOST * -(-count // len(people))
    for rows in people:
        for turn, k in enumerate(_choose(comb(len(rows), 2), most, rng)):
            turns.append((turn, *rows[list(_couple(k, len(rows)))]))
    return _in_turn(turns, count, rng)


def _impostors(people: list[np.ndarray], count: int, rng: np.random.Generator) -> np.ndarray:
    """(P, 2) rows of two people each, P ≤ count."""
    couples = _choose(comb(len(people), 2), count, rng)
    turns, most = [], MOST * -(-count // len(couples))
    for couple in couples:
        a, b = (people[i] for i in _couple(couple, len(people)))
        for turn, k in enumerate(_choose(len(a) * len(b), most, rng)):
            turns.append((turn, a[k // len(b)], b[k % len(b)]))
    return _in_turn(turns, count, rng)


def _choose(among: int, count: int, rng: np.random.Generator) -> list[int]:
    """At most `count` different numbers below `among`, in random order."""
    return rng.choice(among, min(among, count), replace=False).tolist() if among else []


def _couple(k: int, n: int) -> tuple[int, int]:
    """The k-th pair i < j of n things, counted (0,1), (0,2), (1,2), (0,3), …"""
    j = int((1 + np.sqrt(8 * k + 1)) // 2)
    return k - j * (j - 1) // 2, j


def _in_turn(turns: list[tuple], count: int, rng: np.random.Generator) -> np.ndarray:
    """The first `count` by turn, those of one turn in random order: (P, 2)."""
    rows = np.array(turns, dtype=np.int64).reshape(-1, 3)
    rows = rows[rng.permutation(len(rows))]
    return rows[np.argsort(rows[:, 0], kind="stable")][:count, 1:]
