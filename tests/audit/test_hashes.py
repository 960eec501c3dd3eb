"""Perceptual hash: the bits, the search, the threshold, what it finds and what it does not."""

import cv2
import imagehash
import numpy as np
import pytest
from PIL import Image

from facelib.audit.hashes import (
    duplicates,
    hash_images,
    hash_pixels,
    hash_threshold,
    mirror_hashes,
    mismatch_counts,
    near_pairs,
)
from facelib.errors import UserError
from facelib.formats.decode import decode, encode_jpeg
from facelib.rendered.planted import copy_image


def distance(a, b):
    return np.array([bin(int(x) ^ int(y)).count("1") for x, y in zip(a, b)])


@pytest.fixture(scope="module")
def pictures():
    """60 blotchy 64-pixel pictures as JPEG."""
    rng = np.random.default_rng(0)
    small = rng.integers(20, 200, (60, 6, 6, 3), np.uint8)
    return [encode_jpeg(cv2.resize(s, (64, 64), interpolation=cv2.INTER_CUBIC)) for s in small]


def test_the_bits_are_those_of_the_imagehash_package():
    # Catches: another normalisation of the DCT, mean for median, bits in another order.
    grey = np.random.default_rng(0).integers(0, 256, (20, 32, 32), np.uint8)
    for picture in grey:
        wanted = imagehash.phash(Image.fromarray(picture)).hash.ravel()
        found = hash_pixels(np.repeat(picture[..., None], 3, axis=2))
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("kind", ["exact", "encoded again", "brighter"])
def test_a_copy_is_nearer_than_any_other_picture(pictures, kind):
    # Catches: a hash of the bytes, or one that follows brightness or JPEG noise.
    hashes = hash_images(pictures)
    copies = hash_images([copy_image(picture, kind) for picture in pictures])
    assert np.percentile(distance(hashes, copies), 90) <= 4
    counts = mismatch_counts(hashes, np.arange(len(pictures)))
    found = duplicates(copies, hashes, hash_threshold(counts))
    assert (found["train"] == found["bench"]).all()
    assert found["train"].nunique() >= 0.9 * len(pictures)


def test_hashes_keep_the_order_of_their_images_across_blocks(pictures, monkeypatch):
    # Catches: a last, shorter block lost, a block hashed twice, an error where there is no image.
    whole = hash_images(pictures)
    monkeypatch.setattr("facelib.audit.hashes.BLOCK", 7)
    np.testing.assert_array_equal(hash_images(iter(pictures)), whole)
    assert len(whole) == 60 and hash_images([]).shape == (0,)


def test_mirrored_copies_are_found_and_said_to_be_mirrored(pictures):
    # Catches: odd vertical frequencies flipped, mirror search left out.
    hashes = hash_images(pictures)
    mirrored = hash_images([encode_jpeg(decode(p)[:, ::-1].copy()) for p in pictures])
    assert np.median(distance(mirror_hashes(hashes), mirrored)) <= 4
    found = duplicates(mirrored, hashes, 4)
    assert found["mirrored"].all() and len(found) >= 30
    assert near_pairs(mirrored, hashes, 4).empty


def test_the_block_search_finds_what_a_loop_over_all_pairs_finds():
    # Catches: a block boundary, < for <=, float rounding of the matmul, packed bits read wrongly.
    rng = np.random.default_rng(0)
    a = rng.integers(0, 2**63, 50, dtype=np.uint64)
    b = np.concatenate([a[:9] ^ np.uint64(0b1011), rng.integers(0, 2**63, 30, dtype=np.uint64)])
    wanted = {
        (i, j, n)
        for i, x in enumerate(a)
        for j, y in enumerate(b)
        if (n := bin(int(x) ^ int(y)).count("1")) <= 24
    }
    found = near_pairs(a, b, 24, block=7)
    assert set(found.itertuples(index=False, name=None)) == wanted
    assert len(near_pairs(a, b, 3)) == 9 and near_pairs(a, b, 2).empty


def test_the_threshold_lets_a_declared_share_of_known_strangers_through():
    # Catches: pairs of one person counted as strangers, each pair counted once for each order.
    hashes = np.array([0, 1, 3, 255], np.uint64)
    counts = mismatch_counts(hashes, np.array([0, 0, 1, 2]), block=3)
    assert counts.sum() == 5 and counts[[1, 2, 6, 7, 8]].tolist() == [1, 1, 1, 1, 1]
    assert hash_threshold(counts, rate=0.2) == 1
    assert hash_threshold(counts, rate=0.0) == 0
    with pytest.raises(UserError, match="no pair of different people"):
        hash_threshold(mismatch_counts(hashes, np.zeros(4)))
