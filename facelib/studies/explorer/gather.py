"""The data of the explorer: scores, thresholds, pictures and a map of evaluated runs."""

import base64
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from facelib.errors import UserError
from facelib.evaluate.embed import unit_rows
from facelib.formats.benchmarks import Benchmark, person_of_image
from facelib.formats.decode import decode, encode_jpeg
from facelib.paths import named_run
from facelib.runs.folder import Run, load_run
from facelib.studies.results import LABELS, Result, method_of

PICTURE_BYTES = 7_000_000  # of all pictures: a third more as text, and the scores, stay below 15 MB
TILES = (80, 64, 48, 32, 24)  # pixels a side of a thumbnail, the first that fits


def gather(
    runs: Sequence[Run | Result | Path | str], benchmark: str | Sequence[str] | None = None
) -> dict:
    """All that the explorer shows, as JSON: arrays are base64 of their little-endian bytes.

    Args:
        runs: evaluated runs, or their names.
        benchmark: one name or several; None takes all that every run was evaluated on.

    Raises:
        UserError: no such run, one that is not evaluated, no benchmark of all runs, or one whose
            pairs are not the same for all.
    """
    results = [run if isinstance(run, Result) else _result(run) for run in runs]
    names = [benchmark] if isinstance(benchmark, str) else list(benchmark or ())
    names = list(dict.fromkeys(names)) or [
        name for name in results[0].benchmarks if all(name in r.benchmarks for r in results)
    ]
    if not names:
        raise UserError(
            "these runs share no benchmark: evaluate them on one: "
            f"python -m facelib eval {named_run(results[-1].folder)} --benchmarks FILE.bin"
        )
    room = PICTURE_BYTES // len(names)
    found = [_benchmark(results, name, room) for name in names]
    rows = [{"name": r.folder.name, "label": r.label} for r in results]
    return {"runs": rows, "benchmarks": found}


def _result(name: Run | Path | str) -> Result:
    run = load_run(name)
    return Result(run.path, run.config, run.evaluation(), LABELS[method_of(run.config.to_dict())])


def _benchmark(results: Sequence[Result], name: str, room: int) -> dict:
    bench = results[0].benchmark(name)
    for result in results[1:]:
        if result.benchmark(name).digest != bench.digest:
            raise UserError(
                f"benchmark {name!r}: {result.folder.name} has other images or pairs than "
                f"{results[0].folder.name}; choose runs of the same data, or --benchmarks"
            )
    labels, fold = np.unique(bench.fold, return_inverse=True)
    turn = None if bench.yaw1 is None else np.abs(bench.yaw1 - bench.yaw2)
    return {
        "name": name,
        "title": results[0].title(name),
        "same": _pack(bench.same, "u1"),
        "fold": _pack(fold, "i4"),
        "folds": labels.tolist(),
        "index1": _pack(bench.index1, "i4"),
        "index2": _pack(bench.index2, "i4"),
        "turn": None if turn is None else _pack(turn, "f4"),
        "people": [str(person) for person in person_of_image(bench)],
        "pictures": sprite(bench, room),
        "runs": [_scores(result, name) for result in results],
    }


def _scores(result: Result, name: str) -> dict:
    # Float64, as saved: a rounded cosine could fall on the other side of a threshold.
    scores = _pack(result.scores(name).score, "f8")
    return {"score": scores, "map": _pack(flat_map(result.embeddings(name)), "f4")} | (
        result.thresholds(name)
    )


def flat_map(emb: np.ndarray) -> np.ndarray:
    """The first two principal components (U, 2) of embeddings (U, d), scaled to [-1, 1]."""
    unit = unit_rows(emb)
    unit -= unit.mean(axis=0)
    _, axes = np.linalg.eigh(unit.T @ unit)
    flat = unit @ axes[:, :-3:-1]
    return flat / np.abs(flat).max().clip(min=1e-12)


def sprite(bench: Benchmark, room: int) -> dict:
    """All pictures of a benchmark in one JPEG, row by row: the largest of `TILES` with `room`."""
    columns = math.ceil(math.sqrt(len(bench.images)))
    for tile in TILES:
        sheet = np.zeros((-(-len(bench.images) // columns) * tile, columns * tile, 3), np.uint8)
        for i, image in enumerate(bench.images):
            top, left = i // columns * tile, i % columns * tile
            sheet[top : top + tile, left : left + tile] = decode(image, tile)
        jpeg = encode_jpeg(sheet, 75)
        if len(jpeg) <= room:
            break
    return {"jpeg": base64.b64encode(jpeg).decode(), "tile": tile, "columns": columns}


def _pack(values: np.ndarray, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, f"<{kind}").tobytes()).decode()
