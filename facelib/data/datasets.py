"""Training sets: the images of a face RecordIO set, or of a folder of people, as tensors."""

import copy
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from shlex import quote

import numpy as np
import torch
from torch.utils.data import Dataset

from facelib.config import Config
from facelib.data.locate import exclusion_file, train_folder
from facelib.data.people import read_people
from facelib.data.split import subset_of
from facelib.errors import BadData, BadRecord, UserError
from facelib.formats.decode import FILL_BORDER, decode, map_in_threads
from facelib.formats.recordio import unpack

__all__ = ["FaceRecords", "Jpegs", "decode"]

log = logging.getLogger(__name__)
BLOCK = 4096  # images that wait for a thread


def open_records(cfg: Config) -> "FaceRecords":
    """The training records of a config, its excluded identities left out."""
    return FaceRecords(
        train_folder(cfg),
        cfg.image_size,
        skip_bad=cfg.skip_bad,
        fill_border=cfg.fill_border,
        exclude=exclusion_file(cfg),
        relabel=cfg.relabel,
        exclude_nobody=cfg.exclude_nobody,
        decode_scale=cfg.decode_scale,
        subset=subset_of(cfg),
    )


class FaceRecords(Dataset):
    """Images and identities of a face RecordIO set (`train.rec`, `train.idx`, `names.txt`).

    `dataset[i]` is (uint8 tensor (3, size, size) RGB, label). Safe in DataLoader workers.

    Args:
        folder: holds train.rec and train.idx; or the `.rec` itself; or one folder of pictures per
            person, see `facelib.data.folder`.
        size: side of the images in pixels.
        skip_bad: a record that is no image is replaced by a good neighbour (of the same identity if
            there is one; always the same one), logged and counted in `bad`, instead of an error.
        fill_border: "none" or "replicate", see `facelib.formats.decode`.
        exclude: identities to leave out: names and labels, or a text file with one a line.
        relabel: number labels with gaps anew instead of refusing them.
        exclude_nobody: take a file `exclude` that matches nobody.
        decode_scale: shrink while decoding, see `facelib.formats.decode`.
        subset: people, images of each and seed of `draw_subset`; None for the whole set.

    Attributes:
        labels: int64 (N,), gap-free 0 … C − 1.
        names: name of each label, or None.
        keys: int64 (N,), record numbers.
        stored: int64 (N,), labels as the set has them, which a list of exclusions counts.

    Raises:
        BadData: damaged files, labels with gaps. UserError: a wrong option.
    """

    def __init__(
        self,
        folder: Path,
        size: int,
        skip_bad: bool = False,
        fill_border: str = "none",
        exclude: Iterable[str | int] | Path | str | None = None,
        relabel: bool = False,
        decode_scale: bool = False,
        exclude_nobody: bool = False,
        subset: tuple[int, int, int] | None = None,
    ):
        if size < 1:
            raise UserError(f"size={size}, wanted pixels ≥ 1, e.g. 112")
        if fill_border not in FILL_BORDER:
            raise UserError(f"fill_border={fill_border!r}, allowed are {', '.join(FILL_BORDER)}")
        self.size, self.skip_bad, self.fill_border = size, skip_bad, fill_border
        self.decode_scale = decode_scale
        people = read_people(folder, skip_bad, exclude, relabel, exclude_nobody, subset)
        self.reader = people.reader
        self._take(people.keys, people.labels, people.names)

    def _take(self, keys: np.ndarray, labels: np.ndarray, names: list[str] | None) -> None:
        self.stored = labels
        present, self.labels = np.unique(labels, return_inverse=True)
        self.labels = self.labels.reshape(-1).astype(np.int64)
        self.names = names and [names[label] for label in present]
        self.keys = keys
        self.classes = len(present)
        # Shared memory, so that what workers find is counted here; one byte an image.
        self._bad = torch.zeros(len(keys), dtype=torch.uint8).share_memory_()

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def bad(self) -> int:
        """Number of records found so far that are no image (with `skip_bad`)."""
        return int(self._bad.sum())

    def jpeg(self, i: int) -> bytes:
        """Encoded image `i`, as stored."""
        key = int(self.keys[i])
        return bytes(unpack(self.reader.read(key), self.reader.where(key))[1])

    def offsets(self, indices: np.ndarray) -> np.ndarray:
        """Byte offsets int64 (B,) of images in the `.rec`."""
        return self.reader.offsets[np.searchsorted(self.reader.keys, self.keys[indices])]

    def image(self, i: int) -> tuple[np.ndarray, int]:
        """Image `i` as uint8 (size, size, 3) RGB, and its label."""
        try:
            return self._decode(i), int(self.labels[i])
        except BadData as error:
            if not self.skip_bad:
                raise
            if not self._bad[i]:
                self._bad[i] = 1
                log.warning("skipped (%d so far): %s", self.bad, error)
        for j in self._neighbours(i):
            try:
                return self._decode(j), int(self.labels[j])
            except BadData:
                self._bad[j] = 1
        raise BadData(f"{self.reader.rec_path}: none of the {len(self)} records is an image")

    def _decode(self, i: int) -> np.ndarray:
        payload = self.jpeg(i)
        try:
            return decode(payload, self.size, self.fill_border, self.decode_scale)
        except BadData as error:
            raise BadRecord(
                f"{self.reader.where(int(self.keys[i]))}: {error}; count such records: "
                f"python -m facelib inspect {quote(str(self.reader.rec_path))} --deep"
            ) from None

    def _neighbours(self, i: int) -> Iterable[int]:
        """Other images in a fixed order: the same identity first, then the next ones."""
        own = np.flatnonzero(self.labels == self.labels[i])
        yield from own[own != i].tolist()
        yield from ((i + step) % len(self) for step in range(1, len(self)))

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        image, label = self.image(i)
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))), label

    def subset(self, indices: Sequence[int]) -> "FaceRecords":
        """The images `indices` as a set of their own, labels numbered anew without gaps."""
        indices = np.asarray(indices)
        if len(indices) == 0:
            raise UserError(f"{self.reader.rec_path}: a subset without images")
        part = copy.copy(self)
        part._take(self.keys[indices], self.labels[indices], self.names)
        part.stored = self.stored[indices]
        return part

    def load(self, indices: np.ndarray) -> np.ndarray:
        """Decode some images in threads: uint8 (B, size, size, 3) RGB."""
        images = np.empty((len(indices), self.size, self.size, 3), dtype=np.uint8)

        def fill(place: int) -> None:
            images[place] = self.image(int(indices[place]))[0]

        for _ in map_in_threads(fill, range(len(indices)), BLOCK):
            pass
        return images

    def load_all(self) -> np.ndarray:
        """Decode everything once: uint8 (N, size, size, 3) RGB. For small sets."""
        return self.load(np.arange(len(self)))


class Jpegs(Sequence):
    """Encoded images of some records, read when asked for: MS1M does not fit in memory."""

    def __init__(self, records: FaceRecords, chosen: np.ndarray):
        self.records, self.chosen = records, chosen

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, i: int) -> bytes:
        return self.records.jpeg(self.chosen[i])
