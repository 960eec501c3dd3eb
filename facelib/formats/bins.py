"""InsightFace `.bin` benchmarks: a pickle of `(images, same)`, read without trusting it.

    images  list of 2·P encoded images (JPEG or PNG): pair p is images[2p] and images[2p + 1];
            each is bytes, or a uint8 array of the same bytes (files written through mxnet)
    same    list of P bools: do the two images show one person?

A pickle is a program. The unpickler here can build lists, tuples, bytes, strings, numbers and
plain numeric arrays, and refuses every other name, so opening a hostile file runs nothing.
"""

import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facelib.errors import BadData, UserError
from facelib.paths import atomic_file

PLAIN_DTYPE = re.compile(r"[<>|=]?(\?|b1|[iuf][1248])")
# Protocol 3 keeps bytes as bytes and is read by every Python 3; InsightFace needs no more.
PROTOCOL = 3


class _Rebuild:
    """A callable that a pickle may use; no attribute can be set on it (BUILD opcode)."""

    __slots__ = ()

    def __call__(self, *args: Any) -> Any:
        raise pickle.UnpicklingError(f"called {type(self).__name__} with {args}"[:200])


class _Ndarray(_Rebuild):
    """Stands for `numpy.ndarray`: an argument of `_reconstruct`, itself never built."""

    __slots__ = ()


class _Dtype(_Rebuild):
    __slots__ = ()

    def __call__(self, name: str | bytes, *flags: Any) -> np.dtype:
        name = name.decode("ascii") if isinstance(name, bytes) else name
        if not isinstance(name, str) or not PLAIN_DTYPE.fullmatch(name):
            raise pickle.UnpicklingError(f"array of type {name!r}, allowed are plain numbers")
        return np.dtype(name)


class _Reconstruct(_Rebuild):
    __slots__ = ()

    def __call__(self, kind: Any, shape: Any, code: Any) -> np.ndarray:
        # Pickled arrays start empty; another shape would only reserve memory.
        if not isinstance(kind, _Ndarray) or shape != (0,):
            raise pickle.UnpicklingError("an array subclass, allowed is numpy.ndarray")
        return np.empty(0, dtype=np.uint8)


class _FromBuffer(_Rebuild):
    """How protocol 5 stores an array."""

    __slots__ = ()

    def __call__(self, content: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
        if not isinstance(dtype, np.dtype) or not isinstance(content, bytes | bytearray):
            raise pickle.UnpicklingError("an array that holds no plain numbers")
        return np.frombuffer(content, dtype=dtype).reshape(shape, order=order)


class _Scalar(_Rebuild):
    __slots__ = ()

    def __call__(self, dtype: Any, value: bytes) -> Any:
        if not isinstance(dtype, np.dtype) or not isinstance(value, bytes):
            raise pickle.UnpicklingError("a scalar that is no number")
        return np.frombuffer(value, dtype=dtype)[0]


class _Latin1(_Rebuild):
    """`_codecs.encode`, which Python 3 uses for bytes in protocols 0 to 2."""

    __slots__ = ()

    def __call__(self, text: str, codec: str = "latin1") -> bytes:
        if codec not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError(f"codec {codec!r}, allowed is latin1")
        return text.encode("latin1")


class _EmptyBytes(_Rebuild):
    """`bytes()`, which Python 3 uses for b"" in protocols 0 to 2."""

    __slots__ = ()

    def __call__(self) -> bytes:
        return b""


_NUMPY_CORES = ("numpy.core", "numpy._core")  # before and since numpy 2
ALLOWED = {
    ("numpy", "ndarray"): _Ndarray(),
    ("numpy", "dtype"): _Dtype(),
    ("_codecs", "encode"): _Latin1(),
    ("builtins", "bytes"): _EmptyBytes(),
    ("__builtin__", "bytes"): _EmptyBytes(),
} | {
    (f"{core}.{module}", name): rebuild
    for core in _NUMPY_CORES
    for module, name, rebuild in (
        ("multiarray", "_reconstruct", _Reconstruct()),
        ("multiarray", "scalar", _Scalar()),
        ("numeric", "_frombuffer", _FromBuffer()),
    )
}


class SafeUnpickler(pickle.Unpickler):
    """Unpickler of plain data: any global outside `ALLOWED` is refused by name."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise BadData(
                f"asks for `{module}.{name}`, which a benchmark does not need: the file is not an"
                " InsightFace .bin, or is hostile; nothing was run, do not open it elsewhere"
            )
        return ALLOWED[module, name]


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
    try:
        with open(path, "rb") as file:
            content = SafeUnpickler(file, encoding="bytes").load()
    except BadData as error:
        raise BadData(f"{path}: {error}") from None
    except Exception as error:  # a damaged pickle raises nearly anything
        raise BadData(
            f"{path}: not a readable pickle of (images, same):"
            f" {type(error).__name__}: {error}; it is truncated or damaged, copy it again"
        ) from None
    if not isinstance(content, tuple | list) or len(content) != 2:
        raise BadData(f"{path}: holds a {type(content).__name__}, wanted (images, same)")
    images, same = content
    if not all(isinstance(part, list | tuple | np.ndarray) for part in content):
        kinds = f"({type(images).__name__}, {type(same).__name__})"
        raise BadData(f"{path}: holds {kinds}, wanted (list of images, list of bools)")
    if len(images) != 2 * len(same) or len(same) == 0:
        raise BadData(
            f"{path}: {len(images)} images and {len(same)} pairs, wanted two images a pair;"
            " the file is damaged or was written wrongly: make it again"
        )
    return [_as_bytes(image, f"{path}: image {i}") for i, image in enumerate(images)], _as_bools(
        same, path
    )


def _as_bytes(image: Any, where: str) -> bytes:
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        return image.tobytes()
    if not isinstance(image, bytes):
        raise BadData(f"{where} is a {type(image).__name__}, wanted encoded bytes")
    return image


def _as_bools(same: Sequence, path: Path) -> np.ndarray:
    for i, value in enumerate(same):
        if not isinstance(value, bool | int | np.bool_ | np.integer) or value not in (0, 1):
            raise BadData(f"{path}: pair {i} is marked {value!r}, wanted True or False")
    return np.array(same, dtype=bool)


def write_bin(path: Path, images: Sequence[bytes], same: Sequence[bool]) -> None:
    """Write a benchmark that InsightFace's own code reads; it appears only when complete."""
    if len(images) != 2 * len(same):
        raise UserError(f"{path}: {len(images)} images for {len(same)} pairs, wanted two a pair")
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
        content = ([bytes(image) for image in images], [bool(value) for value in same])
        pickle.dump(content, file, protocol=PROTOCOL)
