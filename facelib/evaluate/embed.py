"""Embeddings and scores of benchmarks: each unique image once, kept beside the run.

    RUN/embeddings/NAME.npz   emb, emb_flip (U, d) float32 as the network gives them
    RUN/scores/NAME.npz       per-pair scores (`facelib.metrics.scores`), their figures beside
    RUN/eval.json             {"checkpoint", "rendered", "benchmarks": {NAME: figures}}

Each carries the digest of what it came from and its own (`facelib.digests`). That of embeddings
covers checkpoint, benchmark, input size and border filling.

Where torchrun starts several processes, each embeds its share of the images; the first writes the
files and has the figures.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from facelib import distributed
from facelib.data.feed import to_input
from facelib.data.locate import benchmark_paths
from facelib.digests import check_stamps, digest_values, stamped
from facelib.errors import BadData, UserError
from facelib.evaluate.figure_cache import kept_figures
from facelib.formats.benchmarks import Benchmark, is_rendered, load_benchmark
from facelib.formats.decode import decode, map_in_threads
from facelib.metrics.scores import Scores, make_scores, save_scores
from facelib.paths import atomic_file
from facelib.runs.files import read_evaluation
from facelib.runs.folder import Run, load_run, write_json
from facelib.runs.origin import evaluation_key, unfinished
from facelib.safety.readers import read_arrays
from facelib.training.trained import load_model

log = logging.getLogger(__name__)

BATCH = 256
LOG_SECONDS = 10


def embed_images(
    model: nn.Module,
    images: Sequence[bytes],
    size: int,
    batch: int = BATCH,
    flip: bool = False,
    fill_border: str = "none",
    where: Callable[[int], str] | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Embed encoded images in eval mode on the best device; the model's own mode is restored.

    Args:
        model: maps RGB floats (B, 3, size, size) in [-1, 1] to (B, d); is moved to the device.
        images: U encoded images.
        flip: embed the mirror images too.
        where: what an error calls the image of a row: these may be a part of a file's.

    Returns:
        emb (U, d) float32, not normalised, and the same of the mirror images or None.

    Raises:
        BadData: an image that does not decode.
        UserError: an embedding that is not finite or all zero, or no image at all.
    """
    if not len(images):
        raise UserError("no images to embed")
    where = where or (lambda i: f"image {i} of {len(images)}")
    was_training, device = model.training, distributed.best_device()
    model.to(device).eval()
    plain, mirrored = [], []
    decoded = _batches(images, size, batch, fill_border, where)
    try:
        with torch.inference_mode():
            for pixels in _log_progress(decoded, len(images)):
                x = to_input(torch.from_numpy(pixels).permute(0, 3, 1, 2), device)
                plain.append(model(x).float().cpu().numpy())
                if flip:
                    mirrored.append(model(x.flip(3)).float().cpu().numpy())
    finally:
        model.train(was_training)
    return _joined(plain, where), _joined(mirrored, where) if flip else None


def embed_shared(
    model: nn.Module, images: Sequence[bytes], size: int, **options
) -> tuple[np.ndarray, np.ndarray | None]:
    """`embed_images` with the work split over the ranks; every rank gets all rows."""
    ranks, rank = distributed.world_size(), distributed.rank()
    if ranks == 1 or not len(images):
        return embed_images(model, images, size, **options)
    share = -(-len(images) // ranks)  # equal, for the gather: the last rank begins anew
    rows = [i % len(images) for i in range(rank * share, (rank + 1) * share)]
    if where := options.pop("where", None):
        options["where"] = lambda i: where(rows[i])
    parts = embed_images(model, [images[i] for i in rows], size, **options)
    device = distributed.best_device()
    return tuple(
        part if part is None
        else distributed.gather(torch.from_numpy(part).to(device)).cpu().numpy()[: len(images)]
        for part in parts
    )  # fmt: skip


def _batches(images, size: int, batch: int, fill_border: str, where) -> Iterator[np.ndarray]:
    def decode_one(i: int) -> np.ndarray:
        try:
            return decode(images[i], size, fill_border)
        except BadData as error:
            raise BadData(f"{where(i)}: {error}") from error

    yield from map(np.stack, map_in_threads(decode_one, range(len(images)), batch))


def _log_progress(batches: Iterator[np.ndarray], total: int) -> Iterator[np.ndarray]:
    start = last = time.monotonic()
    done = 0
    for pixels in batches:
        yield pixels
        done += len(pixels)
        now = time.monotonic()
        if now - last > LOG_SECONDS:
            last, rate = now, done / (now - start)
            left = (total - done) / rate
            log.info("embedded %d of %d images, %.0f/s, %.0f s left", done, total, rate, left)


def _joined(parts: list[np.ndarray], where: Callable[[int], str]) -> np.ndarray:
    emb = np.concatenate(parts)
    bad = np.flatnonzero(~np.isfinite(emb).all(axis=1) | ~emb.any(axis=1))
    if len(bad):
        raise UserError(
            f"{len(bad)} of {len(emb)} embeddings are not finite or all zero (first: "
            f"{where(bad[0])}): the network is broken; evaluate an earlier checkpoint or train "
            "again"
        )
    return emb


def unit_rows(emb: np.ndarray) -> np.ndarray:
    """Rows (U, d) scaled to length 1, in float64: the sixth digit of a threshold hangs on it."""
    emb = np.asarray(emb, dtype=np.float64)
    return emb / np.linalg.norm(emb, axis=1, keepdims=True)


def score_benchmark(emb: np.ndarray, emb_flip: np.ndarray | None, bench: Benchmark) -> Scores:
    """Cosines of every pair, with all that the benchmark knows about it.

    Args:
        emb: (U, d) embeddings of the unique images, any length.
        emb_flip: (U, d) of their mirror images, or None: no `score_flip` then.
    """
    sides = bench.index1, bench.index2
    flip = None
    if emb_flip is not None:
        flip = _cosines(unit_rows(np.asarray(emb, np.float64) + emb_flip), *sides)
    known = ["yaw1", "yaw2", "index1", "index2"]
    if ((bench.id1 == bench.id2) == bench.same).all():
        known += ["id1", "id2"]
    else:  # guessed from the genuine pairs: labels of three images contradict each other
        log.warning("%s: its labels contradict each other: intervals over pairs", bench.name)
    columns = {name: getattr(bench, name) for name in known}
    cosines = _cosines(unit_rows(emb), *sides)
    return make_scores(cosines, bench.same, bench.fold, score_flip=flip, **columns)


def _cosines(unit: np.ndarray, index1: np.ndarray, index2: np.ndarray) -> np.ndarray:
    return np.einsum("pd,pd->p", unit[index1], unit[index2]).clip(-1, 1)


def cache_key(checkpoint: str, bench: Benchmark, size: int, fill_border: str) -> str:
    """Digest of all that decides the embeddings."""
    parts = [checkpoint, bench.digest, size, fill_border]
    return digest_values(parts)


def cached_embeddings(
    path: Path, key: str, compute: Callable[[], tuple[np.ndarray, np.ndarray]], force: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """(emb, emb_flip) from `path` if it was written under `key`, else computed and written."""
    if path.is_file() and not force:
        try:
            again = "they are made again"
            kept = read_arrays(path, "kept embeddings", again)
            if str(kept.get("key")) == key and {"emb", "emb_flip"} <= set(kept):
                check_stamps(kept, key, path, again)
                return kept["emb"], kept["emb_flip"]
        except BadData as error:
            log.warning("%s", error)
    emb, emb_flip = compute()
    if distributed.rank():
        return emb, emb_flip
    with atomic_file(path) as temporary, open(temporary, "wb") as out:
        np.savez(out, **stamped({"emb": emb, "emb_flip": emb_flip}, key))
    return emb, emb_flip


def embed_once(
    path: Path, key: str, images: Sequence[bytes], size: int, model: Callable[[], nn.Module],
    fill_border: str = "none",
) -> np.ndarray:  # fmt: skip
    """Embeddings (U, d) of images, not mirrored, kept in `path`; `model()` is called to make them.

    Other arguments: see `cached_embeddings` and `embed_images`.
    """

    def compute() -> tuple[np.ndarray, np.ndarray]:
        emb, _ = embed_images(model(), images, size, fill_border=fill_border)
        return emb, emb[:0]  # no mirror images

    return cached_embeddings(path, key, compute)[0]


def embed_benchmark(
    run_dir: Path,
    bench: Benchmark,
    model: nn.Module,
    checkpoint: str,
    size: int,
    fill_border: str = "none",
    force: bool = False,
    known: dict[bytes, tuple[np.ndarray, np.ndarray]] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """(emb, emb_flip) of a benchmark's unique images, (U, d) each: found beside the run, or made.

    Args:
        model: used only if the embeddings are missing or of another checkpoint.
        checkpoint: digest of the model's weights.
        known: rows by image of the same model and settings: the images of benchmarks overlap (the
            frontal ones of CFP-FF are those of CFP-FP). Rows made here are added.
    """
    known = {} if known is None else known

    def compute() -> tuple[np.ndarray, np.ndarray]:
        new = [i for i, image in enumerate(bench.images) if image not in known]
        log.info("%s: embedding %d of %d images", bench.name, len(new), len(bench.images))
        if new:
            images = [bench.images[i] for i in new]
            made = embed_shared(
                model, images, size, flip=True, fill_border=fill_border,
                where=lambda i: f"{bench.name}: image {new[i]} of {len(bench.images)}",
            )  # fmt: skip
            known.update(zip(images, zip(*made)))
        emb, emb_flip = zip(*(known[image] for image in bench.images))
        return np.stack(emb), np.stack(emb_flip)

    key = cache_key(checkpoint, bench, size, fill_border)
    return cached_embeddings(run_dir / "embeddings" / f"{bench.name}.npz", key, compute, force)


def save_figures(
    run_dir: Path,
    bench: Benchmark,
    emb: np.ndarray,
    emb_flip: np.ndarray,
    bootstrap: int = 1000,
    key: str = "",
) -> dict:
    """Write RUN/scores/NAME.npz and return the figures; `key`: what the embeddings come from."""
    scores, path = score_benchmark(emb, emb_flip, bench), run_dir / "scores" / f"{bench.name}.npz"
    save_scores(path, scores, key)
    figures = kept_figures(path.with_suffix(".figures.json"), scores, bootstrap)
    sources = {"digest": bench.digest, "embeddings": key, "scores": scores.digest}
    return {"images": len(bench.images), **sources, **figures}


def evaluate_benchmark(
    run_dir: Path,
    bench: Benchmark,
    model: nn.Module,
    checkpoint: str,
    size: int,
    fill_border: str = "none",
    bootstrap: int = 1000,
    force: bool = False,
    known: dict[bytes, tuple[np.ndarray, np.ndarray]] | None = None,
) -> dict:
    """Embed (or find the embeddings), save the scores, and return the figures of one benchmark.

    On ranks after the first: {}. Arguments: see `embed_benchmark` and `evaluate_run`.
    """
    found = embed_benchmark(run_dir, bench, model, checkpoint, size, fill_border, force, known)
    key = cache_key(checkpoint, bench, size, fill_border)
    return {} if distributed.rank() else save_figures(run_dir, bench, *found, bootstrap, key)


def evaluate_run(
    run_dir: str | Path,
    benchmarks: Sequence[str | Path] | None = None,
    bootstrap: int = 1000,
    force: bool = False,
) -> dict:
    """Evaluate a run's checkpoint and write RUN/eval.json. On ranks after the first: {}.

    Figures that eval.json already holds of other benchmarks stay, if they are of this checkpoint.

    Args:
        run_dir: run folder, or name of a run.
        benchmarks: `.bin` files; None takes those of the run's configuration.
        bootstrap: draws for the intervals over people, 0 for no intervals.
        force: embed again even if the embeddings are there.
    """
    run = load_run(run_dir)
    cfg = run.config
    paths = [Path(p) for p in benchmarks] if benchmarks else benchmark_paths(cfg)
    if not paths:
        raise UserError(f"{run.name}: no benchmark to evaluate; set benchmarks=lfw,cfp_ff,cfp_fp")
    key = evaluation_key(run) or ""  # before the weights are read: a training may go on
    model, checkpoint = load_model(run)
    reports, known = {}, {}
    for path in paths:
        bench = load_benchmark(path)
        if bench.name in reports:
            raise UserError(f"two benchmarks are called {bench.name!r}: rename one of the files")
        figures = evaluate_benchmark(
            run.path, bench, model, checkpoint,
            cfg.image_size, cfg.fill_border, bootstrap, force, known,
        )  # fmt: skip
        if not figures:
            continue
        # Rendered faces carry their specification beside them; every table must call them so.
        figures["rendered"], figures["file"] = is_rendered(path), str(path.resolve())
        reports[bench.name] = figures
        log.info(
            "%s %s: strict %.4f, best threshold %.4f", run.name, bench.name,
            figures["strict"]["accuracy"], figures["best"]["accuracy"],
        )  # fmt: skip
    return _add_to_evaluation(run, key, checkpoint, reports) if reports else {}


def _add_to_evaluation(run: Run, key: str, checkpoint: str, reports: dict[str, dict]) -> dict:
    """Write eval.json anew with further figures; those of another checkpoint go."""
    path = run.path / "eval.json"
    kept = read_evaluation(path) or {}
    if kept.get("checkpoint") == checkpoint:
        reports = kept["benchmarks"] | reports
    result = {
        "checkpoint": checkpoint,
        "rendered": any(r["rendered"] for r in reports.values()),
        "benchmarks": reports,
    }
    if note := unfinished(run):
        result["warnings"] = [note]
    result = stamped(result, key)
    write_json(path, result)
    return result
