"""Embeddings of a run with the identity of each row: for face clustering here and elsewhere."""

from pathlib import Path

import numpy as np

from facelib.digests import digest
from facelib.errors import UserError
from facelib.evaluate.labelled import make_labelled, save_labelled
from facelib.formats.benchmarks import person_of_image
from facelib.runs.folder import load_run
from facelib.studies.centres import Geometry
from facelib.studies.results import Result, evaluate

TRAIN = "train"  # in place of a benchmark: the run's training images


def run_items(result: Result, benchmark: str = "") -> tuple[np.ndarray, np.ndarray, list[bytes]]:
    """Embeddings (U, d) of the network, identities (U,) and U encoded images, by identity.

    Args:
        benchmark: one of the run's benchmarks, or "" for all of them together, each image once:
            rendered faces only, since other benchmarks number their people each for itself.
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
    found: dict[str, tuple] = {}
    for name in names:
        bench, emb = result.benchmark(name), result.embeddings(name)
        for row, image, label in zip(emb, bench.images, person_of_image(bench), strict=True):
            found.setdefault(digest(image, digits=64), (row, label, image))
    emb, label, images = zip(*found.values())
    order = np.argsort(label, kind="stable")
    return np.stack(emb)[order], np.array(label)[order], [images[i] for i in order]


def export_run(run_name: str, path: Path, benchmark: str = "") -> tuple[int, int]:
    """Write a run's embeddings of a benchmark (see `run_items`), or of its training images.

    Returns:
        (images, identities) in the file.
    """
    run = load_run(run_name)
    if benchmark == TRAIN:
        emb, label = Geometry(Result(run.path, run.config, {}, "")).train
    else:
        emb, label, _ = run_items(evaluate(run), benchmark)
    save_labelled(path, *make_labelled(emb, label))
    return len(emb), len(np.unique(label))
