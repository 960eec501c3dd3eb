"""Other lists of pairs to a `.bin` benchmark: people's own, and CALFW's, CPLFW's and AgeDB-30's.

A line of a list is one of

    a.jpg,b.jpg,same          two paths and same/different (or 1/0), in any column order, parted
    1 a.jpg b.jpg             by commas, semicolons, tabs or blanks; with a header: also `fold`
    Ann_Lee_0001.jpg 3        CALFW's and CPLFW's own: two lines for each pair, 0 = different, else
    Ann_Lee_0002.jpg 3        the pair's fold 1 … 10

Paths are relative to the folder of images. Without a fold, the genuine and the impostor pairs are
each cut into equal runs, in the order of the list: CALFW and CPLFW give impostor pairs no fold.
"""

import logging
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np

from facelib.errors import BadData
from facelib.formats.benchmarks import DEFAULT_FOLDS, connected_components, contiguous_folds
from facelib.prepare.lists import Pair
from facelib.safety.readers import is_number, read_table

log = logging.getLogger(__name__)

YES = "1 1.0 same genuine true t yes y match positive"
NO = "0 0.0 -1 -1.0 different diff impostor imposter false f no n mismatch negative"
SAME = dict.fromkeys(YES.split(), True) | dict.fromkeys(NO.split(), False)
LABELS = {"same", "is_same", "issame", "label", "match"}  # what lists call that column
WANTED = "two paths and same/different on each line"
Row = tuple[int, str, str, bool, int | None]  # line, two paths, same, fold

# Whose image a path may be: the folder's, CALFW's NAME_0001.jpg, AgeDB's 12_NAME_40_m.jpg.
OWNERS: tuple[Callable[[str], str | None], ...] = (
    lambda name: str(PurePosixPath(name).parent),
    lambda name: _group(r"(.+)_\d+", name),
    lambda name: _group(r"\d+_(.+)_\d+_[mf]", name),
)


def read_pair_list(path: Path, images_dir: Path) -> list[Pair]:
    """Parse a list of pairs, see the module.

    Whose image each is follows from the names, where one rule of `OWNERS` agrees with every label;
    else from the pairs: images that genuine pairs link are one person's.

    Raises:
        BadData: no such file, a malformed line, one kind of pairs only, or labels that contradict.
    """
    path, images_dir = Path(path), Path(images_dir)
    table = read_table(path, WANTED)
    two_lines = table and all(len(row) == 2 and is_number(row[1]) for _, row in table)
    rows = _two_lines(path, table) if two_lines else _one_line(path, table)
    for line, *names, _, _ in rows:
        for name in names:
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise BadData(
                    f"{path}: line {line}: {name[:80]!r} leads outside of {images_dir}, wanted a"
                    " path relative to the folder of images"
                )
    same = np.array([row[3] for row in rows], bool)
    if len(np.unique(same)) != 2:
        raise BadData(
            f"{path}: {same.sum()} genuine and {(~same).sum()} impostor pairs, wanted both"
        )
    fold = _folds(rows, same)
    ids = _identities(path, rows, same)
    return [
        Pair(images_dir / a, images_dir / b, *map(int, ids[i]), bool(is_same), int(fold[i]))
        for i, (_, a, b, is_same, _) in enumerate(rows)
    ]


def _two_lines(path: Path, table: list[tuple[int, list[str]]]) -> list[Row]:
    rows = []
    for first, second in zip(table[::2], [*table[1::2], (0, ["", ""])], strict=False):
        (line, (a, label)), (_, (b, other)) = first, second
        if label != other:
            raise BadData(
                f"{path}: line {line} has {label} and the next {other or 'is not there'}: wanted"
                " two lines with one number for each pair"
            )
        rows.append((line, a, b, label != "0", int(label) if label != "0" else None))
    numbered = {row[4] for row in rows if row[3]}
    return rows if len(numbered) > 1 else [(*row[:4], None) for row in rows]  # 1 and 0 are labels


def _one_line(path: Path, table: list[tuple[int, list[str]]]) -> list[Row]:
    header = []
    if table and not any(PurePosixPath(field).suffix for field in table[0][1]):
        header = [field.lower() for field in table[0][1]]
        table = table[1:]
    fold_at = header.index("fold") if "fold" in header else None
    if not table:
        raise BadData(f"{path}: holds no pair, wanted {WANTED}")
    kept = _columns(header, table, fold_at)
    rows = []
    for line, fields in table:
        rest = [field for i, field in enumerate(fields) if i != fold_at and (not kept or i in kept)]
        labels = [i for i, field in enumerate(rest) if _is_label(field)]
        fold = fields[fold_at] if fold_at is not None and fold_at < len(fields) else ""
        if len(rest) != 3 or len(labels) != 1 or (fold_at is not None and not is_number(fold)):
            raise BadData(
                f"{path}: line {line} is {' '.join(fields)[:80]!r}, wanted two paths and"
                f" same/different or 1/0{' and a fold' if fold_at is not None else ''}"
            )
        same = SAME[rest.pop(labels[0]).lower()]
        a, b = (field.replace("\\", "/") for field in rest)
        rows.append((line, a, b, same, int(fold) if fold else None))
    return rows


def _columns(header: list[str], table: list[tuple[int, list[str]]], fold_at: int | None) -> set:
    """Of a table with a header and more columns than wanted (ids, an index of pandas): the two of
    pictures and the one of same/different; empty where these are not to be told."""
    columns = list(zip(*(fields for _, fields in table), strict=False))
    if len(header) - (fold_at is not None) <= 3 or len(columns) != len(header):
        return set()
    paths = [i for i, column in enumerate(columns) if all(PurePosixPath(f).suffix for f in column)
             and not any(map(_is_label, column))]  # fmt: skip
    labels = [i for i, c in enumerate(columns) if i != fold_at and all(map(_is_label, c))]
    if len(labels) > 1:
        labels = [i for i in labels if header[i] in LABELS]
    return {*paths, *labels} if len(paths) == 2 and len(labels) == 1 else set()


def _is_label(field: str) -> bool:
    return field.lower() in SAME


def _folds(rows: list[Row], same: np.ndarray) -> np.ndarray:
    """Fold of each pair, 0 …: those of the list; pairs without one in equal runs of their kind."""
    given = np.array([-1 if row[4] is None else row[4] for row in rows])
    numbers, fold = np.unique(given[given >= 0], return_inverse=True)
    found = np.empty(len(rows), np.int64)
    found[given >= 0] = fold
    count = len(numbers) or min(DEFAULT_FOLDS, same.sum(), (~same).sum())
    for kind in (True, False):
        open_ones = np.flatnonzero((given < 0) & (same == kind))
        if len(open_ones):
            found[open_ones] = contiguous_folds(len(open_ones), count)
    return found


def _identities(path: Path, rows: list[Row], same: np.ndarray) -> np.ndarray:
    """Identity of both sides of each pair, (P, 2)."""
    names = [name for row in rows for name in row[1:3]]
    for owner in OWNERS:
        people = [owner(name) for name in names]
        if None in people:
            continue
        ids = np.unique(people, return_inverse=True)[1].reshape(-1, 2)
        if ((ids[:, 0] == ids[:, 1]) == same).all():
            return ids
    image = np.unique(names, return_inverse=True)[1].reshape(-1, 2)
    ids = connected_components(image.max() + 1, image[same, 0], image[same, 1])[image]
    wrong = np.flatnonzero((ids[:, 0] == ids[:, 1]) != same)
    if len(wrong):
        line, a, b, *_ = rows[wrong[0]]
        raise BadData(
            f"{path}: line {line}: {a} and {b} are marked different, but other lines make them one"
            f" person ({len(wrong)} of {len(rows)} pairs); mend the labels"
        )
    log.info("%s: people are the images that genuine pairs link", path)
    return ids


def _group(pattern: str, name: str) -> str | None:
    match = re.fullmatch(pattern, PurePosixPath(name).stem)
    return match and match[1]
