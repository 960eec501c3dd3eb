"""The parsed index of a large face set, kept in a file: the set opens in a second from then on.

Parsing 5.8 million lines and reading the labels takes ten seconds, and minutes where the `.rec` is
on a cold disk. The result is one array of int64 in `train.index.npy`, beside the `.rec` or, where
that folder cannot be written, in `index/` of the data root:

    STAMP numbers   layout, size and mtime (ns) of .rec and .idx, records N, first image, images M
    N numbers       keys, ascending
    N numbers       byte offset of each key
    M numbers       label of each image; images are a run of the keys

The file is memory-mapped: ranks on one machine share its pages. It is used only while both files
have the size and time that it names, and is written whole or not at all.
"""

import hashlib
import logging
from pathlib import Path

import numpy as np

from facelib.formats.face_index import read_face_index
from facelib.formats.recordio import RecordReader, rec_file
from facelib.paths import atomic_file, data_root

log = logging.getLogger(__name__)

LAYOUT = 1  # raise it when what is kept changes
KEPT_FROM = 100_000  # records: below, parsing takes less than half a second
STAMP = 8


def open_face_set(path: Path) -> tuple[RecordReader, np.ndarray, np.ndarray]:
    """Reader of a face set, int64 keys (M,) of its images and their int64 labels (M,) as stored.

    Raises:
        BadData: see `RecordReader` and `read_face_index`.
    """
    rec = rec_file(path)
    idx = rec.with_suffix(".idx")
    places = index_places(rec)
    # Before parsing: if a file changes meanwhile, what is kept has the stamp of the old one.
    stamp = _stamp(rec, idx) if rec.is_file() and idx.is_file() else None
    for place in places if stamp else ():
        kept = _load(place, stamp)
        if kept is not None:
            log.info("%s: %d records, index from %s", rec, len(kept[0]), place)
            keys, offsets, first, labels = kept
            reader = RecordReader(rec, index=(keys, offsets))
            return reader, keys[first : first + len(labels)], labels
    reader = RecordReader(rec)
    keys, labels = read_face_index(reader)
    if stamp and len(reader) >= KEPT_FROM:
        _keep(places, stamp, reader, keys, labels)
    return reader, keys, labels


def index_places(rec: Path) -> list[Path]:
    """Where the kept index of a `.rec` can be, in the order in which it is looked for."""
    rec = rec.absolute()
    name = hashlib.sha256(str(rec).encode()).hexdigest()[:16]
    return [rec.with_suffix(".index.npy"), data_root() / "index" / f"{name}.npy"]


def _stamp(rec: Path, idx: Path) -> list[int]:
    files = [path.stat() for path in (rec, idx)]
    return [LAYOUT, *(n for file in files for n in (file.st_size, file.st_mtime_ns))]


def _load(place: Path, stamp: list[int]) -> tuple[np.ndarray, np.ndarray, int, np.ndarray] | None:
    """(keys, offsets, first image, labels), or None: no such file, damaged, or of other files."""
    if not place.is_file():
        return None
    try:
        kept = np.load(place, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        log.warning("%s: unreadable (%s), parsing the index again", place, error)
        return None
    if kept.dtype != np.int64 or kept.ndim != 1 or kept[: len(stamp)].tolist() != stamp:
        log.info("%s: kept for other files, parsing the index again", place)
        return None
    # Not a memmap: that pickles and slices as if it were an array of its own.
    records, first, images = kept[len(stamp) : STAMP].tolist()
    keys, offsets, labels = np.split(
        np.asarray(kept)[STAMP : STAMP + 2 * records + images], [records, 2 * records]
    )
    return keys, offsets, first, labels


def _keep(
    places: list[Path], stamp: list[int], reader: RecordReader, keys: np.ndarray, labels: np.ndarray
) -> None:
    first = int(np.searchsorted(reader.keys, keys[0]))
    head = [*stamp, len(reader), first, len(labels)]
    for place in places:
        try:
            with atomic_file(place) as temporary, open(temporary, "wb") as file:
                np.save(file, np.concatenate([head, reader.keys, reader.offsets, labels]))
        except OSError as error:
            log.info("%s: cannot be written (%s)", place, error.strerror)
            continue
        log.info("%s: %d records, index kept in %s", reader.rec_path, len(reader), place)
        return
