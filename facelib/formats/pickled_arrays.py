"""Stand-ins for the arrays in a pickle: they accept what numpy writes, and hold bytes of the file.

A real `numpy.dtype` takes any state that a pickle gives it, shapes and flags included, and an array
of such a type reads and writes past its memory. So none is built from what a file says: `Dtype` is
a checked code, `Array` a checked shape over bytes.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

PLAIN_DTYPE = re.compile(r"[<>|=]?(\?|b1|[iu][1248]|f[248])")
OBJECT_DTYPE = re.compile(r"\|?O[48]?")
OBJECT_FLAGS = 63  # how numpy writes that an array holds Python objects


class Refused(Exception):
    """What a pickle holds at `at` is not plain data: found, wanted."""

    def __init__(self, found: str, wanted: str):
        super().__init__(found, wanted)
        self.found, self.wanted, self.at = found, wanted, 0


class Dtype:
    """Stands for `numpy.dtype`: a code such as `|u1`, or `O` for Python objects."""

    __slots__ = ("code",)

    def __init__(self, name: Any, *flags: Any):
        code = _plain_code(name) if type(name) in (str, bytes) and len(name) < 8 else None
        if code is None:
            raise Refused(f"an array of type {show(name)}", "plain numbers")
        self.code = code

    def set_state(self, state: Any) -> None:
        """Take what numpy writes: (version, byte order, no subarray, no names, no fields, …)."""
        flags = OBJECT_FLAGS if self.code == "O" else 0
        if type(state) is not tuple or len(state) != 8 or not all(x is None for x in state[2:5]):
            raise Refused("a dtype with parts", "a plain number type")
        version, order, *_, size, alignment, kind = state
        order = order.decode("latin1") if isinstance(order, bytes) else order
        plain = type(version) is int and isinstance(order, str) and order in ("<", ">", "|", "=")
        if not plain or not (is_int(size, -1) and is_int(alignment, -1) and is_int(kind, flags)):
            raise Refused("a dtype with other flags", "a plain number type")
        if self.code != "O":
            self.code = order + self.code.lstrip("<>|=")

    @property
    def size(self) -> int:
        """Bytes of one number; 0 for Python objects."""
        return 0 if self.code == "O" else _size(self.code)


@lru_cache
def _size(code: str) -> int:
    return np.dtype(code).itemsize


@lru_cache
def _plain_code(name: str | bytes) -> str | None:
    """The code of a type name; None where it is no plain type."""
    text = name.decode("latin1") if isinstance(name, bytes) else name
    if OBJECT_DTYPE.fullmatch(text):
        return "O"
    return text if PLAIN_DTYPE.fullmatch(text) else None


class Array:
    """Stands for `numpy.ndarray`: shape, dtype, and the bytes (or list of objects) it holds."""

    __slots__ = ("code", "content", "shape")

    def __init__(self):
        self.code, self.content, self.shape = "u1", b"", (0,)

    def set_state(self, state: Any) -> None:
        """Take what numpy writes: (1, shape, dtype, is it in Fortran's order?, content)."""
        if type(state) is not tuple or len(state) != 5:
            raise Refused("an array without its five parts", "numpy's own")
        _, shape, dtype, fortran, content = state
        self.fill(content, dtype, shape, fortran)

    def fill(self, content: Any, dtype: Any, shape: Any, fortran: Any) -> None:
        """Check that the content is what shape and dtype say, and hold it."""
        if type(shape) is not tuple or len(shape) > 2 or not all(type(n) is int for n in shape):
            raise Refused("an array with an odd shape", "at most two whole numbers")
        if type(dtype) is not Dtype or (len(shape) > 1 and fortran not in (False, 0, "C")):
            raise Refused("an array of another layout", "plain numbers in rows")
        wanted = bytes if dtype.size else list
        if type(content) is not wanted:
            raise Refused(f"an array that holds {kind_of(content)}", f"{wanted.__name__}")
        if min(shape, default=0) < 0 or prod(shape) * (dtype.size or 1) != len(content):
            raise Refused(f"an array of shape {show(shape)} over {len(content)} bytes or items",
                          "as many as its shape says")  # fmt: skip
        self.code, self.content, self.shape = dtype.code, content, shape

    def numbers(self) -> np.ndarray:
        """The numbers (N,) of a plain array, a read-only view."""
        return np.frombuffer(self.content, np.dtype(self.code))


class Name:
    """A name that a pickle may use: REDUCE calls it with the interpreter and the arguments."""

    __slots__ = ("call", "name")

    def __init__(self, name: str, call: Callable | None = None):
        self.name, self.call = name, call


def _reconstruct(reader: Any, kind: Any, shape: Any, code: Any) -> Array:
    if type(kind) is not Name or kind.name != "ndarray" or not is_zero(shape):
        raise Refused("an array subclass", "numpy.ndarray, empty at first")
    return Array()


def _from_buffer(reader: Any, content: Any, dtype: Any, shape: Any, order: Any) -> Array:
    array = Array()
    array.fill(content, dtype, shape, order)
    return array


def _scalar(reader: Any, dtype: Any, content: Any) -> bool | int | float:
    if type(dtype) is not Dtype or type(content) is not bytes or len(content) != dtype.size:
        raise Refused("a scalar that is no number", "a plain number")
    return np.frombuffer(content, np.dtype(dtype.code))[0].item()


def _latin1(reader: Any, text: Any, codec: Any = "latin1") -> bytes:
    """`_codecs.encode`, which Python 3 uses for bytes in protocols 0 to 2."""
    if not isinstance(text, str) or codec not in ("latin1", "latin-1"):
        raise Refused(f"codec {show(codec)}", "latin1")
    reader.text_room -= len(text)  # a text is written once and encoded once
    if reader.text_room < 0:
        raise Refused("more encoded bytes than the file is long", "each text encoded once")
    return text.encode("latin1")


ALLOWED = {
    ("numpy", "ndarray"): Name("ndarray"),
    ("numpy", "dtype"): Name("dtype", lambda reader, *args: Dtype(*args)),
    ("_codecs", "encode"): Name("encode", _latin1),
    ("builtins", "bytes"): Name("bytes", lambda reader: b""),  # b"" in protocols 0 to 2
    ("__builtin__", "bytes"): Name("bytes", lambda reader: b""),
} | {
    (f"numpy.{core}.{module}", name): Name(name, call)
    for core in ("core", "_core")  # before and since numpy 2
    for module, name, call in (
        ("multiarray", "_reconstruct", _reconstruct),
        ("multiarray", "scalar", _scalar),
        ("numeric", "_frombuffer", _from_buffer),
    )
}  # fmt: skip


def is_int(value: Any, wanted: int) -> bool:
    """Whether a value is this integer; True and 1.0 are not."""
    return type(value) is int and value == wanted


def is_zero(shape: Any) -> bool:
    """Whether a value is the tuple (0,)."""
    return type(shape) is tuple and len(shape) == 1 and is_int(shape[0], 0)


def kind_of(value: Any) -> str:
    """What to call a value in an error."""
    return "a " + {Array: "numpy array", Dtype: "dtype", Name: "name"}.get(
        type(value), type(value).__name__
    )


def show(value: Any) -> str:
    """A value in an error: short, on one line. Tuples of tuples can be endless: their type only."""
    if isinstance(value, str | bytes):
        return repr(value[:40])
    if type(value) is tuple and len(value) < 4 and all(type(n) is int for n in value):
        return repr(value)
    return repr(value) if type(value) in (bool, int, float) else kind_of(value)
