"""Frozen models on benchmarks: embedded once, scored plain and mean-centred.

    FROZEN/embeddings/NAME.npz, train.npz     emb, emb_flip; key of weights, data and input size
    FROZEN/scores/NAME.npz                    plain cosine
    FROZEN/centred/scores/NAME.npz            cosine after the training images' mean is subtracted
    FROZEN/report.json                        {"model", "weights", variant: {"benchmarks", …}}

FROZEN is `frozen/<model>-<weights digest>-<data digest>` under the runs root.

Embeddings of a network that was never trained on faces lie in a narrow cone: a large common part
makes all cosines alike. Centring removes that part; the mean is that of training images, never of
the benchmark.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

from facelib.config import Config, make_config
from facelib.data.datasets import FaceRecords, Jpegs
from facelib.digests import digest_values
from facelib.errors import UserError
from facelib.evaluate.embed import embed_benchmark, embed_once, save_figures
from facelib.formats.benchmarks import Benchmark, is_rendered, load_benchmark
from facelib.formats.decode import decode
from facelib.limits import FOUNDATION_MODELS
from facelib.models.foundation import build_full_size, weights_digest
from facelib.models.registry import FOUNDATIONS, cached_folder
from facelib.paths import runs_root
from facelib.runs.folder import read_json, write_json
from facelib.safety.readers import reading
from facelib.studies.results import Result
from facelib.studies.source_a import NO_WEIGHTS

log = logging.getLogger(__name__)
CENTRING_IMAGES = 2000  # training images in the mean: its standard error is 2 % of their spread
POOLINGS = {"projection": "projection", "CLS": "CLS token", "mean": "mean of patch tokens"}
VARIANTS = {"plain": ("", ""), "centred": ("centred", ", centred")}  # folder, label


def evaluate_frozen(
    model: nn.Module,
    benchmarks: Sequence[Path],
    train: Path | None = None,
    bootstrap: int = 1000,
    size: int | None = None,
    label: str = "",
) -> list[Result]:
    """Evaluate a model without training it.

    Args:
        model: a `Foundation`, or any module that maps (B, 3, S, S) in [-1, 1] to (B, d).
        benchmarks: `.bin` files.
        train: folder with train.rec, whose images give the mean to subtract; None: plain only.
        bootstrap: draws for the intervals over people, 0 for no intervals.
        size: pixels that the model is given; None: those of the benchmark's images, or its own
            input where that is smaller (a larger one it resizes to itself).
        label: name in tables; empty: the model's own.

    Returns:
        Results with plain cosine and, given `train`, with mean-centred cosine.
    """
    loaded, side = _load(benchmarks, any_size=bool(size))
    name, checkpoint = getattr(model, "name", type(model).__name__.lower()), weights_digest(model)
    size = size or min(side, getattr(model, "input_size", side))
    data = digest_values([*(bench.digest for bench in loaded), str(train), size], digits=8)
    folder = runs_root() / "frozen" / f"{name}-{checkpoint[:8]}-{data}"
    mean = _training_mean(folder, model, checkpoint, train, size) if train else None
    reports: dict[str, dict] = {variant: {} for variant in VARIANTS if variant == "plain" or train}
    known: dict = {}
    for path, bench in zip(benchmarks, loaded):
        found = embed_benchmark(folder, bench, model, checkpoint, size, known=known)
        for variant, figures in reports.items():
            sides = found if variant == "plain" else (emb - mean for emb in found)
            place = folder / VARIANTS[variant][0]
            figures[bench.name] = save_figures(place, bench, *sides, bootstrap)
            figures[bench.name]["rendered"] = is_rendered(path)
    content = {"model": name, "weights": getattr(model, "weights", ""), "checkpoint": checkpoint}
    content |= {
        variant: {"rendered": any(f["rendered"] for f in figures.values()), "benchmarks": figures}
        for variant, figures in reports.items()
    }
    write_json(folder / "report.json", content)
    cfg = _config(name, benchmarks, train)
    label = label or getattr(model, "label", name)
    return [
        Result(folder / place, cfg, content[variant], label + suffix)
        for variant, (place, suffix) in VARIANTS.items()
        if variant in reports
    ]


def _load(benchmarks: Sequence[Path], any_size: bool) -> tuple[list[Benchmark], int]:
    """The benchmarks, and the least side of their images: one side for all, unless any will do."""
    loaded = [load_benchmark(path) for path in benchmarks]
    if not loaded or len({bench.name for bench in loaded}) < len(loaded):
        names = ", ".join(str(path) for path in benchmarks) or "none"
        raise UserError(f"benchmarks: {names}; wanted one or more .bin files of different names")
    sides = {bench.name: decode(bench.images[0]).shape[0] for bench in loaded}
    if not any_size and len(set(sides.values())) > 1:
        found = ", ".join(f"{bench} {pixels} px" for bench, pixels in sides.items())
        raise UserError(f"benchmarks of several sizes ({found}): evaluate each size in a call")
    return loaded, min(sides.values())


def _config(name: str, benchmarks: Sequence[Path], train: Path | None) -> Config:
    """What a `Result` needs to find its benchmarks again."""
    settings = {"benchmarks": ",".join(str(Path(path).resolve()) for path in benchmarks)}
    settings |= {"backbone": name} if name in FOUNDATION_MODELS else {}
    return make_config(**settings, **({"data": str(Path(train).resolve())} if train else {}))


def frozen_reports(benchmarks: Sequence[Path]) -> dict[str, dict]:
    """Plain reports of pretrained models that were evaluated here on these files, by model.

    The stand-in counts as its preset's run made it; the last evaluation of a model counts.
    """
    digests = {path.stem: load_benchmark(path).digest for path in benchmarks}
    found = {}
    files = (runs_root() / "frozen").glob("*/report.json")
    for path in sorted(files, key=lambda path: path.stat().st_mtime):
        content = read_json(path)
        with reading(path, "a report that `frozen` wrote"):
            model, weights, plain = (content[name] for name in ("model", "weights", "plain"))
            figures = plain["benchmarks"].items()
            same = digests == {name: entry["digest"] for name, entry in figures}
        folder_or_hub = model != "generic-vit" and weights != "scratch"
        if same and weights and (folder_or_hub or weights == "pretrained"):
            found[model] = plain
    return found


def available_weights(name: str, folder: str = "") -> str | None:
    """Weights of a published model for `load_foundation`: `folder/name`, or the hub cache's."""
    if folder and (Path(folder).expanduser() / name).is_dir():
        return str(Path(folder).expanduser() / name)
    return "pretrained" if cached_folder(name) else None


def foundation_table(names: Sequence[str], folder: str = "") -> pd.DataFrame:
    """One row per model at full size: parameters in millions, d, input, pooling, weights here."""
    rows = {}
    for name in names:
        model, entry = build_full_size(name), FOUNDATIONS[name]
        where = "found" if entry.repo and available_weights(name, folder) else NO_WEIGHTS
        rows[entry.title] = {
            "million parameters": round(sum(p.numel() for p in model.parameters()) / 1e6, 1),
            "d": model.dim,
            "input": f"{model.input_size} px",
            "pooling": POOLINGS[model.pooling],
            "weights": where if entry.repo else "pretrained here",
        }
    return pd.DataFrame(rows).T.rename_axis("model")


def _training_mean(folder: Path, model, checkpoint: str, train: Path, size: int) -> np.ndarray:
    """Mean embedding (d,) of training images spread evenly over the records."""
    records = FaceRecords(train, size)
    count = min(CENTRING_IMAGES, len(records))
    chosen = np.linspace(0, len(records) - 1, count).astype(int)
    key = digest_values([checkpoint, str(train), size, count], digits=8)
    images, path = Jpegs(records, chosen), folder / "embeddings" / "train.npz"
    emb = embed_once(path, key, images, size, lambda: model)
    return emb.mean(0, dtype=np.float64)


def what_we_learned(stand_in, results) -> str:
    """Accuracy of each model, and what the strict protocol makes of the centred one."""
    lines = []
    for name in stand_in[1].benchmarks:
        best = [(r.label, r.report["benchmarks"][name]["best"]["accuracy"]) for r in results]
        strict = 100 * stand_in[1].report["benchmarks"][name]["strict"]["accuracy"]
        shown = "; ".join(f"{label}: {100 * value:.1f}" for label, value in best)
        lines.append(f"- **{stand_in[1].title(name)}**, best threshold: {shown}")
        lines.append(f"  - the centred stand-in under the strict protocol: {strict:.1f}")
    return "\n".join(lines)
