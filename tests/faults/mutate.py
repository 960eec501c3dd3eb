"""Seeded changes of a file's bytes, and of what lies inside archives, JSON and safetensors."""

import copy
import io
import json
import random
import re
import struct
import zipfile
from collections.abc import Callable

Change = Callable[[bytes, random.Random], bytes]

TOKENS = (
    b"\0", b"\xff", b"\xff\xff\xff\x7f", b"\xff" * 8, b"\n", b"\r\n", b"\x85", b"\xe9",
    "\u2028".encode(), "²".encode(), b",", b"\t", b" ", b"../../", b"/", b"\\", b'"', b"'",
    b"-1", b"nan", b"1e999", b"99999999999999999999", b"true", b"null", b"{}", b"[]", b'"x"',
    b"[" * 200, b"PK\x03\x04", b"\x0a\x23\xd7\xce",  # a zip's and a record's magic
    b"\x80\x04", b"(", b"]", b"}", b"R", b"b", b"cnumpy\ndtype\n", b"\x94", b"2\x86",  # pickle
)  # fmt: skip
NUMBERS = (b"0", b"1", b"-1", b"7", b"65536", b"2147483648", b"9" * 18, b"9" * 40, b"1e400", b"x")
VALUES = (
    None, True, False, 0, -1, 3, 1.5, 10**12, 10**30, float("nan"), float("inf"), "", "x", "a\nb",
    "\u2028", "../..", "\ud800", [], {}, [[]], [1], ["a", None], {"a": 1}, {"": []},
)  # fmt: skip


def in_bytes(content: bytes, rng: random.Random) -> bytes:
    """One to eight changes: bytes flipped, cut, doubled, moved, a token or number put in."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at, length = rng.randrange(len(data) + 1), 1 + rng.randrange(16)
        kind = rng.randrange(8)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at : at + length] = rng.randbytes(length)
        elif kind == 2:
            del data[at : at + length * rng.choice((1, 1, 50))]
        elif kind == 3:
            data[at:at] = data[at : at + length] * rng.choice((1, 2, 20))
        elif kind == 4:
            data[at:at] = rng.choice(TOKENS)
        elif kind == 5:
            data[at : at + length] = rng.choice(TOKENS)
        elif kind == 6 and (found := list(re.finditer(rb"\d+", data))):
            number = rng.choice(found)
            data[number.start() : number.end()] = rng.choice(NUMBERS)
        else:
            del data[at:]
    return bytes(data)


def in_archive(content: bytes, rng: random.Random) -> bytes:
    """One member changed and the archive written anew: its checksums are right."""
    members = unpacked(content)
    name = rng.choice(list(members))
    members[name] = in_bytes(members[name], rng)
    if rng.random() < 0.1:
        del members[rng.choice(list(members))]
    return packed(members)


def unpacked(content: bytes) -> dict[str, bytes]:
    """The members of an archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {one.filename: archive.read(one) for one in archive.infolist()}


def packed(members: dict[str, bytes]) -> bytes:
    """An archive without dates: the same bytes each time."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, member in members.items():
            archive.writestr(zipfile.ZipInfo(name), member)
    return out.getvalue()


def in_json(content: bytes, rng: random.Random) -> bytes:
    """One value of a JSON text, or of a line of one, replaced by another or removed."""
    lines = [content]
    if content.count(b"\n") > 1 and content.startswith(b'{"'):
        lines = content.splitlines()
    row = rng.randrange(len(lines))
    tree = [json.loads(lines[row])]
    for _ in range(rng.choice((1, 1, 2))):
        holder, key = rng.choice(list(_places(tree)))
        if isinstance(holder, dict) and rng.random() < 0.3:
            del holder[key]
        else:
            holder[key] = copy.deepcopy(rng.choice(VALUES))
    lines[row] = json.dumps(tree[0]).encode()
    return b"\n".join(lines)


def in_safetensors(content: bytes, rng: random.Random) -> bytes:
    """A value of the header changed, its length put right."""
    (length,) = struct.unpack_from("<Q", content)
    header = in_json(content[8 : 8 + length], rng)
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


def _places(value: list | dict):
    """Every (holder, key) of a tree."""
    for key, below in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key
        if isinstance(below, list | dict):
            yield from _places(below)
