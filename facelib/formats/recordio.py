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
import warnings
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
from facelib.paths import atomic_file
from facelib.safety.readers import one_line

__all__ = [
    "Header",
    "RecordReader",
    "RecordWriter",
    "pack",
    "read_index",
    "rebuild_index",
    "rec_file",
    "scan_records",
    "unpack",
    "write_face_records",
]

log = logging.getLogger(__name__)

FLOAT32_EXACT = 1 << 24  # record 0 stores record numbers as float32


def read_index(idx_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Parse `train.idx` to int64 keys (N,) and byte offsets (N,), in the order of the file.

    Raises:
        BadData: no line, a line that is not `integer<TAB>integer`, a key that occurs twice.
    """
    text = idx_path.read_bytes()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # numpy's "stopped before the end"
            numbers = np.fromstring(text, dtype=np.int64, sep=" ")
        keys, offsets = numbers.reshape(-1, 2).T.copy()
        lines = text.count(b"\n") + (not text.endswith(b"\n"))
    except (DeprecationWarning, ValueError):
        lines, keys, offsets = -1, np.empty(0, np.int64), np.empty(0, np.int64)
    if len(keys) == 0 or lines != len(keys) or keys.min() < 0 or offsets.min() < 0:
        raise BadData(f"{idx_path}: {_first_bad_line(text)}{_rebuild_hint(idx_path)}")
    repeated = len(keys) - len(np.unique(keys))
    if repeated:
        raise BadData(f"{idx_path}: {repeated} keys occur twice{_rebuild_hint(idx_path)}")
    return keys, offsets


def _sorted_index(idx_path: Path) -> tuple[np.ndarray, np.ndarray]:
    keys, offsets = read_index(idx_path)
    order = np.argsort(keys, kind="stable")
    return keys[order], offsets[order]


def _first_bad_line(text: bytes) -> str:
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split()
        if len(fields) != 2 or not all(field.isdigit() for field in fields):
            return f"line {number} is {line[:60]!r}, wanted key<TAB>byte offset"
    return "no records"


def _rebuild_hint(path: Path) -> str:
    rec = path.with_suffix(".rec")
    return f"; rebuild it with: python -m facelib inspect {rec} --rebuild-idx"


class RecordReader:
    """Random access to the records of a `.rec` file by the keys of its `.idx` file.

    Args:
        rec_path: the `.rec` file, or a folder that holds `train.rec`.
        idx_path: the index, by default beside the records.

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
    ):
        self.rec_path = rec_file(rec_path)
        self.idx_path = Path(idx_path) if idx_path else self.rec_path.with_suffix(".idx")
        if not self.rec_path.is_file():
            raise BadData(
                f"{self.rec_path}: no such file; wanted a face set: make one from a folder of"
                " images with: python -m facelib prepare --help"
            )
        if not self.idx_path.is_file():
            raise BadData(f"{self.idx_path}: no such file{_rebuild_hint(self.rec_path)}")
        self.size = self.rec_path.stat().st_size
        self.keys, self.offsets = _sorted_index(self.idx_path)
        beyond = np.flatnonzero(self.offsets + FRAME.size + HEADER.size > self.size)
        if len(beyond):
            key, offset = self.keys[beyond[0]], self.offsets[beyond[0]]
            raise BadData(
                f"{self.rec_path}: {self.size} bytes, but {self.idx_path.name} puts record {key} at"
                f" byte {offset} ({len(beyond)} records past the end); copy both files again, or"
                f" keep what is there: python -m facelib inspect {self.rec_path} --rebuild-idx"
            )
        # A dense index (the normal case) needs no search.
        self._first = int(self.keys[0])
        self._dense = int(self.keys[-1]) - self._first + 1 == len(self.keys)
        self.file = MappedFile(self.rec_path)
        self.read(int(self.keys[self.offsets.argmax()]))  # a truncated copy is noticed at once

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
        return self.file.read(self.offset(key), f"{self.rec_path}: record {key}")

    def header(self, key: int) -> Header:
        """Return the header of record `key`."""
        return unpack(self.read(key), f"{self.rec_path}: record {key}")[0]

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
        for start in range(0, len(keys), 1 << 18):
            chunk = slice(start, start + (1 << 18))
            labels[chunk] = self._gather_labels(data, keys[chunk], self.offsets[places[chunk]])
        return labels

    def _gather_labels(self, data: np.ndarray, keys: np.ndarray, at: np.ndarray) -> np.ndarray:
        def words(shift: int, kind: str) -> np.ndarray:
            spot = np.minimum(at + shift, self.size - 4)[:, None] + np.arange(4)
            return data[spot].view(kind)[:, 0]

        flag, length = words(8, "<u4"), words(4, "<u4") & LENGTH_MASK
        labels = np.where(flag == 0, words(12, "<f4"), words(8 + HEADER.size, "<f4")).astype(float)
        # A bad frame, or a header cut by the magic: read it properly (or fail with a clear error).
        odd = (words(0, "<u4") != struct.unpack("<I", MAGIC)[0]) | (length < HEADER.size + 4)
        for i in np.flatnonzero(odd):
            labels[i] = np.ravel(self.header(int(keys[i])).label)[0]
        return labels


def rec_file(path: Path) -> Path:
    """`path` itself if it names a `.rec` file, else `path/train.rec`."""
    path = Path(path)
    return path if path.suffix == ".rec" and not path.is_dir() else path / "train.rec"


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
        _write_text(folder / "property", f"{len(starts)},{size[0]},{size[1]}\n")
        if names is not None:
            _write_text(folder / "names.txt", "".join(f"{name}\n" for name in names))


def _write_text(path: Path, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def scan_records(rec_path: Path) -> tuple[np.ndarray, np.ndarray, str]:
    """Find the records of a `.rec` without its index, by walking from frame to frame.

    Returns:
        ids int64 (N,) from the headers, byte offsets int64 (N,), and "" or what stopped the walk.
    """
    ids, offsets, problem = [], [], ""
    if Path(rec_path).stat().st_size == 0:
        raise BadData(f"{rec_path}: an empty file, wanted RecordIO frames")
    with (
        open(rec_path, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        at = 0
        while at < len(data):
            try:
                record, following = read_record(data, at, f"{rec_path}: record at byte {at}")
                ids.append(unpack(record, f"{rec_path}: record at byte {at}")[0].id)
            except BadData as error:
                problem = str(error)
                break
            offsets.append(at)
            at = following
    # A damaged id becomes negative.
    return np.array(ids, np.uint64).astype(np.int64), np.array(offsets, np.int64), problem


def rebuild_index(rec_path: Path) -> int:
    """Write `train.idx` anew from the ids in the record headers; return the number of records.

    Records after a damaged place are lost; that is logged.

    Raises:
        BadData: the ids repeat, so they are not the keys, or nothing readable is there.
    """
    rec_path = rec_file(rec_path)
    if not rec_path.is_file():
        raise BadData(f"{rec_path}: no such file; wanted a RecordIO file (train.rec)")
    ids, offsets, problem = scan_records(rec_path)
    if len(ids) == 0 or ids.min() < 0 or len(np.unique(ids)) < len(ids):
        raise BadData(problem or f"{rec_path}: record ids are no keys; copy the file again")
    if problem:
        log.warning("kept the %d records before a damaged place: %s", len(ids), problem)
    lines = "".join(f"{key}\t{at}\n" for key, at in zip(ids.tolist(), offsets.tolist()))
    _write_text(rec_path.with_suffix(".idx"), lines)
    return len(ids)
