"""InsightFace `.bin` benchmarks: a pickle of `(images, same)`, read without trusting it.

    images  list of 2·P encoded images (JPEG or PNG): pair p is images[2p] and images[2p + 1];
            each is bytes, or a uint8 array of the same bytes (files written through mxnet)
    same    list of P bools: do the two images show one person?

A pickle is a program. `facelib/formats/plain_pickle.py` reads it with an interpreter that can build
nothing but lists, tuples, bytes, numbers and arrays over bytes of the file, within its size.
"""

import mmap
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facelib.errors import BadData, UserError
from facelib.formats.pickled_arrays import Array, Refused, kind_of, show
from facelib.formats.plain_pickle import PlainPickle
from facelib.paths import atomic_file

# Protocol 3 keeps bytes as bytes and is read by every Python 3; InsightFace needs no more.
PROTOCOL = 3
AGAIN = "copy the file again, or make it with: python -m facelib prepare --help"


def read_bin(path: Path) -> tuple[list[bytes], np.ndarray]:
    """Read a benchmark of pairs.

    Returns:
        2·P encoded images and bool (P,).

    Raises:
        BadData: missing, truncated or hostile file, or numbers of images and pairs that disagree.
    """
    path = Path(path)
    if not path.is_file():
        raise BadData(f"{path}: no such file; wanted an InsightFace .bin benchmark")
    content = _read_plain(path)
    if not isinstance(content, tuple | list) or len(content) != 2:
        raise BadData(f"{path}: holds {kind_of(content)}, wanted (images, same); {AGAIN}")
    parts = [_items(part) for part in content]
    if any(part is None for part in parts):
        kinds = ", ".join(kind_of(part) for part in content)
        raise BadData(f"{path}: holds ({kinds}), wanted (list of images, list of bools); {AGAIN}")
    images, same = parts
    if len(images) != 2 * len(same) or len(same) == 0:
        raise BadData(
            f"{path}: {len(images)} images and {len(same)} pairs, wanted two images per pair;"
            " the file is damaged or was written wrongly: make it again"
        )
    return [_as_bytes(image, i, path) for i, image in enumerate(images)], _as_bools(same, path)


def _read_plain(path: Path) -> Any:
    """The value that the pickle holds."""
    if path.stat().st_size == 0:
        raise BadData(
            f"{path}: byte 0: not a readable pickle of (images, same): an empty file; {AGAIN}"
        )
    try:
        with (
            open(path, "rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            return PlainPickle(data).load()
    except Refused as error:
        raise BadData(
            f"{path}: byte {error.at}: not a readable pickle of (images, same): found"
            f" {error.found}, wanted {error.wanted}; {AGAIN}"
        ) from None


def _items(part: Any) -> Sequence | None:
    """Images or labels as a sequence; None for anything else."""
    if isinstance(part, Array) and len(part.shape) == 1:
        return part.content if isinstance(part.content, list) else part.numbers().tolist()
    return part if isinstance(part, list | tuple) else None


def _as_bytes(image: Any, number: int, path: Path) -> bytes:
    if isinstance(image, Array) and image.code.lstrip("<>|=") == "u1":
        return image.content
    if not isinstance(image, bytes):
        found = f"image {number} is {kind_of(image)}"
        raise BadData(f"{path}: {found}, wanted encoded bytes; {AGAIN}")
    return image


def _as_bools(same: Sequence, path: Path) -> np.ndarray:
    for i, value in enumerate(same):
        if type(value) not in (bool, int) or value not in (0, 1):
            raise BadData(
                f"{path}: pair {i} is marked {show(value)}, wanted True or False; {AGAIN}"
            )
    return np.array(same, dtype=bool)


def write_bin(path: Path, images: Sequence[bytes], same: Sequence[bool]) -> None:
    """Write a benchmark that InsightFace's own code reads; it appears only when complete."""
    if len(images) != 2 * len(same):
        raise UserError(f"{path}: {len(images)} images for {len(same)} pairs, wanted two a pair")
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
        content = ([bytes(image) for image in images], [bool(value) for value in same])
        pickle.dump(content, file, protocol=PROTOCOL)
