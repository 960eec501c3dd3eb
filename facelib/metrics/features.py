"""Saved features, read a block at a time: arrays of numpy, or MegaFace's one file per image.

MegaFace's feature file (the devkit's OpenCV matrix), little-endian:

| bytes | type | meaning |
|---|---|---|
| 0–3 | int32 | rows, d |
| 4–7 | int32 | columns, 1 |
| 8–11 | int32 | bytes per row, 4 |
| 12–15 | int32 | 5: float32 |
| 16– | float32 (d,) | the feature |

The devkit's lists are JSON: `path`, N image files, and in lists of probes `id`, N names. The
feature of an image lies at FOLDER/PATH + SUFFIX.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facelib.errors import BadData, UserError
from facelib.safety.readers import one_line, read_arrays, read_object, reading

CV_32F = 5
HEADER = struct.Struct("<4i")


@dataclass(frozen=True, eq=False)
class Features:
    """N saved features of d numbers; `read(start, stop)` gives float32 (stop − start, d)."""

    name: str
    rows: int
    dim: int
    labels: np.ndarray | None  # (N,) ints
    read: Callable[[int, int], np.ndarray]

    def unit_blocks(self, size: int, stop: int | None = None) -> Iterator[np.ndarray]:
        """Unit rows, float32 (≤ size, d), in order; of the first `stop` rows.

        Raises:
            UserError: a feature that is not finite or all zero.
        """
        stop = self.rows if stop is None else min(stop, self.rows)
        for start in range(0, stop, size):
            block = self.read(start, min(start + size, stop))
            length = np.linalg.norm(block, axis=1, keepdims=True)
            bad = np.flatnonzero(~(np.isfinite(length) & (length > 0)))
            if len(bad):
                raise UserError(f"{self.name}: feature {start + bad[0]} is not finite or all zero")
            yield block / length


def open_features(path: Path, folder: Path | None = None, suffix: str = ".bin") -> Features:
    """Saved features of any of these kinds; nothing but headers is read.

    Args:
        path: `.npy` (N, d), mapped into memory; `.npz` with `emb` (N, d) and maybe `label` (N,); or
            a MegaFace list (any other name).
        folder, suffix: of a list, where its feature files are and what their names end with.

    Raises:
        BadData: a file that is missing or of another form. UserError: a list without a folder.
    """
    path = Path(path)
    if not path.is_file():
        raise BadData(f"{path}: no such file; wanted features (.npy, .npz) or a MegaFace list")
    if path.suffix in (".npy", ".npz"):
        return _open_arrays(path)
    if folder is None:
        raise UserError(f"{path} is a list: say where its feature files are, with a folder")
    return _open_list(path, Path(folder), suffix)


def _open_arrays(path: Path) -> Features:
    if path.suffix == ".npy":
        with reading(path, "an array of features"):
            emb, labels = np.load(path, mmap_mode="r", allow_pickle=False), None
    else:
        arrays = read_arrays(path, "an .npz with `emb`", only=("emb", "label"), needed=("emb",))
        emb, labels = arrays["emb"], arrays.get("label")
    if emb.ndim != 2 or not len(emb) or emb.dtype.kind != "f":
        raise BadData(f"{path}: features {emb.dtype} {emb.shape}, wanted floats (N, d)")
    if labels is not None and labels.shape != (len(emb),):
        raise BadData(f"{path}: label has shape {labels.shape}, wanted ({len(emb)},)")
    if labels is not None:
        labels = np.unique(labels, return_inverse=True)[1]

    def read(start: int, stop: int) -> np.ndarray:
        return np.asarray(emb[start:stop], np.float32)

    return Features(path.name, *emb.shape, labels, read)


def _open_list(path: Path, folder: Path, suffix: str) -> Features:
    content = read_object(path)
    files, ids = content.get("path"), content.get("id")
    lists = [files] if ids is None else [files, ids]
    if not all(isinstance(part, list) for part in lists) or not all(
        isinstance(value, str | int) and one_line(str(value)) for part in lists for value in part
    ):
        raise BadData(f"{path}: no MegaFace list, which is JSON with `path` (and `id`): texts")
    files = [str(file) for file in files]
    if not files or (ids is not None and len(ids) != len(files)):
        raise BadData(f"{path}: {len(files)} paths and {len(ids or [])} ids, wanted one an image")
    dim = len(read_feature(folder / (files[0] + suffix)))

    def read(start: int, stop: int) -> np.ndarray:
        return np.stack([read_feature(folder / (f + suffix), dim) for f in files[start:stop]])

    labels = None if ids is None else np.unique([str(i) for i in ids], return_inverse=True)[1]
    return Features(path.name, len(files), dim, labels, read)


def read_feature(path: Path, dim: int | None = None) -> np.ndarray:
    """One MegaFace feature file: float32 (d,).

    Raises:
        BadData: missing, of another layout, or not of `dim` numbers.
    """
    if not path.is_file():
        raise BadData(f"{path}: no such feature file; check the folder and the suffix")
    content = path.read_bytes()
    header = HEADER.unpack_from(content) if len(content) >= HEADER.size else ()
    d = header[0] if header else 0
    if header[1:] != (1, 4, CV_32F) or len(content) != HEADER.size + 4 * d or d < 1:
        raise BadData(
            f"{path}: header {header} and {len(content)} bytes, wanted (d, 1, 4, 5) and 16 + 4·d"
        )
    if dim is not None and d != dim:
        raise BadData(f"{path}: a feature of {d} numbers, wanted {dim} as in the first file")
    return np.frombuffer(content, "<f4", offset=HEADER.size)
