"""Augmentation of training images, off by default: a pure function of seed, step and place.

Each has a probability of its own, in this order. `crop`, `lowres` and `colour` are AdaFace's
(arXiv 2204.00964, its `augmenter.py`, 0.2 each), `occlude` is random erasing (arXiv 1708.04896).

    zoom     a part of 20 to 100 % of the area, ratio 3:4 to 4:3, resized to the whole
    crop     such a part stays where it is, black around it
    lowres   shrunk to 20 to 100 % of the side and enlarged again, each by a random method
    colour   brightness, contrast and saturation times 0.5 to 1.5, in random order
    occlude  a rectangle of 2 to 33 % of the area, ratio 0.3 to 3.3, of one random colour
"""

import cv2
import numpy as np

from facelib.config import Config
from facelib.formats.decode import map_in_threads

STREAM = 1 << 21  # of the random numbers: no other use of the seed has it
METHODS = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)
PART, ERASED = ((0.2, 1.0), (3 / 4, 4 / 3)), ((0.02, 1 / 3), (0.3, 3.3))
GREY = np.array([0.299, 0.587, 0.114], np.float32)  # luma of RGB


def chances(cfg: Config) -> dict[str, float]:
    """The probability of each kind that a config asks for; empty: no augmentation."""
    found = {kind: getattr(cfg, f"augment_{kind}") for kind in CHANGES}
    return {kind: chance for kind, chance in found.items() if chance}


def augment_batch(
    images: np.ndarray, places: np.ndarray, chance: dict[str, float], seed: int, step: int
) -> np.ndarray:
    """A changed copy of uint8 (B, S, S, 3) RGB.

    Args:
        places: (B,) position of each image in the joint batch: the same for any number of ranks.
        chance: see `chances`.
    """

    def change(row: int) -> np.ndarray:
        image, rng = images[row], np.random.default_rng([seed, STREAM, step, places[row]])
        for kind, wanted in zip(chance, rng.random(len(chance)) < list(chance.values())):
            image = CHANGES[kind](image, rng) if wanted else image
        return image

    return np.stack(next(map_in_threads(change, range(len(images)), len(images))))


def _rectangle(size: int, limits: tuple, rng: np.random.Generator) -> tuple[slice, slice]:
    """A random rectangle inside a square, of an area and ratio within limits."""
    (least, most), ratios = limits
    area = rng.uniform(least, most) * size**2
    ratio = np.exp(rng.uniform(*np.log(ratios)))
    sides = np.sqrt([area / ratio, area * ratio]).round().astype(int).clip(1, size)
    starts = [int(rng.integers(size - side + 1)) for side in sides]
    return tuple(slice(start, start + side) for start, side in zip(starts, sides))


def zoom(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A part of (S, S, 3), resized to the whole."""
    part = image[_rectangle(len(image), PART, rng)]
    return cv2.resize(part, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def crop(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A part where it is, black around it."""
    kept, part = np.zeros_like(image), _rectangle(len(image), PART, rng)
    kept[part] = image[part]
    return kept


def lowres(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shrunk, and enlarged again."""
    side = max(1, int(rng.uniform(0.2, 1) * len(image)))
    down, up = rng.choice(METHODS, 2).tolist()
    small = cv2.resize(image, (side, side), interpolation=down)
    return cv2.resize(small, image.shape[1::-1], interpolation=up)


def colour(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Other brightness, contrast and saturation: away from black, the mean grey, each grey."""
    x = image.astype(np.float32)
    for kind in rng.permutation(3):
        grey = x @ GREY
        base = (0, grey.mean(), grey[..., None])[kind]
        x = (base + rng.uniform(0.5, 1.5) * (x - base)).clip(0, 255)
    return x.round().astype(np.uint8)


def occlude(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A rectangle of one colour over it."""
    image = image.copy()
    image[_rectangle(len(image), ERASED, rng)] = rng.integers(0, 256, 3)
    return image


CHANGES = {"zoom": zoom, "crop": crop, "lowres": lowres, "colour": colour, "occlude": occlude}
