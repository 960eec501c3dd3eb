"""A pickle of plain data, read without running it: an interpreter of its own for the opcodes.

A pickle is a program for a stack machine. Python's own can call what a file names and takes the
size of its memo from the file (10 bytes ask for 4 GB). This one builds lists, tuples, bytes, text
and numbers, and arrays that hold bytes of the file (`facelib/formats/pickled_arrays.py`).

    opcodes        those of protocols 0 to 5 that such data needs; the others are refused by name
    names          those that numpy and Python write for such data (`ALLOWED`)
    containers     at most `ROOM` + file size / 8, and as many memo entries; marks 64 deep
    integers       at most 8 bytes; whatever announces a length must lie inside the file

So memory and time are bounded by a small multiple of the file, whatever it holds. The reference
of the opcodes is Python's `pickletools.py`.
"""

import codecs
import pickle
import struct
from collections.abc import Callable
from typing import Any

from facelib.formats.pickled_arrays import ALLOWED, Array, Dtype, Name, Refused, kind_of

ROOM = 1024
DEEPEST = 64
LONGEST_NUMBER = 32  # characters of a number that is written as text
HIGHEST_PROTOCOL = 5
NAMES = {
    getattr(pickle, name)[0]: name
    for name in pickle.__all__
    if name.isupper() and isinstance(getattr(pickle, name), bytes) and name not in ("TRUE", "FALSE")
}


class PlainPickle:
    """One pass over a pickle. `load` returns its value or raises `Refused` with the offset.

    Args:
        data: the bytes, or a memory map.
    """

    def __init__(self, data: Any):
        self.data, self.size, self.at = data, len(data), 0
        self.stack: list = []
        self.outer: list[list] = []  # the stacks below the marks
        self.memo: dict[int, Any] = {}
        self.room, self.text_room = ROOM + self.size // 8, self.size

    def load(self) -> Any:
        """The value on top of the stack at STOP."""
        start, data, steps = 0, self.data, STEPS
        try:
            while True:
                start = self.at
                code = data[start]
                self.at = start + 1
                if code == 0x2E:  # STOP
                    return self.stack.pop()
                steps[code](self)
        except Refused as error:
            error.at = start
            raise
        except IndexError:
            ended = start >= self.size
            what = "the end of the file" if ended else f"{_opcode(code)} without its operands"
            found = Refused(what, "a whole pickle")
        except (ValueError, TypeError) as error:  # a number or text that is none
            found = Refused(f"{_opcode(code)}: {str(error)[:80]}", "plain data")
        found.at = start
        raise found

    def take(self, count: int) -> bytes:
        """The next bytes."""
        end = self.at + count
        if count < 0 or end > self.size:
            left = self.size - self.at
            raise Refused(f"{count} bytes announced and {left} left", "a whole file")
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def byte(self) -> int:
        """The next byte; IndexError at the end."""
        self.at += 1
        return self.data[self.at - 1]

    def line(self, longest: int | None = None) -> bytes:
        """Up to the next line break."""
        end = self.data.find(b"\n", self.at, *(() if longest is None else (self.at + longest,)))
        if end < 0:
            raise Refused("a line without an end", "a line break")
        taken = self.data[self.at : end]
        self.at = end + 1
        return taken

    def number(self) -> bytes:
        """A number that is written as text."""
        return self.line(LONGEST_NUMBER)

    def above_mark(self) -> list:
        """What was put on the stack since the last mark."""
        items, self.stack = self.stack, self.outer.pop()
        return items

    def container(self, value: list | tuple) -> None:
        """Put a new list or tuple on the stack, if the file's size allows one more."""
        self.room -= 1
        if self.room < 0:
            raise Refused(f"more lists and tuples than {self.size} bytes need", "(images, same)")
        self.stack.append(value)

    def keep(self, index: int) -> None:
        """Put the top of the stack into the memo."""
        if len(self.memo) > ROOM + self.size // 8:
            raise Refused("more references than the images need", "(images, same)")
        self.memo[index] = self.stack[-1]

    def recall(self, index: int) -> None:
        """Put an entry of the memo on the stack."""
        if index not in self.memo:
            raise Refused(f"a reference to object {index}", f"one of {len(self.memo)} so far")
        self.stack.append(self.memo[index])

    def call(self) -> None:
        """REDUCE: call an allowed name."""
        args, name = self.stack.pop(), self.stack.pop()
        if type(name) is not Name or name.call is None or type(args) is not tuple:
            raise Refused(f"a call of {kind_of(name)}", "one of numpy's constructors")
        self.stack.append(name.call(self, *args))

    def build(self) -> None:
        """BUILD: give an array or a dtype its state."""
        state, target = self.stack.pop(), self.stack[-1]
        if type(target) not in (Array, Dtype):
            raise Refused(f"attributes for {kind_of(target)}", "an array or dtype")
        target.set_state(state)

    def name(self, module: Any, name: Any) -> None:
        """GLOBAL: one of the names that plain data needs."""
        found = ALLOWED.get((module, name)) if type(module) is type(name) is str else None
        if found is None:
            raise Refused(f"the name `{_bare(module)}.{_bare(name)}`, which a benchmark does not"
                          " need: hostile, or no InsightFace .bin (nothing was run)",
                          "numpy arrays at most")  # fmt: skip
        self.stack.append(found)

    def extend(self, items: list) -> None:
        """APPEND, APPENDS."""
        if type(self.stack[-1]) is not list:
            raise Refused(f"items for {kind_of(self.stack[-1])}", "a list")
        self.stack[-1].extend(items)

    def open_mark(self) -> None:
        """MARK."""
        if len(self.outer) >= DEEPEST:
            raise Refused(f"{DEEPEST} marks inside each other", "(images, same)")
        self.outer.append(self.stack)
        self.stack = []


def _bare(text: Any) -> str:
    return repr(text[:40])[1:-1] if isinstance(text, str) else kind_of(text)


def _opcode(code: int) -> str:
    return f"opcode {NAMES.get(code, hex(code))}"


def _refuse(reader: PlainPickle) -> None:
    code = reader.data[reader.at - 1]
    raise Refused(_opcode(code), "lists, tuples, bytes, numbers and plain arrays")


def _protocol(reader: PlainPickle) -> None:
    if (found := reader.take(1)[0]) > HIGHEST_PROTOCOL:
        raise Refused(f"pickle protocol {found}", f"0 to {HIGHEST_PROTOCOL}")


def _frame(reader: PlainPickle) -> None:
    length = int.from_bytes(reader.take(8), "little")
    if length > reader.size - reader.at:
        raise Refused(f"a frame of {length} bytes and {reader.size - reader.at} left", "all of it")


def _int_line(reader: PlainPickle) -> None:
    text = reader.number()
    reader.stack.append(text == b"01" if text in (b"00", b"01") else int(text))


def _short(reader: PlainPickle) -> None:
    reader.stack.append(reader.take(reader.byte()))


def _counted(width: int) -> Callable[[PlainPickle], None]:
    """An opcode with a little-endian length of `width` bytes, then so many bytes."""

    def step(reader: PlainPickle) -> None:
        reader.stack.append(reader.take(int.from_bytes(reader.take(width), "little")))

    return step


def _text(width: int) -> Callable[[PlainPickle], None]:
    def step(reader: PlainPickle) -> None:
        taken = reader.take(int.from_bytes(reader.take(width), "little"))
        reader.stack.append(taken.decode("utf-8", "surrogatepass"))

    return step


def _fixed(form: str) -> Callable[[PlainPickle], None]:
    one = struct.Struct(form)

    def step(reader: PlainPickle) -> None:
        reader.stack.append(one.unpack(reader.take(one.size))[0])

    return step


def _long(width: int) -> Callable[[PlainPickle], None]:
    def step(reader: PlainPickle) -> None:
        length = int.from_bytes(reader.take(width), "little")
        if length > 8:
            raise Refused(f"a number of {length} bytes", "at most 8")
        reader.stack.append(int.from_bytes(reader.take(length), "little", signed=True))

    return step


def _quoted(reader: PlainPickle) -> None:
    """STRING: how Python 2 wrote bytes in protocol 0."""
    text = reader.line().strip()
    if len(text) < 2 or text[:1] != text[-1:] or text[:1] not in (b"'", b'"'):
        raise Refused("a string without quotes", "a quoted string")
    reader.stack.append(codecs.escape_decode(text[1:-1])[0])


def _tuple(count: int) -> Callable[[PlainPickle], None]:
    def step(reader: PlainPickle) -> None:
        if len(reader.stack) < count:
            raise IndexError
        items = tuple(reader.stack[-count:])
        del reader.stack[-count:]
        reader.container(items)

    return step


def _push(value: Any) -> Callable[[PlainPickle], None]:
    return lambda reader: reader.stack.append(value)


def _global(reader: PlainPickle) -> None:
    reader.name(reader.line().decode(), reader.line().decode())


def _stack_global(reader: PlainPickle) -> None:
    name, module = reader.stack.pop(), reader.stack.pop()
    reader.name(module, name)


STEPS: list[Callable[[PlainPickle], None]] = [_refuse] * 256
for _code, _step in {
    pickle.PROTO: _protocol,
    pickle.FRAME: _frame,
    pickle.MARK: PlainPickle.open_mark,
    pickle.POP: lambda reader: reader.stack.pop(),
    pickle.POP_MARK: PlainPickle.above_mark,
    pickle.DUP: lambda reader: reader.stack.append(reader.stack[-1]),
    pickle.NONE: _push(None),
    pickle.NEWTRUE: _push(True),
    pickle.NEWFALSE: _push(False),
    pickle.EMPTY_TUPLE: _push(()),
    pickle.EMPTY_LIST: lambda reader: reader.container([]),
    pickle.LIST: lambda reader: reader.container(reader.above_mark()),
    pickle.TUPLE: lambda reader: reader.container(tuple(reader.above_mark())),
    pickle.TUPLE1: _tuple(1),
    pickle.TUPLE2: _tuple(2),
    pickle.TUPLE3: _tuple(3),
    pickle.APPEND: lambda reader: reader.extend([reader.stack.pop()]),
    pickle.APPENDS: lambda reader: reader.extend(reader.above_mark()),
    pickle.INT: _int_line,
    pickle.LONG: lambda reader: reader.stack.append(int(reader.number().rstrip(b"L"))),
    pickle.BININT: _fixed("<i"),
    pickle.BININT1: lambda reader: reader.stack.append(reader.byte()),
    pickle.BININT2: _fixed("<H"),
    pickle.LONG1: _long(1),
    pickle.LONG4: _long(4),
    pickle.FLOAT: lambda reader: reader.stack.append(float(reader.number())),
    pickle.BINFLOAT: _fixed(">d"),
    pickle.STRING: _quoted,
    pickle.BINSTRING: _counted(4),
    pickle.SHORT_BINSTRING: _short,
    pickle.BINBYTES: _counted(4),
    pickle.SHORT_BINBYTES: _short,
    pickle.BINBYTES8: _counted(8),
    pickle.BYTEARRAY8: _counted(8),
    pickle.UNICODE: lambda reader: reader.stack.append(str(reader.line(), "raw-unicode-escape")),
    pickle.BINUNICODE: _text(4),
    pickle.SHORT_BINUNICODE: _text(1),
    pickle.BINUNICODE8: _text(8),
    pickle.GLOBAL: _global,
    pickle.STACK_GLOBAL: _stack_global,
    pickle.REDUCE: PlainPickle.call,
    pickle.BUILD: PlainPickle.build,
    pickle.MEMOIZE: lambda reader: reader.keep(len(reader.memo)),
    pickle.PUT: lambda reader: reader.keep(int(reader.number())),
    pickle.BINPUT: lambda reader: reader.keep(reader.byte()),
    pickle.LONG_BINPUT: lambda reader: reader.keep(int.from_bytes(reader.take(4), "little")),
    pickle.GET: lambda reader: reader.recall(int(reader.number())),
    pickle.BINGET: lambda reader: reader.recall(reader.byte()),
    pickle.LONG_BINGET: lambda reader: reader.recall(int.from_bytes(reader.take(4), "little")),
}.items():
    STEPS[_code[0]] = _step
