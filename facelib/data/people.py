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
from facelib.data.locate import exclusion_file, train_folder
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
from facelib.limits import parse_shape

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
    return read_people(
        train_folder(cfg), cfg.skip_bad, exclude, cfg.relabel, cfg.exclude_nobody, subset_of(cfg)
    )


def subset_of(cfg: Config) -> tuple[int, int, int] | None:
    """People, images of each and seed of a config's `subset`; None for the whole set."""
    return (*parse_shape(cfg.subset), cfg.seed) if cfg.subset else None


def draw_subset(labels: np.ndarray, people: int, images: int, seed: int) -> np.ndarray:
    """Ascending indices of `images` records of each of `people` identities that have so many.

    Raises:
        UserError: fewer identities have so many.
    """
    order = np.lexsort((np.random.default_rng(seed).random(len(labels)), labels))
    _, start, count = np.unique(labels[order], return_index=True, return_counts=True)
    able = np.flatnonzero(count >= images)
    if len(able) < people:
        instead = f"subset={len(able)}x{images}" if len(able) > 1 else "fewer images of each"
        raise UserError(
            f"subset={people}x{images}: {len(able)} of {len(count)} people have {images} images "
            f"or more: use {instead}"
        )
    chosen = np.random.default_rng([seed, 1]).choice(able, people, replace=False)
    return np.sort(order[(start[chosen, None] + np.arange(images)).ravel()])
