"""Bytes of RecordIO: frames, split records and the header of an image record.

A `.rec` file is a sequence of records, each one frame (or several, see below); all integers are
little-endian:

    offset  bytes  field
    0       4      magic 0xced7230a, on disk `0a 23 d7 ce`
    4       4      top 3 bits: part (0 whole, 1 first, 2 middle, 3 last); low 29 bits: length n
    8       n      payload
    8+n     0–3    zeros up to a multiple of 4

A payload that holds the magic at a multiple of 4 is cut there into parts: the magic itself is
dropped and the reader puts it back between the parts. So a scan for the magic finds only frames.

The payload of an image record:

    offset  bytes   field
    0       4       flag (uint32): number of labels that follow the header, 0 if there is one label
    4       4       label (float32) when flag = 0, else 0
    8       8       id (uint64), the record number
    16      8       id2 (uint64)
    24      4·flag  labels (float32)
    …       …       encoded image (JPEG), or nothing
"""

import mmap
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from facelib.errors import BadData, UserError

MAGIC = struct.pack("<I", 0xCED7230A)
FRAME = struct.Struct("<4sI")
HEADER = struct.Struct("<IfQQ")
WHOLE, FIRST, MIDDLE, LAST = range(4)
LENGTH_MASK = (1 << 29) - 1


class Header(NamedTuple):
    """Header of an image record; `label` is a float when flag = 0, else float32 (flag,)."""

    flag: int
    label: float | np.ndarray
    id: int
    id2: int


def pack(header: Header, payload: bytes) -> bytes:
    """Join header and payload to a record, byte for byte as `mxnet.recordio.pack` does.

    Args:
        header: with an array or list as label its size becomes the flag; a number gives flag 0.
        payload: encoded image, may be empty.
    """
    if np.ndim(header.label) == 0:
        return HEADER.pack(0, float(header.label), header.id, header.id2) + payload
    labels = np.asarray(header.label, dtype="<f4")
    return HEADER.pack(labels.size, 0.0, header.id, header.id2) + labels.tobytes() + payload


def unpack(record: bytes | memoryview, where: str = "record") -> tuple[Header, memoryview]:
    """Split a record into header and payload (a view, nothing is copied).

    Args:
        record: bytes as `RecordReader.read` gives them.
        where: what to call the record in an error.

    Raises:
        BadData: the record is shorter than its header and labels.
    """
    view = memoryview(record)
    if len(view) < HEADER.size:
        raise BadData(f"{where}: {len(view)} bytes, wanted at least {HEADER.size} of header")
    flag, label, id_, id2 = HEADER.unpack_from(view)
    if flag == 0:
        return Header(0, label, id_, id2), view[HEADER.size :]
    end = HEADER.size + 4 * flag
    if len(view) < end:
        raise BadData(f"{where}: {len(view)} bytes, wanted {end} for a header with {flag} labels")
    labels = np.frombuffer(view[HEADER.size : end], dtype="<f4")
    return Header(flag, labels, id_, id2), view[end:]


def frame(record: bytes) -> bytes:
    """Return the frame, or the frames, that hold `record` on disk."""
    if len(record) > LENGTH_MASK:
        raise UserError(f"a record of {len(record)} bytes, allowed are {LENGTH_MASK} (29 bits)")
    parts, start, cut = [], 0, record.find(MAGIC)
    while cut >= 0:
        if cut % 4 == 0:
            parts.append(record[start:cut])
            start = cut + 4
        cut = record.find(MAGIC, start if cut % 4 == 0 else cut + 1)
    parts.append(record[start:])
    kinds = [WHOLE] if len(parts) == 1 else [FIRST] + [MIDDLE] * (len(parts) - 2) + [LAST]
    return b"".join(
        FRAME.pack(MAGIC, kind << 29 | len(part)) + part + bytes(-len(part) % 4)
        for kind, part in zip(kinds, parts, strict=True)
    )


def read_record(data: mmap.mmap | bytes, offset: int, where: str) -> tuple[bytes, int]:
    """Read the record whose first frame is at `offset`; also return where the next one starts.

    Raises:
        BadData: no magic there, a part out of order, or the file ends inside the record.
    """
    parts: list[bytes] = []
    while True:
        head = data[offset : offset + FRAME.size]
        if len(head) < FRAME.size:
            raise BadData(f"{where}: the file ends at byte {len(data)} inside a frame header")
        magic, word = FRAME.unpack(head)
        if magic != MAGIC:
            raise BadData(
                f"{where}: bytes {magic.hex(' ')} at byte {offset}, wanted {MAGIC.hex(' ')};"
                " the file is damaged or the .idx belongs to another .rec: copy both again"
            )
        kind, length = word >> 29, word & LENGTH_MASK
        if kind not in ((MIDDLE, LAST) if parts else (WHOLE, FIRST)):
            raise BadData(f"{where}: part {kind} at byte {offset} does not follow; copy it again")
        part = data[offset + FRAME.size : offset + FRAME.size + length]
        if len(part) < length:
            raise BadData(
                f"{where}: truncated: wanted {length} bytes from byte {offset + FRAME.size},"
                f" found {len(part)}; copy the file again"
            )
        parts.append(part)
        offset += FRAME.size + length + -length % 4
        if kind in (WHOLE, LAST):
            return MAGIC.join(parts) if len(parts) > 1 else part, offset


class MappedFile:
    """A file as read-only memory, opened on first use.

    The map is left behind when this is pickled (the other process opens its own): safe in
    DataLoader workers, forked or spawned.
    """

    def __init__(self, path: Path):
        self.path = path
        self._map: mmap.mmap | None = None

    def __getstate__(self) -> dict:
        return {"path": self.path, "_map": None}

    @property
    def map(self) -> mmap.mmap:
        """The whole file."""
        if self._map is None:
            with open(self.path, "rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._map

    def read(self, offset: int, where: str) -> bytes:
        """The record at a byte offset, its parts joined; errors begin with `where`."""
        return read_record(self.map, offset, where)[0]
