"""RecordIO face records in pure Python: the format of InsightFace's training sets.

The bytes of a record are described in `facelib/formats/record_bytes.py`. `train.idx` is text, one
line per record in the order on disk: `key<TAB>byte offset`.

A face set (InsightFace's `face2rec2`) holds, in the order on disk: the images with keys
1 … n, label = identity; record 0 with labels `[n + 1, end]`; the identity records n + 1 … end − 1
with labels `[first image key, last image key + 1]`. `property` holds `identities,height,width`.
Order on disk is not key order: always go through `train.idx`.
"""

import logging
import mmap
import struct
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from facelib.errors import BadData, UserError
from facelib.formats.record_bytes import (
    FRAME,
    HEADER,
    LENGTH_MASK,
    MAGIC,
    Header,
    MappedFile,
    frame,
    pack,
    read_record,
    unpack,
)
from facelib.formats.record_index import find_rec, read_index, rebuild_hint, rec_file
from facelib.paths import atomic_file
from facelib.safety.readers import one_line

__all__ = [
    "Header",
    "RecordReader",
    "RecordWriter",
    "pack",
    "unpack",
    "write_face_records",
    "write_text",
]

log = logging.getLogger(__name__)

PARTIAL = ", or train on the records that are whole with: skip_bad=true"
FLOAT32_EXACT = 1 << 24  # record 0 stores record numbers as float32
CHUNK = 1 << 18  # records whose headers are looked at together
WORD = struct.unpack("<I", MAGIC)[0]


def _sorted_index(idx_path: Path) -> tuple[np.ndarray, np.ndarray]:
    keys, offsets = read_index(idx_path)
    order = np.argsort(keys, kind="stable")
    return keys[order], offsets[order]


class RecordReader:
    """Random access to the records of a `.rec` file by the keys of its `.idx` file.

    Args:
        rec_path: the `.rec` file, or a folder, see `find_rec`.
        idx_path: the index, by default beside the records.
        partial: of a truncated file, read the records that are whole, with a warning.

    Attributes:
        keys: int64 (N,), ascending.
        offsets: int64 (N,), byte offset of each key.

    Raises:
        BadData: a file is missing, empty, truncated or malformed, or the index points past the end.
    """

    def __init__(
        self,
        rec_path: Path,
        idx_path: Path | None = None,
        partial: bool = False,
    ):
        self.rec_path = find_rec(rec_path)
        self.idx_path = Path(idx_path) if idx_path else self.rec_path.with_suffix(".idx")
        if not self.rec_path.is_file():
            if others := sorted(Path(rec_path).glob("*.rec")):
                raise BadData(
                    f"{rec_path}: holds {', '.join(path.name for path in others)}, and one set is"
                    f" wanted: name it, e.g. {others[0]}"
                )
            raise BadData(
                f"{self.rec_path}: no such file; wanted a face set: make one from a folder of"
                " images with: python -m facelib prepare --help"
            )
        if not self.idx_path.is_file():
            raise BadData(f"{self.idx_path}: no such file{rebuild_hint(self.rec_path)}")
        self.size, self.partial = self.rec_path.stat().st_size, partial
        self.keys, self.offsets = _sorted_index(self.idx_path)
        self._check_end()
        # A dense index (the normal case) needs no search.
        self._first = int(self.keys[0])
        self._dense = int(self.keys[-1]) - self._first + 1 == len(self.keys)
        self.file = MappedFile(self.rec_path)

    def _check_end(self) -> None:
        """A truncated copy is noticed at once: an error, or what is behind its end is left out."""
        file = MappedFile(self.rec_path) if self.size else None
        whole = self.offsets + FRAME.size + HEADER.size <= self.size
        last = self.offsets == self.offsets[whole].max(initial=-1)
        if file and last.any():
            try:
                file.read(int(self.offsets[last][0]), self.where(self.keys[last][0]))
            except BadData as error:
                if not self.partial:
                    raise BadData(f"{error}{self._way_out(file, self.offsets[whole])}") from None
                whole &= ~last
        lost = np.flatnonzero(~whole)
        if len(lost) == 0:
            return
        where = (
            f"{self.rec_path}: {self.size} bytes, but {self.idx_path.name} puts record"
            f" {self.keys[lost[0]]} at byte {self.offsets[lost[0]]} ({len(lost)} of"
            f" {len(whole)} records are cut off)"
        )
        if not self.partial or not whole.any():
            raise BadData(f"{where}; copy both files again{PARTIAL if whole.any() else ''}")
        log.warning("%s: they are left out", where)
        self.size = min(self.size, int(self.offsets[lost].min()))  # of what can be read
        self.keys, self.offsets = self.keys[whole], self.offsets[whole]

    def _way_out(self, file: MappedFile, offsets: np.ndarray) -> str:
        """What to do about a bad end: leave it out, or make an index anew that fits nowhere."""
        some = offsets[:: max(1, len(offsets) // 64)].tolist()
        fits = [file.map[at : at + len(MAGIC)] == MAGIC for at in some]
        return PARTIAL if 2 * sum(fits) > len(fits) else rebuild_hint(self.rec_path)

    def __len__(self) -> int:
        return len(self.keys)

    def offset(self, key: int) -> int:
        """Byte offset of record `key`; BadData if the index does not have it."""
        place = key - self._first if self._dense else int(np.searchsorted(self.keys, key))
        if not 0 <= place < len(self.keys) or self.keys[place] != key:
            raise BadData(
                f"{self.idx_path}: no record {key}; it has {len(self.keys)} records,"
                f" {self.keys[0]} … {self.keys[-1]}"
            )
        return int(self.offsets[place])

    def read(self, key: int) -> bytes:
        """Return the record (header, labels and payload) with this key, its parts joined."""
        return self.file.read(self.offset(key), self.where(key))

    def where(self, key: int) -> str:
        """What an error calls this record."""
        return f"{self.rec_path}: record {key}"

    def header(self, key: int) -> Header:
        """Return the header of record `key`."""
        return unpack(self.read(key), self.where(key))[0]

    def has_picture(self, key: int) -> bool:
        """False for a record of labels alone: record 0 and the identity records."""
        return len(unpack(self.read(key), self.where(key))[1]) > 0

    def survey(self) -> tuple[np.ndarray, int]:
        """`has_picture` of every key, bool (N,), and how many bytes of the file have no key."""
        data = np.frombuffer(self.file.map, dtype=np.uint8)
        found, sizes = np.empty(len(self), dtype=bool), np.empty(len(self), dtype=np.int64)
        for start in range(0, len(self), CHUNK):
            part = slice(start, start + CHUNK)
            at = self.offsets[part]
            flag, length = (self._words(data, at, shift).astype(np.int64) for shift in (8, 4))
            found[part] = length > HEADER.size + 4 * flag
            sizes[part] = FRAME.size + length + -length % 4
            # Cut by the magic number, or damaged: joined by the reader (or a clear error).
            odd = (length > LENGTH_MASK) | (self._words(data, at, 0) != WORD)
            for i in (start + np.flatnonzero(odd)).tolist():
                where, offset = self.where(int(self.keys[i])), int(self.offsets[i])
                record, following = read_record(self.file.map, offset, where)
                found[i], sizes[i] = len(unpack(record, where)[1]) > 0, following - offset
        once = np.unique(self.offsets, return_index=True)[1]
        return found, self.size - int(sizes[once].sum())

    def announce(self, keys: np.ndarray) -> None:
        """Say which records are read next, so that a cold disk fetches many of them at once."""
        if not hasattr(mmap, "MADV_WILLNEED"):  # Windows
            return
        places = self.offsets[np.searchsorted(self.keys, keys)]
        for page in np.unique(places // mmap.PAGESIZE).tolist():
            self.file.map.madvise(mmap.MADV_WILLNEED, page * mmap.PAGESIZE, mmap.PAGESIZE)

    def first_labels(self, keys: np.ndarray) -> np.ndarray:
        """First label of each record, float64 (len(keys),), read from the map without a copy.

        This touches one memory page a record: on a cold 30 GB file that is the disk's speed.
        """
        places = np.searchsorted(self.keys, keys)
        if len(keys) and (places.max() >= len(self.keys) or np.any(self.keys[places] != keys)):
            missing = next(key for key in keys if key not in self.keys)
            self.offset(int(missing))
        data = np.frombuffer(self.file.map, dtype=np.uint8)
        labels = np.empty(len(keys))
        for start in range(0, len(keys), CHUNK):
            chunk = slice(start, start + CHUNK)
            labels[chunk] = self._gather_labels(data, keys[chunk], self.offsets[places[chunk]])
        return labels

    def _words(self, data: np.ndarray, at: np.ndarray, shift: int, kind: str = "<u4") -> np.ndarray:
        spot = np.minimum(at + shift, self.size - 4)[:, None] + np.arange(4)
        return data[spot].view(kind)[:, 0]

    def _gather_labels(self, data: np.ndarray, keys: np.ndarray, at: np.ndarray) -> np.ndarray:
        flag, length = self._words(data, at, 8), self._words(data, at, 4) & LENGTH_MASK
        single = self._words(data, at, 12, "<f4")
        labels = np.where(flag == 0, single, self._words(data, at, 8 + HEADER.size, "<f4"))
        labels = labels.astype(float)
        # A bad frame, or a header cut by the magic: read it properly (or fail with a clear error).
        odd = (self._words(data, at, 0) != WORD) | (length < HEADER.size + 4)
        for i in np.flatnonzero(odd):
            labels[i] = np.ravel(self.header(int(keys[i])).label)[0]
        return labels


class RecordWriter:
    """Context manager that writes a `.rec` file and its `.idx`; both appear only on success.

    Args:
        path: the `.rec` file, or a folder that gets `train.rec` and `train.idx`.
    """

    def __init__(self, path: Path):
        self.rec_path = rec_file(path)
        self.idx_path = self.rec_path.with_suffix(".idx")
        self._keys: set[int] = set()
        self._at = 0

    def __enter__(self) -> "RecordWriter":
        # Left in reverse: close both, drop an old index, name the .rec, name the .idx. So a new
        # .rec is never beside an old .idx, and after an error neither appears.
        self._files = ExitStack()
        idx = self._files.enter_context(atomic_file(self.idx_path))
        rec = self._files.enter_context(atomic_file(self.rec_path))
        self._files.push(self._drop_old_index)
        self._idx = self._files.enter_context(open(idx, "w"))
        self._rec = self._files.enter_context(open(rec, "wb"))
        return self

    def _drop_old_index(self, error_type: type | None, *_) -> None:
        if error_type is None:
            self.idx_path.unlink(missing_ok=True)

    def write(self, key: int, record: bytes) -> None:
        """Append a packed record under `key`."""
        if key in self._keys:
            raise UserError(f"{self.rec_path}: key {key} is written twice")
        self._keys.add(key)
        framed = frame(record)
        self._rec.write(framed)
        self._idx.write(f"{key}\t{self._at}\n")
        self._at += len(framed)

    def __exit__(self, *error) -> None:
        self._files.__exit__(*error)


def write_face_records(
    folder: Path,
    images: Iterable[tuple[int, bytes]],
    size: tuple[int, int] = (112, 112),
    names: list[str] | None = None,
) -> None:
    """Write train.rec, train.idx, property and names.txt as InsightFace's `face2rec2` does.

    Args:
        folder: made if absent.
        images: (label, encoded image); labels 0, 1, 2 …, the images of a label in a row.
        size: (height, width) for `property`.
        names: one a label, line number = label.

    Raises:
        UserError: labels out of order, a wrong number of names, more records than float32 counts.
    """
    folder = Path(folder)
    starts: list[int] = []
    key = 0
    with RecordWriter(folder) as writer:
        for key, (label, image) in enumerate(images, start=1):
            if label == len(starts):
                starts.append(key)
            elif label != len(starts) - 1:
                wanted = f"{len(starts) - 1} or {len(starts)}"
                raise UserError(f"image {key} has label {label}, wanted {wanted}")
            writer.write(key, pack(Header(0, label, key, 0), image))
        end = key + 1 + len(starts)
        if end > FLOAT32_EXACT:
            raise UserError(f"{end} records; record 0 counts in float32, exact to {FLOAT32_EXACT}")
        if names is not None and len(names) != len(starts):
            raise UserError(f"{len(names)} names for {len(starts)} identities")
        if broken := [name for name in names or () if not one_line(name)]:
            raise UserError(f"name {broken[0]!r} has a line break: names.txt has one name per line")
        writer.write(0, pack(Header(2, [key + 1, end], 0, 0), b""))
        bounds = [*starts, key + 1]
        for label in range(len(starts)):
            number = key + 1 + label
            writer.write(number, pack(Header(2, bounds[label : label + 2], number, 0), b""))
        write_text(folder / "property", f"{len(starts)},{size[0]},{size[1]}\n")
        if names is not None:
            write_text(folder / "names.txt", "".join(f"{name}\n" for name in names))


def write_text(path: Path, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
