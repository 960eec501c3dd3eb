"""Encoded image to RGB pixels, and the black border of aligned images filled.

Everything here is RGB: InsightFace's PyTorch training reads RGB, OpenCV alone would give BGR.
"""

import io
import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from os import cpu_count

import cv2
import numpy as np
import simplejpeg
from PIL import ExifTags, Image, UnidentifiedImageError

from facelib.errors import BadData, UserError

log = logging.getLogger(__name__)

FILL_BORDER = ("none", "replicate")
# A header of a few bytes can claim any size; 64 megapixels are more than a camera's picture.
MAX_PIXELS = 1 << 26
Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit warns on a second line: `check_size` is ours
# Pillow reads more, among them formats that start other programs.
FORMATS = ("JPEG", "PNG", "BMP", "PPM", "TIFF", "WEBP", "GIF", "AVIF")
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".pbm", ".pgm", ".ppm", ".pnm", ".tif",
    ".tiff", ".webp", ".gif", ".avif", ".heic", ".heif", ".hif",
)  # fmt: skip
BRANDS, BOXES = 64, 1 << 16  # bytes that hold the brands of an AVIF or HEIF file, and its boxes
LONGEST = 1 << 12  # pixels of a side
# What makes a picture (H, W, 3) upright, by its EXIF orientation.
UPRIGHT = {
    1: lambda x: x, 2: lambda x: x[:, ::-1], 3: lambda x: x[::-1, ::-1], 4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2), 6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90,
}  # fmt: skip
# The warp leaves pure black; JPEG noise lifts it by a few grey levels.
BLACK = 8
# JPEG blurs the edge of the picture into the black (chroma is stored at half the resolution):
# pixels this near to the border are darkened, and are replaced too.
BLURRED_EDGE = 2


def decode(
    jpeg: bytes, size: int | None = None, fill_border: str = "none", scale: bool = False
) -> np.ndarray:
    """Decode an image to uint8 (H, W, 3) RGB, upright as its EXIF orientation says.

    Args:
        jpeg: a JPEG (decoded by simplejpeg), or another of `FORMATS`, read by Pillow (of several
            frames the first); grey becomes three equal channels, and values of more than 8 bits
            are scaled from the darkest and the brightest of the picture to 0 … 255.
        size: side of the square result in pixels; area averaging where it shrinks, bilinear where
            it grows; a picture that is not square is padded by its edge first (`pad_to_square`).
            None keeps the image as it is.
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
    return image if size is None else resize(pad_to_square(image), size)


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
        if is_plain_jpeg(jpeg):
            return simplejpeg.decode_jpeg(jpeg, "RGB", min_height=least, min_width=least)
        with _open(jpeg) as picture:
            pixels = np.array(_to_8_bits(picture, jpeg).convert("RGB"))
            turn = _orientation(picture, jpeg)  # loading a TIFF turns it, and takes the tag away
        return np.ascontiguousarray(UPRIGHT[turn](pixels))
    except (BadData, MemoryError):
        raise
    except Exception as error:  # the decoders raise nearly anything, TypeError for one
        start = bytes(jpeg[:8]).hex(" ") or "nothing"
        if isinstance(error, UnidentifiedImageError):
            # Pillow's own words name an object.
            error = "a format, or a kind of it, that is not known here"
        raise BadData(
            f"no readable image: {len(jpeg)} bytes, starting with {start} (a JPEG starts with"
            f" ff d8 ff): {error}"
        ) from None


def is_plain_jpeg(image: bytes) -> bool:
    """A JPEG that is stored upright: its EXIF block, if any, asks for no turn."""
    if not simplejpeg.is_jpeg(image):
        return False
    if bytes(image).find(b"Exif\0\0") < 0:
        return True
    with _open(image) as picture:
        return _orientation(picture, image) == 1


def _orientation(picture: Image.Image, content: bytes) -> int:
    """How a picture is stored, a key of `UPRIGHT`; 1 (upright) where its EXIF cannot be read.

    A HEIF file is turned by its decoder as its own boxes say, and EXIF counts where it has none.
    """
    try:
        if picture.format == "HEIF":
            turned = any(box in bytes(content[:BOXES]) for box in (b"irot", b"imir"))
            turn = 1 if turned else picture.info.get("original_orientation") or 1
            return turn if turn in UPRIGHT else 1
        turn = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception as error:  # the picture is whole, a block beside it is not
        log.info("EXIF that cannot be read, taken as upright: %s", error)
        turn = 1
    return turn if turn in UPRIGHT else 1


def _open(image: bytes) -> Image.Image:
    formats, head = FORMATS, bytes(image[:BRANDS])
    if head[4:8] == b"ftyp" and not (b"avif" in head or b"avis" in head):
        import pillow_heif  # optional: HEIC is a format of phones, not of face sets

        pillow_heif.register_heif_opener()
        formats = ("HEIF",)
    return Image.open(io.BytesIO(image), formats=formats)


def _to_8_bits(picture: Image.Image, content: bytes) -> Image.Image:
    """Values of 16 or 32 bits or of floats, scaled by their own range; other pictures as they are.

    Args:
        content: the encoded picture: of 16 bits per colour Pillow gives the upper 8 alone.
    """
    deep = ";16" in str(picture.tile[:1]) or "'ppm'" in str(picture.tile[:1])
    if deep and picture.mode in ("RGB", "RGBA", "LA"):
        picture.load()  # Pillow's word on whether it is whole
        values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        if values is None or values.dtype != np.uint16 or values.ndim < 3 or values.shape[2] < 3:
            return picture  # a kind that OpenCV does not read so
        values = values[..., 2::-1].astype(np.float64)
    elif picture.mode in ("F", "I") or picture.mode.startswith("I;16"):
        values = np.asarray(picture, dtype=np.float64)
    else:
        return picture
    if not np.isfinite(values).all():
        raise BadData(f"pixels of kind {picture.mode!r} that are not all finite numbers")
    low, high = values.min(), values.max()
    scaled = (values - low) / max(high - low, np.finfo(float).tiny) * 255
    return Image.fromarray(np.round(scaled).astype(np.uint8))


def check_size(image: bytes) -> None:
    """Read the size of an encoded image from its header, before anything is decoded.

    Raises:
        BadData: more than `MAX_PIXELS`. Exception: no image, in the decoders' words.
    """
    if simplejpeg.is_jpeg(image):
        height, width = simplejpeg.decode_jpeg_header(image)[:2]
    else:
        with _open(image) as picture:
            width, height = picture.size
    if width * height > MAX_PIXELS:
        raise BadData(
            f"{len(image)} bytes that claim {width}×{height} pixels, allowed are {MAX_PIXELS:,}"
            " pixels: damaged or hostile; make the picture smaller, or leave it out",
            "too many pixels",
        )


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Resize uint8 (H, W, 3) to (size, size, 3): area averaging to shrink, bilinear to grow."""
    if image.shape[:2] == (size, size):
        return image
    shrinks = size <= min(image.shape[:2])
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=interpolation)


def pad_to_square(image: np.ndarray) -> np.ndarray:
    """Repeat the edge pixels on the shorter sides of (H, W, 3) until it is square.

    A picture with a side above `LONGEST` is made smaller first.
    """
    height, width = image.shape[:2]
    if max(height, width) > LONGEST:  # a long strip would become a square of gigabytes
        scale = LONGEST / max(height, width)
        width, height = (max(1, round(side * scale)) for side in (width, height))
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    down, right = max(width - height, 0), max(height - width, 0)
    return cv2.copyMakeBorder(
        image, down // 2, down - down // 2, right // 2, right - right // 2, cv2.BORDER_REPLICATE
    )


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
