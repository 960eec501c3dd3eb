"""Pairs drawn from a folder of people, `IMAGES/NAME/*.jpg`: a benchmark of one's own pictures."""

import random
from math import comb
from pathlib import Path

from facelib.errors import UserError
from facelib.formats.trees import list_identities
from facelib.prepare.lists import Pair


def draw_pairs(images_dir: Path, pairs: int, folds: int = 10, seed: int = 0) -> list[Pair]:
    """Draw pairs, half of them genuine; nobody is in two folds, no pair is drawn twice.

    People are dealt to the folds at random, those with two images or more evenly. Genuine pairs go
    round the people of the fold, so that one with many images does not prevail; an impostor pair is
    of two random people. The same folder and seed give the same pairs.

    Args:
        images_dir: one folder of images for each person.
        pairs: number of pairs, a multiple of 2 · folds.
        folds, seed: of the drawing.

    Raises:
        UserError: no such folder, or more pairs than its images give; says how many they give.
    """
    step = 2 * max(1, folds)
    if folds < 1 or pairs < 1 or pairs % step:
        raise UserError(
            f"pairs={pairs}, folds={folds}: wanted a multiple of {step} pairs (as many genuine as"
            f" impostor ones in each fold), e.g. --pairs {max(1, pairs // step) * step}"
        )
    rng = random.Random(seed)
    people = [(i, images) for i, images in enumerate(list_identities(images_dir).values())]
    people = [person for person in people if person[1]]
    rng.shuffle(people)
    people.sort(key=lambda person: len(person[1]) < 2)  # dealt round: each fold gets its share
    each, found = pairs // step, []
    dealt = [people[fold::folds] for fold in range(folds)]
    most = min(min(_genuine_of(members), _impostors_of(members)) for members in dealt)
    if each > most:
        way = f"use --pairs {step * most} or fewer" if most else "use fewer --folds, or more people"
        raise UserError(
            f"{images_dir}: {len(people)} people in {folds} folds give at most {most} genuine and"
            f" as many impostor pairs in each fold, wanted {each}; {way}"
        )
    for fold, members in enumerate(dealt):
        found += [Pair(*pair, True, fold) for pair in _draw_genuine(rng, members, each)]
        found += [Pair(*pair, False, fold) for pair in _draw_impostors(rng, members, each)]
    return found


def _genuine_of(people: list) -> int:
    return sum(comb(len(images), 2) for _, images in people)


def _impostors_of(people: list) -> int:
    return comb(sum(len(images) for _, images in people), 2) - _genuine_of(people)


def _draw_genuine(rng: random.Random, people: list, count: int) -> list[tuple]:
    """(image, image, person, person) of `count` pairs, one of each person in turn."""
    drawn: dict[tuple, None] = {}
    used = dict.fromkeys((i for i, _ in people), 0)
    while len(drawn) < count:
        for i, images in people:
            if used[i] == comb(len(images), 2) or len(drawn) == count:
                continue
            before = len(drawn)
            while len(drawn) == before:
                a, b = sorted(rng.sample(images, 2))
                drawn[a, b, i, i] = None
            used[i] += 1
    return list(drawn)


def _draw_impostors(rng: random.Random, people: list, count: int) -> list[tuple]:
    """(image, image, person, person) of `count` pairs of two people each."""
    if 4 * count > _impostors_of(people):  # nearly all: drawing at random would not end
        images = [(image, i) for i, images in people for image in images]
        every = [(a, b, i, j) for n, (a, i) in enumerate(images) for b, j in images[:n] if i != j]
        return rng.sample(every, count)
    drawn: dict[tuple, None] = {}
    for _ in range(50 * count):
        (i, first), (j, second) = sorted(rng.sample(people, 2))
        drawn[rng.choice(first), rng.choice(second), i, j] = None
        if len(drawn) == count:
            return list(drawn)
    images = [(image, i) for i, images in people for image in images]
    while len(drawn) < count:  # few people have most images: draw images instead of people
        (a, i), (b, j) = sorted(rng.sample(images, 2), key=lambda one: one[1])
        if i != j:
            drawn[a, b, i, j] = None
    return list(drawn)
