"""Samplers: pure functions of the step, no identity twice in a pair batch, equal shares."""

import numpy as np
import pytest

from facelib.config import make_config
from facelib.data.sampler import (
    GroupSampler,
    PairSampler,
    PlainSampler,
    build_sampler,
    flips,
    local_slice,
)
from facelib.errors import UserError


def long_tailed_labels(seed=0):
    rng = np.random.default_rng(seed)
    return rng.permutation(np.repeat(np.arange(300), rng.integers(1, 40, 300)))


def test_a_pair_batch_holds_each_identity_once_with_two_different_images():
    # Catches: batches across a round's bound that meet an identity twice (a false negative).
    labels = long_tailed_labels()
    sampler = PairSampler(labels, 64, seed=0)
    for step in range(3 * sampler.steps_per_epoch):
        batch = sampler.indices(step)
        ids = labels[batch]
        assert (ids[::2] == ids[1::2]).all()
        assert len(set(ids[::2])) == 32
        assert len(set(batch)) == 64


@pytest.mark.parametrize("size", [3, 4, 8])
def test_a_group_batch_holds_each_identity_once_with_k_different_images(size):
    # Catches: groups cut across identities, images shown twice, an identity met twice in a batch.
    labels = long_tailed_labels()
    sampler = GroupSampler(labels, 16 * size, seed=0, size=size)
    for step in range(2 * sampler.steps_per_epoch):
        batch = sampler.indices(step)
        ids = labels[batch].reshape(16, size)
        assert (ids == ids[:, :1]).all()
        assert len(set(ids[:, 0])) == 16
        assert len(set(batch)) == 16 * size
    assert sampler.coverage > 0.8


def test_no_image_is_shown_twice_in_an_epoch_and_few_are_left_out():
    # Catches: rounds that repeat pairs; a sampler that drops whole rounds.
    labels = long_tailed_labels()
    sampler = PairSampler(labels, 64, seed=0)
    seen = np.concatenate([sampler.indices(s) for s in range(sampler.steps_per_epoch)])
    assert len(set(seen)) == len(seen) == sampler.images_per_epoch
    assert sampler.coverage == len(seen) / len(labels) > 0.95


def test_equal_identities_are_all_seen():
    # Catches: an off-by-one in the rounds (methods: about 99 % of the images in an epoch).
    sampler = PairSampler(np.repeat(np.arange(240), 24), 64, seed=0)
    assert sampler.coverage == 1


@pytest.mark.parametrize("kind", [PlainSampler, PairSampler])
def test_a_step_s_batch_depends_on_nothing_before_it(kind):
    # Catches: hidden state: a resumed run would see other images.
    labels = long_tailed_labels()
    walked = kind(labels, 32, seed=3)
    history = [walked.indices(step) for step in range(2 * walked.steps_per_epoch)]
    for step in (0, walked.steps_per_epoch - 1, walked.steps_per_epoch + 5):
        assert (kind(labels, 32, seed=3).indices(step) == history[step]).all()
    assert (kind(labels, 32, seed=4).indices(0) != history[0]).any()


def test_epochs_pair_the_images_anew():
    # Catches: the same pairs in each epoch.
    labels = np.repeat(np.arange(20), 10)
    sampler = PairSampler(labels, 20, seed=0)
    n = sampler.steps_per_epoch
    epochs = [{tuple(p) for s in range(e * n, e * n + n)
               for p in sampler.indices(s).reshape(-1, 2)} for e in (0, 1)]  # fmt: skip
    assert len(epochs[0] & epochs[1]) < len(epochs[0]) / 2


def test_images_without_a_partner_are_counted_and_left_out():
    # Catches: an identity with one image paired with itself or with a stranger.
    labels = np.array([0, 0, 1, 2, 2, 3, 4])
    sampler = PairSampler(labels, 4, seed=0)
    assert sampler.single_images == 3
    assert set(labels[sampler.indices(0)]) == {0, 2}


def test_a_batch_larger_than_the_identities_says_the_largest_possible():
    # Catches: an endless loop or repeated identities.
    with pytest.raises(UserError, match=r"takes 32 identities .* images have 20.*global_batch=40"):
        PairSampler(np.repeat(np.arange(20), 5), 64, seed=0)
    with pytest.raises(UserError, match=r"takes 16 identities with 4 .*global_batch=60 or less"):
        GroupSampler(np.repeat(np.arange(15), 5), 64, seed=0, size=4)
    with pytest.raises(UserError, match="larger than the 8 training images: .*global_batch=8 or"):
        PlainSampler(np.arange(8), 10, seed=0)
    with pytest.raises(UserError, match="use global_batch=8 or less"):
        GroupSampler(np.repeat([0, 1], 7), 12, seed=0, size=4)
    with pytest.raises(UserError, match="use global_batch=8 or less"):
        GroupSampler(np.repeat(np.arange(4), 2), 10, seed=0, size=2)
    with pytest.raises(UserError, match="no batch fits"):  # one identity has no negative
        GroupSampler(np.repeat([0], 7), 8, seed=0, size=4)
    with pytest.raises(UserError, match=r"have 0 \(20 have one .* no batch fits: use more data"):
        PairSampler(np.arange(20), 8, seed=0)  # not "use global_batch=0 or less"


def test_ranks_and_micro_batches_cut_a_joint_batch_without_overlap():
    # Catches: overlapping or missing parts, pairs cut in two.
    parts = [local_slice(48, 2, micro, 3, rank) for micro in range(2) for rank in range(3)]
    joined = np.concatenate([np.arange(48)[part] for part in parts])
    assert (joined == np.arange(48)).all()
    assert all(part.start % 2 == 0 for part in parts)


def test_flips_are_fair_and_belong_to_the_step():
    # Catches: flips drawn per rank, or the same for every step.
    assert (flips(64, 0, 7) == flips(64, 0, 7)).all()
    assert (flips(64, 0, 7) != flips(64, 0, 8)).any()
    assert 0.45 < flips(10_000, 0, 0).mean() < 0.55


def test_a_plain_epoch_shows_each_image_once_in_whole_batches():
    # Catches: batches that overlap; a last batch that is not whole; a batch of all images refused.
    sampler = PlainSampler(np.arange(11), 3, seed=0)
    seen = np.concatenate([sampler.indices(step) for step in range(sampler.steps_per_epoch)])
    assert len(set(seen)) == len(seen) == sampler.images_per_epoch == 9
    assert sorted(PlainSampler(np.arange(6), 6, seed=0).indices(1)) == list(range(6))


def test_the_batches_of_a_seed_are_those_of_published_runs():
    # Catches: any change of the draws: the same run name would train on other batches.
    labels = np.repeat(np.arange(5), [6, 2, 4, 3, 4])
    assert PlainSampler(labels, 6, seed=0).indices(4).tolist() == [1, 18, 7, 11, 3, 17]
    pairs = PairSampler(labels, 6, seed=0)
    assert [pairs.indices(step).tolist() for step in (0, 1, 3)] == [
        [6, 7, 15, 18, 3, 2], [13, 14, 11, 8, 1, 0], [7, 6, 12, 13, 9, 8],
    ]  # fmt: skip
    assert np.flatnonzero(flips(16, 0, 7)).tolist() == [0, 2, 3, 4, 8, 9, 10, 13, 14, 15]


@pytest.mark.parametrize(
    ("settings", "layout", "kind", "size"),
    [
        ({"images_per_identity": 4}, "pairs", GroupSampler, 4),
        ({}, "pairs", PairSampler, 2),
        ({}, "plain", PlainSampler, 1),
    ],
)
def test_the_sampler_of_a_run_has_the_run_s_settings(settings, layout, kind, size):
    # Catches: another class, batch, seed or size than the run asks for.
    shared = {"loss": "supcon" if settings else "infonce", "processes": 2, "accumulate": 2}
    cfg = make_config(seed=5, **shared, **settings)
    labels = np.repeat(np.arange(9), 8)[:70]
    sampler = build_sampler(cfg, layout, labels, 16)
    again = kind(labels, 16, 5, *([size] if kind is GroupSampler else []))
    assert type(sampler) is kind and (sampler.indices(1) == again.indices(1)).all()
    most = {1: 64, 2: 16, 4: 32}[size]  # a multiple of two parts on each of two processes
    with pytest.raises(UserError, match=f"use global_batch={most} or less"):
        build_sampler(cfg, layout, labels, 80)
