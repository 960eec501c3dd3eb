"""Augmentation: off by default, the same for any number of ranks, and what each kind does."""

import numpy as np
import pytest
import torch

from facelib.config import FIELDS, make_config
from facelib.data.augment import CHANGES, augment_batch, chances
from facelib.data.feed import Feed, mirror, to_input

ALL = dict.fromkeys(CHANGES, 0.5)
IMAGES = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), np.uint8)


def changed(kind: str, image: np.ndarray, times: int = 40) -> list[np.ndarray]:
    return [CHANGES[kind](image.copy(), np.random.default_rng(i)) for i in range(times)]


def test_runs_without_augmentation_keep_their_names_and_images(tmp_path):
    # Catches: a default above 0, a setting that enters every digest, a kind without a setting.
    cfg = make_config()
    assert chances(cfg) == {} and cfg.digest() == make_config(augment_crop=0.0).digest()
    assert {f"augment_{kind}" for kind in CHANGES} == {n for n in FIELDS if n.startswith("augment")}
    assert make_config(augment_crop=0.2).digest() != cfg.digest()


def test_an_image_is_changed_by_seed_step_and_place_alone():
    # Catches: a generator that goes on, which a resumed run or another number of ranks would feel.
    places = np.arange(16)
    whole = augment_batch(IMAGES, places, ALL, seed=1, step=7)
    share = augment_batch(IMAGES[8:], places[8:], ALL, seed=1, step=7)
    assert np.array_equal(whole[8:], share) and not np.array_equal(whole, IMAGES)
    for other in ({"seed": 2, "step": 7}, {"seed": 1, "step": 8}):
        assert not np.array_equal(augment_batch(IMAGES, places, ALL, **other), whole)


def test_each_kind_has_its_own_chance():
    # Catches: one draw for all kinds, a chance that is not the share of the images.
    images = np.repeat(IMAGES[:1], 4000, 0)
    share = augment_batch(images, np.arange(4000), {"occlude": 0.2}, 0, 0)
    assert (share != images).any((1, 2, 3)).mean() == pytest.approx(0.2, abs=0.03)


def test_a_crop_keeps_its_pixels_in_place_and_a_zoom_fills_the_picture():
    # Catches: a crop that moves the face, less than a fifth of the picture left.
    for kept in changed("crop", IMAGES[0] | 1):
        inside = kept.any(2)
        assert np.array_equal(kept[inside], (IMAGES[0] | 1)[inside])
        assert 0.18 < inside.mean() <= 1
    assert all(z.shape == (32, 32, 3) and z.any(2).all() for z in changed("zoom", IMAGES[0] | 128))


def test_low_resolution_and_colour_do_what_they_say():
    # Catches: a picture that stays as sharp, colours past 255 that wrap, channels mixed up.
    sharp = [np.abs(np.diff(x.astype(float), axis=0)).mean() for x in changed("lowres", IMAGES[0])]
    assert np.mean(sharp) < 0.8 * np.abs(np.diff(IMAGES[0].astype(float), axis=0)).mean()
    red = np.zeros((8, 8, 3), np.uint8) + np.array([200, 40, 40], np.uint8)
    found = np.array(changed("colour", red))[:, 0, 0].astype(int)
    assert (found[:, 0] > found[:, 1]).all() and (found[:, 1] == found[:, 2]).all()
    assert found[:, 0].max() > 220 and found[:, 0].min() < 140


def test_occlusion_covers_a_third_at_most_with_one_colour():
    # Catches: noise for a colour, a rectangle over the whole face.
    for x in changed("occlude", IMAGES[0]):
        covered = (x != IMAGES[0]).any(2)
        assert 0.01 < covered.mean() < 0.36 and len(np.unique(x[covered], axis=0)) == 1


def test_the_feed_changes_training_images_only(tiny_records):
    # Catches: validation images that are augmented, images of the store changed in place.
    settings = {"data": str(tiny_records), "benchmarks": "", "flip": False, "val_fraction": 0.1}
    plain, feed = (
        Feed(make_config(**settings, augment_occlude=chance), torch.device("cpu"))
        for chance in (0.0, 1.0)
    )
    before = feed.images(feed.val).clone()
    (x, labels), (y, same) = next(iter(feed.batches(0, 1))), next(iter(plain.batches(0, 1)))
    assert torch.equal(labels, same) and (x != y).any(dim=(1, 2, 3)).all()
    assert torch.equal(feed.images(feed.val), before)
    again = feed.images(feed.train[feed.sampler.indices(0)])
    assert torch.equal(to_input(again, feed.device), y)


def test_input_is_the_bytes_over_127_5_less_1_bit_for_bit():
    # Catches: another rounding, which would change every run; a layout that convolutions copy.
    x = torch.randint(0, 256, (5, 3, 33, 33), dtype=torch.uint8)
    for images in (x, x.contiguous(memory_format=torch.channels_last), x[:0]):
        for layout in (torch.channels_last, torch.contiguous_format):
            wanted = (images.float() / 127.5 - 1).contiguous(memory_format=layout)
            found = to_input(images, torch.device("cpu"), layout)
            assert torch.equal(found, wanted)
            assert found.stride() == wanted.stride()


def test_the_named_images_are_mirrored_and_no_others():
    # Catches: a mirror top to bottom, or of a copy.
    x = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    y = x.clone()
    mirror(y, np.array([0, 3]))
    assert torch.equal(y, torch.stack([x[0].flip(2), x[1], x[2], x[3].flip(2)]))
