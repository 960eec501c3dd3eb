"""Drawn pairs: balanced, different, seeded, folds that share no person."""

import numpy as np
import pytest

from facelib.errors import UserError
from facelib.prepare.draw import _couple, draw_pairs

LABEL = np.repeat(np.arange(30), np.random.default_rng(0).integers(1, 40, 30))


def test_pairs_are_different_balanced_and_true_to_the_labels():
    # Catches: an image paired with itself, a pair and its mirror, all pairs of one kind.
    a, b, fold = draw_pairs(LABEL, 600, seed=1)
    assert len({frozenset(pair) for pair in zip(a.tolist(), b.tolist())}) == len(a) == 600
    assert (a != b).all() and (LABEL[a] == LABEL[b]).sum() == 300
    assert (np.bincount(fold) == 60).all()


def test_no_person_is_in_two_folds():
    # Catches: folds cut from a list of pairs, which tells a threshold of the people it is tried on.
    a, b, fold = draw_pairs(LABEL, 400)
    for person in range(30):
        assert len(np.unique(fold[(LABEL[a] == person) | (LABEL[b] == person)])) <= 1


def test_a_seed_is_a_list_and_another_seed_another_list():
    # Catches: the global random state, a seed that is not used.
    one, again, other = (np.array(draw_pairs(LABEL, 200, seed)) for seed in (3, 3, 4))
    assert np.array_equal(one, again) and not np.array_equal(one, other)


def test_one_person_with_very_many_images_does_not_fill_the_list():
    # Catches: pairs drawn evenly over pairs, of which n images have n(n - 1)/2.
    label = np.concatenate([np.zeros(2000, int), np.repeat(np.arange(1, 40), 10)])
    a, b, fold = draw_pairs(label, 800)
    own = fold[(label[a] == 0) & (label[b] == 0)]
    assert len(own) == 10 and (np.bincount(fold) == 80).all()


@pytest.mark.parametrize(
    ("label", "pairs"), [(np.arange(50), 20), (np.repeat(range(3), 9), 20), (LABEL, 3)]
)
def test_too_few_people_or_pairs_are_one_error(label, pairs):
    # Catches: a fold without genuine pairs, a ZeroDivisionError.
    with pytest.raises(UserError, match="wanted at least"):
        draw_pairs(label, pairs)


def test_couples_are_counted_without_a_gap():
    # Catches: a square root that is off by one at the ends of a row.
    wanted = [(i, j) for j in range(60) for i in range(j)]
    assert [_couple(k, 60) for k in range(len(wanted))] == wanted
