"""A new index for a `.rec` file whose own is missing or damaged."""

import logging
import mmap
from pathlib import Path

import numpy as np

from facelib.errors import BadData
from facelib.formats.record_bytes import read_record, unpack
from facelib.formats.recordio import PARTIAL, read_index, rec_file, write_text

log = logging.getLogger(__name__)


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

    Ids that repeat are no keys (a shuffled copy, a set of several): records are then numbered from
    0 in their order. Records after a damaged place are lost; that is logged.

    Raises:
        BadData: nothing readable is there, or the file is damaged and its index knows as much.
    """
    rec_path = rec_file(rec_path)
    if not rec_path.is_file():
        raise BadData(f"{rec_path}: no such file; wanted a RecordIO file (train.rec)")
    keys, offsets, problem = scan_records(rec_path)
    if len(keys) == 0:
        raise BadData(problem or f"{rec_path}: no record; copy the file again")
    idx_path = rec_path.with_suffix(".idx")
    if problem and (known := _records_known(idx_path, offsets)):
        raise BadData(
            f"{idx_path}: kept, it knows {known} records and a new one would know {len(keys)};"
            f" {problem}{PARTIAL}"
        )
    if keys.min() < 0 or len(np.unique(keys)) < len(keys):
        log.warning("%s: record ids repeat, so records are numbered in their order", rec_path)
        keys = np.arange(len(keys))
    if problem:
        log.warning("kept the %d records before a damaged place: %s", len(keys), problem)
    lines = "".join(f"{key}\t{at}\n" for key, at in zip(keys.tolist(), offsets.tolist()))
    write_text(idx_path, lines)
    return len(keys)


def _records_known(idx_path: Path, offsets: np.ndarray) -> int:
    """Records of an index that has all places found by a walk; 0 where a new one is better."""
    try:
        _, known = read_index(idx_path)
    except (BadData, OSError):
        return 0
    return len(known) if np.isin(offsets, known).all() else 0
