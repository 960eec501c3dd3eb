"""Where the records of a set lie: the name of its `.rec`, and the text file `.idx` beside it."""

import warnings
from pathlib import Path
from shlex import quote

import numpy as np

from facelib.errors import BadData


def rec_file(path: Path) -> Path:
    """`path` itself if it names a `.rec` file, else `path/train.rec`."""
    path = Path(path)
    return path if path.suffix == ".rec" and not path.is_dir() else path / "train.rec"


def find_rec(path: Path) -> Path:
    """`rec_file(path)`; of a folder without train.rec and train.idx its only `.rec`: im2rec's sets
    have any name."""
    named, others = rec_file(path), sorted(Path(path).glob("*.rec"))
    there = named.is_file() or named.with_suffix(".idx").is_file()  # a half-copied set is no other
    return others[0] if len(others) == 1 and not there else named


def read_index(idx_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Parse `train.idx` to int64 keys (N,) and byte offsets (N,), in the order of the file.

    Raises:
        BadData: no line, a line that is not `integer<TAB>integer`, a key that occurs twice.
    """
    text = idx_path.read_bytes().rstrip()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # numpy's "stopped before the end"
            numbers = np.fromstring(text, dtype=np.int64, sep=" ")
        keys, offsets = numbers.reshape(-1, 2).T.copy()
        lines = text.count(b"\n") + 1
    except (DeprecationWarning, ValueError):
        lines, keys, offsets = -1, np.empty(0, np.int64), np.empty(0, np.int64)
    if len(keys) == 0 or lines != len(keys) or keys.min() < 0 or offsets.min() < 0:
        raise BadData(f"{idx_path}: {_first_bad_line(text)}{rebuild_hint(idx_path)}")
    repeated = len(keys) - len(np.unique(keys))
    if repeated:
        raise BadData(f"{idx_path}: {repeated} keys occur twice{rebuild_hint(idx_path)}")
    return keys, offsets


def _first_bad_line(text: bytes) -> str:
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split()
        if len(fields) != 2 or not all(field.isdigit() for field in fields):
            return f"line {number} is {line[:60]!r}, wanted key<TAB>byte offset"
    return "no records"


def rebuild_hint(path: Path) -> str:
    rec = path.with_suffix(".rec")
    return f"; rebuild it with: python -m facelib inspect {quote(str(rec))} --rebuild-idx"
