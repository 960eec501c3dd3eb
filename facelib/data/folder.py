"""A folder of people, `FOLDER/NAME/*.jpg`, read like a `.rec`: training without packing.

Names and pictures in sorted order get the labels and keys of `prepare folder`, so that the same
settings give the same split, batches and weights. Pictures should be aligned: others are padded to
a square and resized.
"""

import logging
from collections import Counter
from pathlib import Path

import numpy as np

from facelib.errors import BadData
from facelib.formats.face_index import FaceIndex
from facelib.formats.recordio import Header, pack
from facelib.formats.trees import list_identities

log = logging.getLogger(__name__)


class PictureFiles:
    """Picture files by number, each as the record that it would be; travels to workers."""

    def __init__(self, paths: list[Path]):
        self.paths = paths

    def read(self, number: int, where: str) -> bytes:
        try:
            content = self.paths[number].read_bytes()
        except OSError as error:
            raise BadData(f"{self.paths[number]}: {error.strerror}") from None
        return pack(Header(0, 0.0, number, 0), content)


class FolderReader:
    """What `FaceRecords` asks of a `RecordReader`: keys 1 … N, "offsets" 0 … N − 1.

    Attributes:
        index: keys, labels and no problems. names: folder of each label.
        rec_path: the folder.
    """

    def __init__(self, folder: Path):
        left_out: Counter[str] = Counter()
        people = {k: v for k, v in list_identities(folder, left_out).items() if v}
        for reason, count in left_out.items():
            log.warning("%s: %d left out: %s", folder, count, reason)
        self.rec_path, self.names = Path(folder), list(people)
        self.file = PictureFiles([path for pictures in people.values() for path in pictures])
        self.offsets = np.arange(len(self.file.paths))
        self.keys = self.offsets + 1
        labels = np.repeat(np.arange(len(people)), [len(pictures) for pictures in people.values()])
        self.index = FaceIndex(self.keys, labels, [])

    def read(self, key: int) -> bytes:
        return self.file.read(key - 1, self.where(key))

    def where(self, key: int) -> str:
        return str(self.file.paths[key - 1])
