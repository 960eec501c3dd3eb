"""Which records of a face set are images, and whose: keys, labels, names and who is left out."""

import logging
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from shlex import quote
from typing import NamedTuple

import numpy as np

from facelib.errors import BadData, UserError
from facelib.formats.recordio import PARTIAL, RecordReader, unpack
from facelib.safety.readers import is_number, read_rows

log = logging.getLogger(__name__)

# Up to here every image header is read; above, the identity records spare most of that.
SCAN_LIMIT = 1_000_000
SMALLEST = 64  # bytes of a record that may be without a picture


class FaceIndex(NamedTuple):
    """int64 keys (N,) ascending, int64 labels (N,) as stored, and what is wrong, in sentences."""

    keys: np.ndarray
    labels: np.ndarray
    problems: list[str]


def read_face_index(reader: RecordReader, scan_limit: int = SCAN_LIMIT) -> FaceIndex:
    """Find the image records and their labels (the first label of each record).

    Every record with a picture is an image. Record 0 and the identity records of `face2rec2` hold
    labels alone; their counts are float32 (rounded above 16,777,216), so the index and the records
    are believed.

    Args:
        reader: a face set.
        scan_limit: with more records than this the labels come from the identity records, where
            record 0 and they add up: one image at each end of an identity is read instead of all
            (5.8 million images: 30 GB of pages).

    Raises:
        BadData: no image, images that record 0 counts and the index lacks, or a label that is no
            whole number ≥ 0.
    """
    first, labels, problems = _first_identity_record(reader), None, []
    if len(reader) > scan_limit and first:
        keys = np.arange(1, first)
        labels = _labels_from_identities(reader, first, int(reader.keys[-1]) + 1)
    if labels is None:
        found, without_key = reader.survey()
        keys = reader.keys[found]
        if len(keys) == 0:
            raise BadData(f"{reader.rec_path}: a face set without images")
        labels = reader.first_labels(keys)
        problems = _lost(reader, keys, without_key)
    return FaceIndex(keys, _whole(reader, keys, labels), problems)


def _lost(reader: RecordReader, keys: np.ndarray, without_key: int) -> list[str]:
    """What may be missing from the images `keys`: bytes and records that are none, a count."""
    problems, rebuild = [], f"python -m facelib inspect {quote(str(reader.rec_path))} --rebuild-idx"
    empty = np.setdiff1d(reader.keys[(reader.keys > 0) & (reader.keys < keys[-1])], keys)
    if len(empty):
        problems.append(f"{len(empty)} records among the images hold no picture, first {empty[0]}")
    if without_key > 0:
        problems.append(
            f"{without_key} bytes of {reader.rec_path.name} belong to no line of the index:"
            f" images may be missing: copy both files again, or try: {rebuild}"
        )
    counted = _counted_images(reader)
    if counted and counted != np.float32(len(keys) + 1):
        problems.append(f"record 0 counts {counted - 1:.0f} images, the index has {len(keys)}")
        if counted > len(keys) + 1 and without_key > 0 and not reader.partial:
            problem = "; ".join([problems[-1], *problems[:-1]])
            raise BadData(f"{reader.idx_path}: {problem}{PARTIAL}")
    return problems


def _first_identity_record(reader: RecordReader) -> int | None:
    """Key of the first identity record by bisection, where keys are 0 … N − 1; else None."""
    if reader.keys[0] or reader.keys[-1] != len(reader) - 1 or reader.has_picture(0):
        return None
    low, high = 1, len(reader)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if reader.has_picture(middle) else (low, middle)
    return low if 1 < low < len(reader) else None


def _counted_images(reader: RecordReader) -> float:
    """First number of record 0, one more than the images; 0 where there is no such record."""
    if reader.keys[0] or reader.has_picture(0):
        return 0
    return float(np.ravel(reader.header(0).label)[0])


def _labels_from_identities(reader: RecordReader, first: int, end: int) -> np.ndarray | None:
    """Labels of images 1 … first − 1 from the ranges of the identity records; None if they lie."""
    records = [unpack(reader.read(key), reader.where(key)) for key in range(first, end)]
    pairs = [np.ravel(header.label)[:2] for header, _ in records]
    if min(map(len, pairs)) < 2 or any(len(payload) for _, payload in records):
        return None
    order = np.argsort(reader.offsets, kind="stable")  # nearly sorted already
    room = np.diff(reader.offsets[order], append=reader.size)  # of each record, nothing is read
    if room[(order > 0) & (order < first)].min() <= SMALLEST:
        return None
    starts, ends = np.array(pairs, dtype=np.int64).T
    tiles = starts[0] == 1 and ends[-1] == first and np.array_equal(starts[1:], ends[:-1])
    if not tiles or np.any(ends <= starts):
        log.info("%s: identity records do not tile the images, reading all", reader.rec_path)
        return None
    reader.announce(np.concatenate([starts, ends - 1]))
    labels = reader.first_labels(starts)
    if not np.array_equal(labels, reader.first_labels(ends - 1)):
        log.info("%s: identity records disagree with labels, reading all", reader.rec_path)
        return None
    return np.repeat(labels, ends - starts)


def _whole(reader: RecordReader, keys: np.ndarray, labels: np.ndarray) -> np.ndarray:
    odd = np.flatnonzero(~((labels >= 0) & (labels == np.round(labels))))
    if len(odd):
        raise BadData(
            f"{reader.rec_path}: record {keys[odd[0]]} has label {labels[odd[0]]},"
            " wanted a whole number from 0"
        )
    return labels.astype(np.int64)


def check_gap_free(labels: np.ndarray, where: Path) -> None:
    """BadData unless the labels are exactly 0 … C − 1; names the first one that is missing."""
    present = np.unique(labels)
    if len(present) and present[-1] != len(present) - 1:
        gap = int(np.flatnonzero(present != np.arange(len(present)))[0])
        raise BadData(
            f"{where}: labels run to {present[-1]} but only {len(present)} occur, the first one"
            f" missing is {gap}; wanted 0 … C − 1, or relabel=True to number them anew"
        )


def read_names(path: Path, labels: np.ndarray) -> list[str] | None:
    """Names by label from `names.txt` (line number from 0 = label); None if there is no file."""
    if not path.is_file():
        return None
    names = read_rows(path, "one name per line, in the order of the labels")
    if len(names) != labels.max() + 1:
        raise BadData(
            f"{path}: {len(names)} names, but labels run to {labels.max()}; wanted one line a"
            " label: delete the file (exclude= then takes labels only), or make it again"
        )
    return names


def normalise_name(name: str) -> str:
    """Name for comparison: underscores as spaces, spaces collapsed, case ignored, accents composed.

    macOS writes é as two signs, others as one.
    """
    composed = unicodedata.normalize("NFC", name.replace("_", " ")).casefold()
    return " ".join(unicodedata.normalize("NFC", composed).split())


def digits_are_names(names: list[str] | None) -> bool:
    """In a set with numbers for names, `0000045` in a list is that name, `label 45` the label."""
    return any(map(is_number, names or []))


def read_exclusions(path: Path) -> list[str]:
    """The entries of a list of people to leave out: names and labels, one a line."""
    if not path.is_file():
        raise UserError(f"exclude: no file {path}; wanted one name or label a line")
    lines = read_rows(path, "one name or label a line")
    return [line.strip() for line in lines if line.strip()]


def excluded_labels(
    exclude: Iterable[str | int] | Path | str,
    names: list[str] | None,
    classes: int,
    allow_empty: bool = False,
) -> set[int]:
    """Labels to leave out.

    Args:
        exclude: names and integer labels, or a text file with one a line, see `digits_are_names`.
        names: name of each label.
        classes: number of labels.
        allow_empty: take a file that matches nobody; else it is an error.

    Raises:
        UserError: a label outside, names for a set that has none, or nobody is left out.
    """
    where, from_file = "exclude", isinstance(exclude, str | Path)
    if from_file:
        where, exclude = f"exclude: {exclude}", read_exclusions(Path(exclude))
    labels, unknown, numbered = set(), [], digits_are_names(names)
    by_name: dict[str, list[int]] = {}
    for label, name in enumerate(names or []):
        by_name.setdefault(normalise_name(name), []).append(label)
    for entry in exclude:
        text = str(entry).removeprefix("label ")
        told = not isinstance(entry, str) or text != entry or not numbered  # that it is a label
        if told and is_number(text.removeprefix("-")):
            if not 0 <= int(text) < classes:
                raise BadData(f"{where}: label {text}, allowed are 0 … {classes - 1}")
            labels.add(int(text))
        elif names is None:
            raise BadData(f"{where}: {entry!r} is a name, but the set has no names.txt")
        elif normalise_name(entry) in by_name:
            labels.update(by_name[normalise_name(entry)])
        else:
            unknown.append(entry)
    if from_file and not labels and not allow_empty:
        some = (
            f"none of its {len(unknown)} names, e.g. {unknown[0][:60]!r}," if unknown else "nobody"
        )
        has = f"whose first name is {names[0][:60]!r}" if names else "which has no names"
        raise BadData(
            f"{where}: {some} is in the set, {has}; mend the list, or train with --allow-empty"
            " (exclude_nobody=true)"
        )
    if unknown:
        log.warning("exclude: %d names are not in the set, e.g. %s", len(unknown), unknown[:3])
    log.info("exclude: %d identities left out", len(labels))
    return labels
