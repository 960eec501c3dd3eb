"""Encoded image to RGB pixels, and the black border of aligned images filled.

Everything here is RGB: InsightFace's PyTorch training reads RGB, OpenCV alone would give BGR.
"""

import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from os import cpu_count

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from facelib.errors import BadData, UserError

FILL_BORDER = ("none", "replicate")
# A header of a few bytes can claim any size; 64 megapixels are more than a camera's picture.
MAX_PIXELS = 1 << 26
Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit warns on a second line: `check_size` is ours
# Pillow reads more, among them formats that start other programs.
FORMATS = ("JPEG", "PNG", "BMP", "PPM", "TIFF", "WEBP", "GIF")
# The warp leaves pure black; JPEG noise lifts it by a few grey levels.
BLACK = 8
# JPEG blurs the edge of the picture into the black (chroma is stored at half the resolution):
# pixels this near to the border are darkened, and are replaced too.
BLURRED_EDGE = 2


def decode(
    jpeg: bytes, size: int | None = None, fill_border: str = "none", scale: bool = False
) -> np.ndarray:
    """Decode an image to uint8 (H, W, 3) RGB.

    Args:
        jpeg: a JPEG (decoded by simplejpeg), or another of `FORMATS`, read by Pillow; grey becomes
            three equal channels.
        size: side of the square result in pixels; area averaging where it shrinks, bilinear where
            it grows. None keeps the image as it is.
        fill_border: "replicate" fills the black border of an alignment (`replicate_border`), in
            the full picture.
        scale: decode a JPEG at the smallest n/8 of its size that `size` fits in, then resize: from
            112 to 48 pixels twice as fast, for pixels that differ by 1.2 grey levels on average (1
            in 100 by 10 or more; tests/bench/bench_loader.py measures it).

    Raises:
        BadData: not an image, or a truncated one.
    """
    if fill_border not in FILL_BORDER:
        raise UserError(f"fill_border={fill_border!r}, allowed are {', '.join(FILL_BORDER)}")
    image = _decode_pixels(jpeg, size if scale and size and fill_border == "none" else 0)
    if fill_border == "replicate":
        image = replicate_border(image)
    return image if size is None else resize(image, size)


def map_in_threads(call: Callable, items: Iterable, block: int) -> Iterator[list]:
    """Lists of `call(item)` over `block` items each, in order: one thread per core.

    Decoding, resizing and warping release Python's lock. Items are taken a block at a time.
    """
    items = iter(items)
    with ThreadPoolExecutor(cpu_count()) as pool:
        while chunk := list(islice(items, block)):
            yield list(pool.map(call, chunk))


def _decode_pixels(jpeg: bytes, least: int = 0) -> np.ndarray:
    """`least`: pixels a side that are enough; 0 keeps the size."""
    try:
        check_size(jpeg)
        if simplejpeg.is_jpeg(jpeg):
            return simplejpeg.decode_jpeg(jpeg, "RGB", min_height=least, min_width=least)
        with Image.open(io.BytesIO(jpeg), formats=FORMATS) as picture:
            return np.array(picture.convert("RGB"))
    except (BadData, MemoryError):
        raise
    except Exception as error:  # the decoders raise nearly anything, TypeError for one
        start = bytes(jpeg[:8]).hex(" ") or "nothing"
        raise BadData(
            f"no readable image: {len(jpeg)} bytes, starting with {start} (a JPEG starts with"
            f" ff d8 ff): {error}"
        ) from None


def check_size(image: bytes) -> None:
    """Read the size of an encoded image from its header, before anything is decoded.

    Raises:
        BadData: more than `MAX_PIXELS`. Exception: no image, in the decoders' words.
    """
    if simplejpeg.is_jpeg(image):
        height, width = simplejpeg.decode_jpeg_header(image)[:2]
    else:
        with Image.open(io.BytesIO(image), formats=FORMATS) as picture:
            width, height = picture.size
    if width * height > MAX_PIXELS:
        raise BadData(
            f"{len(image)} bytes that claim {width}×{height} pixels, allowed are {MAX_PIXELS:,}"
            " pixels: damaged or hostile; make the picture smaller, or leave it out"
        )


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Resize uint8 (H, W, 3) to (size, size, 3): area averaging to shrink, bilinear to grow."""
    if image.shape[:2] == (size, size):
        return image
    shrinks = size <= min(image.shape[:2])
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=interpolation)


def border_mask(image: np.ndarray) -> np.ndarray:
    """Mark the black border that an alignment warp left: bool (H, W).

    Near-black pixels that a path of near-black pixels joins to the edge of the image. The warped
    picture is a convex quadrilateral, so a dent in it is dark hair or background, not border, and
    is kept; where black content reaches a corner of the picture it cannot be told from border.
    """
    brightest = np.maximum(np.maximum(image[..., 0], image[..., 1]), image[..., 2])
    black = (brightest <= BLACK).astype(np.uint8)
    # One flood from a black frame around the image reaches all that touches its edge.
    framed = cv2.copyMakeBorder(black, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    cv2.floodFill(framed, None, (0, 0), 2)
    picture = (framed[1:-1, 1:-1] != 2).astype(np.uint8)
    if picture.all():
        return np.zeros(black.shape, dtype=bool)
    # Opening drops specks of JPEG noise in the black, which would stretch the hull.
    picture = cv2.morphologyEx(picture, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    rows = np.flatnonzero(picture.any(axis=1))
    if len(rows) == 0:
        return np.ones(black.shape, dtype=bool)
    left = picture[rows].argmax(axis=1)
    right = picture.shape[1] - 1 - picture[rows, ::-1].argmax(axis=1)
    ends = np.concatenate([np.stack([left, rows], 1), np.stack([right, rows], 1)])
    hull = cv2.convexHull(ends.astype(np.int32))
    return cv2.fillConvexPoly(np.zeros_like(black), hull, 1) == 0


def replicate_border(image: np.ndarray) -> np.ndarray:
    """Replace the black border of uint8 (H, W, 3) by the nearest picture pixel; deterministic.

    An image without border, or one that is all border, comes back unchanged.
    """
    border = border_mask(image).astype(np.uint8)
    if not border.any():
        return image
    border = cv2.dilate(border, np.ones((2 * BLURRED_EDGE + 1,) * 2, np.uint8))
    if border.all():
        return image
    # Each border pixel gets the number of its nearest picture pixel.
    _, nearest = cv2.distanceTransformWithLabels(
        border, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    nearest, outside = nearest.ravel(), np.flatnonzero(border)
    inside = np.flatnonzero(border == 0)
    place = np.zeros(nearest.max() + 1, dtype=np.int64)
    place[nearest[inside]] = inside
    filled = image.reshape(-1, 3).copy()
    filled[outside] = filled.take(place[nearest[outside]], axis=0)
    return filled.reshape(image.shape)


def encode_jpeg(image: np.ndarray, quality: int = 95) -> bytes:
    """Encode uint8 (H, W, 3) RGB as JPEG, chroma at half resolution like InsightFace's files."""
    return simplejpeg.encode_jpeg(
        np.ascontiguousarray(image), quality=quality, colorspace="RGB", colorsubsampling="420"
    )
