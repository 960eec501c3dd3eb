"""Text files that people or other programs write: a good one of each kind, and its reader."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from facelib.formats.benchmarks import read_people
from facelib.formats.face_index import excluded_labels, read_names
from facelib.metrics.features import open_features
from facelib.models.weights import _read_config
from facelib.prepare.align import read_fiducials, read_landmarks_csv
from facelib.prepare.cfp import _read_list, _read_numbers
from facelib.prepare.ijb import _read_columns
from facelib.prepare.lfw import read_lfw_pairs
from facelib.prepare.pairs import read_pair_list
from facelib.safety import readers

LABELS = np.arange(3)
# Every reader of such a file: a new one belongs here.
TEXTS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "names": ("Ann\nBob\nCy\n", lambda path: read_names(path, LABELS)),
    "exclude": ("a\n1\n", lambda path: excluded_labels(path, ["a", "b", "c"], 3)),
    "people": ("0\tAnn Lee\n1\tBob\n", read_people),
    "fiducials": ("10.5,20\n" * 30, read_fiducials),
    "landmarks": (
        "file,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5\na.jpg,1,2,3,4,5,6,7,8,9,10\n", read_landmarks_csv,
    ),
    "cfp list": ("1 ../Data/Images/001/frontal/01.jpg\n2 ../Data/Images/001/frontal/02.jpg\n",
                 _read_list),
    "cfp pairs": ("1,2\n3,4\n", _read_numbers),
    "lfw pairs": ("1\t2\nAnn\t1\t2\nBob\t1\t2\nAnn\t1\tBob\t2\nAnn\t2\tBob\t1\n",
                  lambda path: read_lfw_pairs(path, path.parent)),
    "pair list": ("a/1.jpg,a/2.jpg,same\na/1.jpg,b/1.jpg,different\n",
                  lambda path: read_pair_list(path, path.parent)),
    "columns": ("1.jpg 1\n2.jpg 1\n", lambda path: _read_columns(path, ["name", "t1"], "a, b")),
    "features": ('{"path": ["a"], "id": ["b"]}', lambda path: open_features(path, path.parent)),
    "weights config": ('{"model_type": "dinov2"}',
                       lambda path: _read_config(path, "dinov2-vit-b14")),
    "json object": ('{"a": [1, 2.5, null]}', readers.read_object),
    "json lines": ('{"step": 1}\n{"step": 2}\n', readers.read_object_lines),
}  # fmt: skip
