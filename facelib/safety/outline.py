"""The outline of a weights file: its names and shapes, read without torch and without its tensors.

`torch.load`, data only, refuses a name or an opcode that it does not know, seconds after a
command began: torch must be imported first. This pass over the file's pickle knows the same names
and opcodes, calls nothing, and takes memory in proportion to the pickle.
"""

import mmap
import pickletools
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LARGEST = 64 << 20  # bytes of a pickle: it holds names and shapes
SMALL = 1 << 24  # elements that any file may ask for
DEEPEST, MOST = 5, 1_000_000  # dicts in dicts, and names, that are looked at
# What torch's own unpickler of weights knows; `tests/safety/test_outline.py` compares.
NAMES = re.compile(
    r"collections\.(OrderedDict|Counter)|_codecs\.encode|builtins\.(bytearray|set|complex)"
    r"|torch\.(Size|Tensor|device|nn\.parameter\.Parameter|serialization\._get_layout)"
    r"|torch\.(u?int\d+|b?float\d\w*|b?complex\d+|bits\w+|bool|q(u?)int\d\w*|per_\w+ne|per_\w+ric"
    r"|per_\w+_qparams)"
    r"|torch\.(cuda\.)?(sparse\.)?[A-Z]\w+(Storage|Tensor)|torch\.storage\.(Unt|T)ypedStorage"
    r"|torch\._tensor\._rebuild_from_type_v2|torch\._utils\._rebuild_\w+"
)
PYTHON2 = {"__builtin__": "builtins"}
PLAIN = {
    "NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": (),
}  # fmt: skip
VALUES = {"BININT", "BININT1", "BININT2", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING", "LONG1"}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
OTHERS = {
    "PROTO", "STOP", "GLOBAL", "NEWOBJ", "REDUCE", "BUILD", "APPEND", "APPENDS", "SETITEM",
    "SETITEMS", "MARK", "TUPLE", "EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET", "BINPERSID", "BINGET",
    "LONG_BINGET", "BINPUT", "LONG_BINPUT",
}  # fmt: skip
BYTES = {f"torch.{name}Storage": size for name, size in {
    "ComplexDouble": 16, "ComplexFloat": 8, "Double": 8, "Long": 8, "Float": 4, "Int": 4, "Half": 2,
    "BFloat16": 2, "Short": 2}.items()}  # fmt: skip
KNOWN = {*PLAIN, *VALUES, *TUPLES, *OTHERS}


@dataclass(frozen=True)
class Tensor:
    """Stands for a tensor of a file; the shape is () where the file's way to say it is unknown."""

    shape: tuple = ()


@dataclass(frozen=True)
class Storage:
    """Stands for the numbers of one or more tensors."""

    elements: int


@dataclass(frozen=True)
class Thing:
    """Stands for anything else that is no plain value: a name, a type."""

    name: str


def outline_of(path: Path) -> Any:
    """What a weights file holds: dicts, lists and plain values, and `Tensor` for each tensor.

    Raises:
        ValueError, IndexError, KeyError, TypeError: not what torch would read.
    """
    if not zipfile.is_zipfile(path):
        return _outline_of_old(path)
    with zipfile.ZipFile(path) as archive:
        sizes = {one.filename: one.file_size for one in archive.infolist()}
        root = next(iter(sizes), "").partition("/")[0] + "/"
        if len(sizes) < len(archive.infolist()) or not all(n.startswith(root) for n in sizes):
            raise ValueError("entries of one name, or beside the archive's folder")
        lacks = [name for name in ("data.pkl", "version") if root + name not in sizes
                 and f"{root}.data/{name}" not in sizes]  # fmt: skip
        if lacks or sizes[f"{root}data.pkl"] > LARGEST:
            raise ValueError(f"no entry {lacks[0]}" if lacks else "names of more than 64 MB")
        place = f"{root}data/"
        storages = {k.removeprefix(place): v for k, v in sizes.items() if k.startswith(place)}
        return _Outline(archive.read(f"{root}data.pkl"), storages).read()


def _outline_of_old(path: Path) -> Any:
    """Of a file of PyTorch before 1.6: pickles of magic, version, machine, object, keys."""
    # A map gives the bytes that are there; a file first makes room for as many as it is asked for.
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for _ in range(3):
            _Outline(content, None).read()
        found = _Outline(content, None, len(content)).read()
        _Outline(content, None, len(content)).read()
        return found


def flat(state: Mapping, kind: type, before: str = "", depth: int = 0, seen: set | None = None
         ) -> Iterator[tuple[str, Any]]:  # fmt: skip
    """(dotted name, value) of each value of a kind in dicts in dicts; a dict counts once.

    Ten dicts of a thousand entries that are all the next one have 10³⁰ names.
    """
    seen = set() if seen is None else seen
    if id(state) in seen:
        return
    seen.add(id(state))
    for key, value in state.items():
        if isinstance(value, kind):
            yield f"{before}{key}", value
        elif isinstance(value, dict) and depth < DEEPEST:
            yield from flat(value, kind, f"{before}{key}.", depth + 1, seen)


class _Outline:
    """One pass over a pickle. `storages`: bytes of each storage; None: it lies behind the pickle.

    `most`: the largest number that may stand in it (elements, of an older file).
    """

    def __init__(self, content: Any, storages: dict[str, int] | None, most: int | None = None):
        self.content, self.storages, self.most = content, storages, most and max(most, SMALL)
        self.stack: list = []
        self.outer: list[list] = []
        self.memo: dict[int, Any] = {}

    def read(self) -> Any:
        for code, value, at in pickletools.genops(self.content):
            if code.name not in KNOWN:
                raise ValueError(f"byte {at}: opcode {code.name}, which weights do not need")
            if self.most and isinstance(value, int) and value > self.most:
                raise ValueError(f"byte {at}: names {value:,} elements")
            if code.name in PLAIN or code.name in VALUES:
                self.stack.append(PLAIN.get(code.name, value))
            elif code.name in TUPLES:
                self._tuple(TUPLES[code.name])
            elif code.name.startswith("EMPTY_"):
                self.stack.append([] if code.name == "EMPTY_LIST" else {})
            elif code.name.endswith(("PUT", "GET")):
                self._remember(code.name, value)
            elif code.name == "GLOBAL":
                self._name(value, at)
            else:
                getattr(self, f"_{code.name.lower()}")()
        return self.stack.pop()

    def _tuple(self, count: int = 0) -> None:
        if not count:  # TUPLE
            items, self.stack = self.stack, self.outer.pop()
            return self.stack.append(tuple(items))
        items = [self.stack.pop() for _ in range(count)]
        self.stack.append(tuple(reversed(items)))

    def _remember(self, name: str, index: int) -> None:
        if name.endswith("PUT"):
            self.memo[index] = self.stack[-1]
        else:
            self.stack.append(self.memo[index])

    def _name(self, value: str, at: int) -> None:
        module, _, name = value.partition(" ")
        full = f"{PYTHON2.get(module, module)}.{name}"
        if not NAMES.fullmatch(full):
            raise ValueError(
                f"byte {at} holds {full[:60]}, which weights do not need (nothing was run): "
                "where you trust it, save the network's state_dict() alone"
            )
        self.stack.append(Thing(full))

    def _proto(self) -> None:
        pass

    _stop = _proto

    def _mark(self) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def _above(self) -> list:
        items, self.stack = self.stack, self.outer.pop()
        return items

    def _append(self) -> None:
        item = self.stack.pop()
        self._list().append(item)

    def _appends(self) -> None:
        items = self._above()
        self._list().extend(items)

    def _list(self) -> list:
        if type(self.stack[-1]) is not list:
            raise ValueError("items for what is no list")
        return self.stack[-1]

    def _setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.stack[-1][key] = value

    def _setitems(self) -> None:
        items = self._above()
        for key, value in zip(items[::2], items[1::2], strict=True):
            self.stack[-1][key] = value

    def _build(self) -> None:
        self.stack.pop()

    def _newobj(self) -> None:
        self._reduce()

    def _reduce(self) -> None:
        args, called = self.stack.pop(), self.stack.pop()
        if type(called) is not Thing or type(args) is not tuple:
            raise ValueError("a call of what is no name")
        self.stack.append(_call(called.name, args))

    def _binpersid(self) -> None:
        key = self.stack.pop()
        if type(key) is not tuple or len(key) < 5 or key[0] != "storage":
            raise ValueError("a reference to what is no storage")
        held = None if self.storages is None else self.storages.get(str(key[2]), -1)
        count = key[4] * BYTES.get(getattr(key[1], "name", ""), 1) if _natural(key[4]) else -1
        if count < 0 or (held is not None and count > held):
            raise ValueError(f"a storage of {str(key[4])[:20]} elements in {held} bytes")
        self.stack.append(Storage(key[4]))


def _call(name: str, args: tuple) -> Any:
    """What a call of a known name gives, without calling it."""
    last = name.rpartition(".")[2]
    if last == "_rebuild_from_type_v2":  # (function, type, its arguments, state)
        return _call(args[0].name, args[2])
    if last.startswith("_rebuild_parameter") or last == "Parameter":
        return args[0]
    if last.startswith("_rebuild_tensor"):  # (storage, offset, size, stride, …)
        return _tensor(*args[:4])
    if last.startswith("_rebuild"):
        return Tensor()
    if last == "Size":
        return args[0]
    return {} if last in ("OrderedDict", "Counter", "set") else Thing(name)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any) -> Tensor:
    """A tensor whose numbers all lie inside its storage."""
    plain = type(storage) is Storage and all(map(_natural, (offset, *size, *stride)))
    if not plain or len(size) != len(stride):
        raise ValueError("a tensor of other arguments")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride))
    if 0 not in size and last >= storage.elements:
        raise ValueError(f"a tensor to number {last:,} of {storage.elements:,}")
    return Tensor(tuple(size))


def _natural(value: Any) -> bool:
    return type(value) is int and value >= 0
