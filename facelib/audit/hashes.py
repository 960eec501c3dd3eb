"""Near-duplicate images by a 64-bit perceptual hash (pHash): copies, encoded or cut anew.

The grey picture at 32×32, its DCT, the 8×8 lowest frequencies: a bit says whether a coefficient is
above their median. It is `imagehash.phash` computed seven times faster (in the tests, its bits are
compared with that package's). The distance of two images is the number of different bits.

What it finds: copies in another encoding, size or brightness. What it does not: other pictures of
a person, and copies that are cropped or aligned anew (the most alike of a million pairs of
strangers are nearer than most copies with a 24th of the width cut off). A mirrored copy is found by
searching the mirror images too.
"""

from collections.abc import Iterable

import cv2
import numpy as np
import pandas as pd
from scipy.fft import dct

from facelib.errors import UserError
from facelib.formats.decode import decode, map_in_threads

SIDE, KEPT = 32, 8
DCT = dct(np.eye(SIDE), axis=0)[:KEPT].astype(np.float32)  # (8, 32): the first rows of the DCT
MISMATCH_RATE = 1e-6  # of known non-matches that the threshold lets through
BLOCK = 2048  # images at a time: 2,048 × 14,000 distances × 4 bytes = 115 MB


def hash_pixels(image: np.ndarray) -> np.ndarray:
    """Hash (64,) bool of uint8 (H, W, 3) RGB."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = DCT @ small @ DCT.T
    return (low > np.median(low)).ravel()


def hash_images(images: Iterable[bytes]) -> np.ndarray:
    """Hashes (U,) uint64 of encoded images, in threads; black alignment borders stay as they are.

    Filling them first was measured to spoil the hash: JPEG noise moves the edge of the filling.
    """

    def one(jpeg: bytes) -> np.ndarray:
        return hash_pixels(decode(jpeg))

    parts = [pack_bits(np.array(bits)) for bits in map_in_threads(one, images, BLOCK)]
    return np.concatenate([np.empty(0, np.uint64), *parts])


def pack_bits(bits: np.ndarray) -> np.ndarray:
    """bool (U, 64) to uint64 (U,)."""
    return np.packbits(bits, axis=1).view(np.uint64).ravel()


def mirror_hashes(hashes: np.ndarray) -> np.ndarray:
    """Hashes (U,) of the mirror images, up to the few bits that the median moves.

    Mirroring flips the sign of the odd horizontal frequencies, whose bits say "above the median",
    which is near 0: their complement.
    """
    odd = np.tile(np.arange(KEPT) % 2 == 1, KEPT)
    return hashes ^ pack_bits(odd[None])[0]


def _signs(hashes: np.ndarray) -> np.ndarray:
    """uint64 (U,) to float32 (U, 64) of ±1: distance = (64 − dot product) / 2, one matmul."""
    bits = np.unpackbits(np.ascontiguousarray(hashes).view(np.uint8).reshape(-1, 8), axis=1)
    return bits.astype(np.float32) * 2 - 1


def near_pairs(a: np.ndarray, b: np.ndarray, most: int, block: int = BLOCK) -> pd.DataFrame:
    """All pairs of hashes (U,) and (V,) with at most `most` different bits: a, b, bits."""
    signs = _signs(b).T
    found = []
    for start in range(0, len(a), block):
        dots = _signs(a[start : start + block]) @ signs
        rows, columns = np.nonzero(dots >= 64 - 2 * most)
        bits = ((64 - dots[rows, columns]) / 2).astype(np.int64)
        found.append(np.c_[rows + start, columns, bits])
    joined = np.concatenate(found) if found else np.empty((0, 3), np.int64)
    return pd.DataFrame(joined, columns=["a", "b", "bits"])


def mismatch_counts(hashes: np.ndarray, ids: np.ndarray, block: int = BLOCK) -> np.ndarray:
    """Pairs of images of *different* people at each distance, int64 (65,).

    Args:
        hashes: (U,) uint64. ids: (U,) identity of each.
    """
    counts = np.zeros(65, np.int64)
    signs = _signs(hashes)
    for start in range(0, len(hashes), block):
        dots = signs[start : start + block] @ signs.T
        strangers = ids[start : start + block, None] != ids[None]
        distance = ((64 - dots[strangers]) / 2).astype(np.int64)
        counts += np.bincount(distance, minlength=65)
    return counts // 2


def hash_threshold(counts: np.ndarray, rate: float = MISMATCH_RATE) -> int:
    """The largest distance that at most `rate` of the known non-matches come within.

    Args:
        counts: (65,) known non-matches at each distance, see `mismatch_counts`.
        rate: with n non-matches, ⌊rate · n⌋ of them are let through, none if that is 0.

    Returns:
        Largest number of different bits of a match; -1 if even equal hashes are too common.
    """
    if not counts.sum():
        raise UserError("no pair of different people to set the threshold of the hash on")
    within = np.cumsum(counts)
    return int((within <= np.floor(rate * counts.sum())).sum()) - 1


def duplicates(train: np.ndarray, bench: np.ndarray, most: int) -> pd.DataFrame:
    """Image pairs with at most `most` different bits: train, bench (rows), bits, mirrored."""
    frames = [
        near_pairs(train, bench, most).assign(mirrored=False),
        near_pairs(train, mirror_hashes(bench), most).assign(mirrored=True),
    ]
    frame = pd.concat(frames, ignore_index=True).rename(columns={"a": "train", "b": "bench"})
    frame = frame.sort_values("bits", kind="stable")
    return frame.drop_duplicates(["train", "bench"], ignore_index=True)
