"""Who is in a training set: its index, names and exclusions, without its images and without torch.

The command that starts a training reads it first, so that a damaged index or list is said at once.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facelib.config import Config
from facelib.data.folder import FolderReader
from facelib.data.locate import drawn_labels, exclusion_file, train_folder
from facelib.data.split import draw_subset, subset_of
from facelib.errors import UserError
from facelib.formats.face_index import (
    check_gap_free,
    excluded_labels,
    read_exclusions,
    read_face_index,
    read_names,
)
from facelib.formats.recordio import RecordReader
from facelib.formats.trees import is_tree

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class People:
    """Record numbers, labels as the set has them (N,), and the name of each label or None."""

    reader: RecordReader | FolderReader
    keys: np.ndarray
    labels: np.ndarray
    names: list[str] | None


def read_people(
    folder: Path,
    skip_bad: bool = False,
    exclude: Iterable[str | int] | Path | str | None = None,
    relabel: bool = False,
    exclude_nobody: bool = False,
    subset: tuple[int, int, int] | None = None,
) -> People:
    """The people of a folder, without those that are excluded; arguments as `FaceRecords`."""
    if is_tree(folder):
        reader = FolderReader(folder)
        (keys, labels, problems), names = reader.index, reader.names
    else:
        reader, names = RecordReader(folder, partial=skip_bad), None
        keys, labels, problems = read_face_index(reader)
    for problem in problems:
        log.warning("%s: %s", reader.rec_path, problem)
    if not relabel:
        check_gap_free(labels, reader.rec_path)
    names = names or read_names(reader.rec_path.parent / "names.txt", labels)
    if exclude is not None:
        out = excluded_labels(exclude, names, int(labels.max()) + 1, exclude_nobody)
        kept = ~np.isin(labels, list(out))
        if not kept.any():
            raise UserError(f"{reader.rec_path}: exclude leaves no image")
        keys, labels = keys[kept], labels[kept]
    if subset:
        kept = draw_subset(labels, *subset)
        keys, labels = keys[kept], labels[kept]
    return People(reader, keys, labels, names)


def people_of(cfg: Config) -> People:
    """The people that a config trains on; faces that are drawn here are made on first use."""
    exclude = exclusion_file(cfg)
    if exclude:
        read_exclusions(exclude)  # before faces are drawn, which takes minutes
    drawn_labels(cfg)  # so is a subset that they do not have
    return read_people(
        train_folder(cfg), cfg.skip_bad, exclude, cfg.relabel, cfg.exclude_nobody, subset_of(cfg)
    )
