"""A new index for a `.rec` file whose own is missing or damaged."""

import logging
import mmap
from pathlib import Path

import numpy as np

from facelib.errors import BadData
from facelib.formats.record_bytes import MAGIC, MIDDLE, read_record, unpack
from facelib.formats.record_index import find_rec, read_index
from facelib.formats.recordio import PARTIAL, write_text

log = logging.getLogger(__name__)


def scan_records(rec_path: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Find the records of a `.rec` without its index, by walking from frame to frame.

    After a damaged place the walk goes on at the next magic number that begins a record.

    Returns:
        ids int64 (N,) from the headers, byte offsets int64 (N,), and what each damaged place is.
    """
    ids, offsets, problems = [], [], []
    if Path(rec_path).stat().st_size == 0:
        raise BadData(f"{rec_path}: an empty file, wanted RecordIO frames")
    with (
        open(rec_path, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        at = 0
        while 0 <= at < len(data):
            where = f"{rec_path}: record at byte {at}"
            try:
                record, following = read_record(data, at, where)
                ids.append(unpack(record, where)[0].id)
            except BadData as error:
                problems.append(str(error))
                at = _next_frame(data, at + 4)
                continue
            offsets.append(at)
            at = following
    # A damaged id becomes negative.
    return np.array(ids, np.uint64).astype(np.int64), np.array(offsets, np.int64), problems


def _next_frame(data: mmap.mmap, at: int) -> int:
    """Where the next record can begin, from byte `at` on; -1 at the end of the file."""
    at = data.find(MAGIC, at)
    while at >= 0 and (at % 4 or data[at + 7 : at + 8] >= bytes([MIDDLE << 5])):
        at = data.find(MAGIC, at + 1)
    return at


def rebuild_index(rec_path: Path) -> int:
    """Write `train.idx` anew from the ids in the record headers; return the number of records.

    Ids that repeat are no keys (a shuffled copy, a set of several): records are then numbered from
    0 in their order. Damaged records are left out, and logged. An index that leads to as much is
    kept as it is.

    Raises:
        BadData: nothing readable is there, or the file is damaged and its index knows as much.
    """
    rec_path = find_rec(rec_path)
    if not rec_path.is_file():
        raise BadData(f"{rec_path}: no such file; wanted a RecordIO file (train.rec)")
    keys, offsets, problems = scan_records(rec_path)
    if len(keys) == 0:
        raise BadData(problems[0] if problems else f"{rec_path}: no record; copy the file again")
    idx_path = rec_path.with_suffix(".idx")
    known = _offsets_known(idx_path)
    if np.isin(offsets, known).all() and (problems or len(known) == len(offsets)):
        if not problems:
            log.info("%s: kept, it leads to all %d records", idx_path, len(known))
            return len(known)
        raise BadData(
            f"{idx_path}: kept, it knows {len(known)} records and a new one would know"
            f" {len(keys)}; {problems[0]}{PARTIAL}"
        )
    if keys.min() < 0 or len(np.unique(keys)) < len(keys):
        log.warning("%s: record ids repeat, so records are numbered in their order", rec_path)
        keys = np.arange(len(keys))
    if problems:
        log.warning(
            "found %d records around %d damaged places: %s", len(keys), len(problems), problems[0]
        )
    lines = "".join(f"{key}\t{at}\n" for key, at in zip(keys.tolist(), offsets.tolist()))
    write_text(idx_path, lines)
    return len(keys)


def _offsets_known(idx_path: Path) -> np.ndarray:
    """Places of the records that an index knows; none where it cannot be read."""
    try:
        return read_index(idx_path)[1]
    except (BadData, OSError):
        return np.empty(0, np.int64)
