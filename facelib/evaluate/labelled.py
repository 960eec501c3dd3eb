"""Labelled embeddings as a file: what face clustering reads.

`NAME.npz` (read with `allow_pickle=False`): `emb` (N, d) real numbers, rows of any length but 0;
`label` (N,) whole numbers or text, the identity of each row.
"""

from pathlib import Path
from shlex import quote

import numpy as np

from facelib.errors import BadData, UserError
from facelib.paths import atomic_file
from facelib.safety.readers import read_arrays


def make_labelled(emb: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Check labelled embeddings: emb (N, d) float32, label (N,).

    Raises:
        UserError: what is wrong, in one line.
    """
    emb, label = np.asarray(emb), np.asarray(label)
    if emb.ndim != 2 or emb.dtype.kind not in "fiu" or 0 in emb.shape:
        raise UserError(
            f"`emb` has shape {emb.shape}, type {emb.dtype}: wanted real numbers (N, d)"
        )
    if label.shape != emb.shape[:1] or label.dtype.kind not in "iuUS":
        raise UserError(
            f"`label` has shape {label.shape}, type {label.dtype}: wanted ({len(emb)},) whole "
            "numbers or text, one identity a row of `emb`"
        )
    emb = emb.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(emb).all(axis=1) | ~emb.any(axis=1))
    if len(bad):
        raise UserError(
            f"{len(bad)} of {len(emb)} rows of `emb` are not finite or all zero (first: row "
            f"{bad[0]}): leave them out, or look at the images that gave them"
        )
    if len(np.unique(label)) < 2:
        raise UserError(f"every `label` is {label[0]!r}: clustering wants at least 2 identities")
    return emb, label


def load_labelled(path: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """Read and check `emb` (N, d) float32 and `label` (N,).

    Raises:
        BadData: no such file, no readable .npz, a missing or a wrong array; names the file.
    """
    path = Path(path)
    command = f"python -m facelib cluster {quote(str(path))} --export RUN"
    if not path.is_file():
        raise BadData(f"{path}: no such file; write one with: {command}")
    again = f"write it again with: {command}"
    wanted = "an .npz with `emb` (N, d) and `label` (N,)"
    arrays = read_arrays(path, wanted, again, needed=("emb", "label"))
    try:
        return make_labelled(arrays["emb"], arrays["label"])
    except UserError as error:
        raise BadData(f"{path}: {error}") from error


def save_labelled(path: Path | str, emb: np.ndarray, label: np.ndarray) -> None:
    """Write labelled embeddings atomically."""
    with atomic_file(Path(path)) as temporary, open(temporary, "wb") as out:
        np.savez(out, emb=emb, label=label)
