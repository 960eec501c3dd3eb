"""Labelled embeddings as a file: what face clustering reads, and how a run writes it.

`NAME.npz` (read with `allow_pickle=False`): `emb` (N, d) real numbers, rows of any length but 0;
`label` (N,) whole numbers or text, the identity of each row.
"""

import hashlib
from pathlib import Path

import numpy as np

from facelib.errors import BadData, UserError
from facelib.formats.benchmarks import person_of_image
from facelib.paths import atomic_file
from facelib.readers import read_arrays

TRAIN = "train"  # in place of a benchmark: the run's training images


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
    if not path.is_file():
        raise BadData(
            f"{path}: no such file; write one with: python -m facelib cluster {path} --export RUN"
        )
    again = f"write it again with: python -m facelib cluster {path} --export RUN"
    names = read_arrays(path, "an .npz with `emb` and `label`", again)
    arrays = {name: names[name] for name in ("emb", "label") if name in names}
    missing = [f"`{name}`" for name in ("emb", "label") if name not in arrays]
    if missing:
        raise BadData(
            f"{path}: no array {' and '.join(missing)} (found {', '.join(sorted(names)) or 'none'})"
            "; wanted `emb` (N, d) and `label` (N,)"
        )
    try:
        return make_labelled(**arrays)
    except UserError as error:
        raise BadData(f"{path}: {error}") from error


def save_labelled(path: Path | str, emb: np.ndarray, label: np.ndarray) -> None:
    """Write labelled embeddings atomically."""
    with atomic_file(Path(path)) as temporary, open(temporary, "wb") as out:
        np.savez(out, emb=emb, label=label)


def run_items(result, benchmark: str = "") -> tuple[np.ndarray, np.ndarray, list[bytes]]:
    """Embeddings, identities and images of an evaluated run's benchmarks, each image once.

    Args:
        result: `facelib.studies.results.Result`; its embeddings are read, not computed.
        benchmark: one of its benchmarks, or "" for all of them together: rendered faces only,
            since other benchmarks number their people each for itself.

    Returns:
        emb (U, d) as the network gave them, identity (U,), U encoded images; by identity.
    """
    names = [benchmark] if benchmark else result.benchmarks
    if unknown := set(names) - set(result.benchmarks):
        allowed = ", ".join([*result.benchmarks, TRAIN])
        raise UserError(f"benchmark {', '.join(unknown)!r}: the run has {allowed}")
    rendered = all(result.report["benchmarks"][name]["rendered"] for name in names)
    if len(names) > 1 and not rendered:
        raise UserError(
            f"identities of {', '.join(names)} are numbered apart: choose one with --benchmark"
        )
    found: dict[bytes, tuple] = {}
    for name in names:
        bench = result.benchmark(name)
        kept = result.folder / "embeddings" / f"{name}.npz"
        again = f"evaluate again: python -m facelib eval {result.folder.name} --force"
        emb = read_arrays(kept, "embeddings", again)["emb"]
        for row, image, label in zip(emb, bench.images, person_of_image(bench), strict=True):
            found.setdefault(hashlib.sha256(image).digest(), (row, label, image))
    emb, label, images = zip(*found.values())
    order = np.argsort(label, kind="stable")
    return np.stack(emb)[order], np.array(label)[order], [images[i] for i in order]


def export_run(run_name: str, path: Path, benchmark: str = "") -> tuple[int, int]:
    """Write a run's embeddings of a benchmark (see `run_items`), or of its training images.

    Returns:
        (images, identities) in the file.
    """
    from facelib.runs.folder import load_run
    from facelib.studies.centres import Geometry
    from facelib.studies.results import Result, evaluate

    run = load_run(run_name)
    if benchmark == TRAIN:
        emb, label = Geometry(Result(run.path, run.config, {}, "")).train
    else:
        emb, label, _ = run_items(evaluate(run), benchmark)
    save_labelled(path, *make_labelled(emb, label))
    return len(emb), len(np.unique(label))
