"""The data of the explorer: scores, thresholds, pictures and a map of evaluated runs."""

import base64
import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from facelib.errors import BadData, UserError
from facelib.evaluate.embed import unit_rows
from facelib.formats.benchmarks import Benchmark, person_of_image
from facelib.formats.decode import decode, encode_jpeg
from facelib.paths import named_run
from facelib.runs.folder import Run, load_run
from facelib.studies.explorer.nearest import Faces
from facelib.studies.results import LABELS, Result, method_of

log = logging.getLogger(__name__)
PAGE_BYTES = 14_500_000  # of a page, script and style left out
TILES = (80, 64, 48, 32, 24, 16, 8)  # pixels a side of a thumbnail, the first that fits
FACE_TILES = TILES[2:]


def gather(
    runs: Sequence[Run | Result | Path | str],
    benchmark: str | Sequence[str] | None = None,
    limit: int = PAGE_BYTES,
) -> dict:
    """All that the explorer shows, as JSON: arrays are base64 of their little-endian bytes.

    Args:
        runs: evaluated runs, or their names.
        benchmark: one name or several; None takes all that every run was evaluated on.
        limit: bytes of the JSON; pictures take what scores and maps leave.

    Raises:
        UserError: no such run, one that is not evaluated, no benchmark of all runs, or one whose
            pairs are not the same for all; more runs than fit.
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
    benches = [_benchmark(results, name) for name in names]
    faces = Faces(results)
    for name in names:
        for number, result in enumerate(results):
            faces.look(number, name, result.embeddings(name))
    found = {
        "runs": [{"name": r.folder.name, "label": r.label, "centres": kind}
                 for r, kind in zip(results, faces.kinds())],
        "benchmarks": [_facts(results, faces, bench) for bench in benches],
        "people": [name for name, _ in faces.shown()],
    }  # fmt: skip
    return found | _pictures(faces, benches, found, limit)


def _pictures(faces: Faces, benches: list[Benchmark], found: dict, limit: int) -> dict:
    """Sheets of pictures in the bytes that are left: a quarter for faces of the training."""
    room = (limit - len(json.dumps(found))) * 3 // 4  # base64 makes four bytes of three
    if room < limit // 20:
        raise UserError(
            f"the scores of {len(found['runs'])} runs on {len(benches)} benchmarks leave no room "
            f"for pictures in {limit / 1e6:.0f} MB: choose fewer runs, or --benchmarks"
        )
    training = sprite([picture for _, picture in faces.shown()], room // 4, FACE_TILES)
    room -= len(training["jpeg"]) * 3 // 4
    sheets = []
    for left, bench in zip(range(len(benches), 0, -1), benches):
        sheets.append(sprite(bench.images, room // left))
        room -= len(sheets[-1]["jpeg"]) * 3 // 4
    return {"faces": training, "pictures": sheets}


def _result(name: Run | Path | str) -> Result:
    run = load_run(name)
    return Result(run.path, run.config, run.evaluation(), LABELS[method_of(run.config.to_dict())])


def _benchmark(results: Sequence[Result], name: str) -> Benchmark:
    bench = results[0].benchmark(name)
    for result in results[1:]:
        if result.benchmark(name).digest != bench.digest:
            raise UserError(
                f"benchmark {name!r}: {result.folder.name} has other images or pairs than "
                f"{results[0].folder.name}; choose runs of the same data, or --benchmarks"
            )
    return bench


def _facts(results: Sequence[Result], faces: Faces, bench: Benchmark) -> dict:
    labels, fold = np.unique(bench.fold, return_inverse=True)
    turn = None if bench.yaw1 is None else np.abs(bench.yaw1 - bench.yaw2)
    return {
        "name": bench.name,
        "title": results[0].title(bench.name),
        "same": _pack(bench.same, "u1"),
        "fold": _pack(fold, "i4"),
        "folds": labels.tolist(),
        "index1": _pack(bench.index1, "i4"),
        "index2": _pack(bench.index2, "i4"),
        "turn": None if turn is None else _pack(turn, "f4"),
        "hidden": _hidden(bench),
        "people": [str(person) for person in person_of_image(bench)],
        "runs": [_scores(result, bench.name, faces.of(number, bench.name))
                 for number, result in enumerate(results)],
    }  # fmt: skip


def _hidden(bench: Benchmark) -> list[str] | None:
    """What hides a part of each unique image; None where the benchmark does not say."""
    if bench.hidden1 is None or bench.hidden2 is None:
        return None
    told = dict(zip(bench.index1.tolist(), bench.hidden1.tolist()))
    told |= dict(zip(bench.index2.tolist(), bench.hidden2.tolist()))
    return [told.get(i, "") for i in range(len(bench.images))]


def _scores(result: Result, name: str, near: tuple[np.ndarray, np.ndarray] | None) -> dict:
    # Float64, as saved: a rounded cosine could fall on the other side of a threshold.
    scores = _pack(result.scores(name).score, "f8")
    found = {"score": scores, "map": _pack(flat_map(result.embeddings(name)), "f4"), "near": None}
    if near:
        which, cosine = near
        found["near"] = {"person": _pack(which, "u2"), "cosine": _pack(cosine * 1e4, "i2")}
        found["near"]["count"] = which.shape[1]
    return found | result.thresholds(name)


def flat_map(emb: np.ndarray) -> np.ndarray:
    """The first two principal components (U, 2) of embeddings (U, d), scaled to [-1, 1]."""
    unit = unit_rows(emb)
    unit -= unit.mean(axis=0)
    _, axes = np.linalg.eigh(unit.T @ unit)
    flat = unit @ axes[:, :-3:-1]
    return flat / np.abs(flat).max().clip(min=1e-12)


def sprite(images: Sequence[bytes], room: int, tiles: Sequence[int] = TILES) -> dict:
    """Encoded pictures in one JPEG, row by row: the largest of `tiles` that fits in `room` bytes
    and is no larger than they are.

    One that does not decode, which a run may have skipped, stays grey.
    """
    columns = math.ceil(math.sqrt(max(len(images), 1)))
    rows = -(-max(len(images), 1) // columns)
    side = max(decode(images[0]).shape) if len(images) else 0
    for tile in [tile for tile in tiles if tile <= side] or tiles[-1:]:
        sheet = np.full((rows * tile, columns * tile, 3), 128, np.uint8)
        for i, image in enumerate(images):
            top, left = i // columns * tile, i % columns * tile
            try:
                sheet[top : top + tile, left : left + tile] = decode(image, tile)
            except BadData as error:
                log.info("a picture stays grey: %s", error)
        jpeg = encode_jpeg(sheet, 75)
        if len(jpeg) <= room:
            break
    return {"jpeg": base64.b64encode(jpeg).decode(), "tile": tile, "columns": columns}


def _pack(values: np.ndarray, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, f"<{kind}").tobytes()).decode()
