"""A trained and evaluated run as one object, for notebooks: figures, scores, benchmarks, floors."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import numpy as np
import pandas as pd
import torch
from torch import nn

from facelib.config import Config
from facelib.data.locate import benchmark_paths
from facelib.errors import UserError
from facelib.evaluate.embed import evaluate_benchmark, evaluate_run
from facelib.formats.benchmarks import Benchmark, is_rendered, load_benchmark
from facelib.metrics.compare import compare_scores
from facelib.metrics.scores import Scores, load_scores
from facelib.metrics.tables import accuracies, benchmark_name, figures_table, percent, with_interval
from facelib.models import build_backbone
from facelib.paths import named_run, runs_root
from facelib.rows import LOSS_ROWS
from facelib.runs.files import kept_embeddings
from facelib.runs.folder import Run, load_run
from facelib.studies import ablation
from facelib.studies.plots import pose_frame

MIN_POSE_PAIRS = 20
LABELS = {
    **{name: row.label for name, row in LOSS_ROWS.items()},
    "coreface-clean": "CoReFace, clean mask",
    "coreface-control": "ArcFace, two dropout views",
    **ablation.LABELS,
}


# Foundation models: which of their weights train, and from where.
_MODELS = {
    "generic-vit": "the stand-in",
    "clip-vit-b32": "CLIP ViT-B/32",
    "dinov2-vit-b14": "DINOv2 ViT-B/14",
    "ijepa-vit-h14": "I-JEPA ViT-H/14",
}
_TUNINGS = {
    "lora": "{loss}-LoRA on {model}",
    "full": "{loss}, all weights of {model}",
    "scratch": "{loss}, {model}'s architecture from random weights",
}
LABELS |= {
    f"{loss}-{how}-{backbone}": text.format(loss=LABELS[loss], model=model)
    for loss in list(LABELS)
    for how, text in _TUNINGS.items()
    for backbone, model in _MODELS.items()
}


def method_of(settings: Mapping) -> str:
    """Key of `LABELS` for a config's settings: the loss, or its named variant or control.

    For a foundation model also which weights train: `infonce-lora-generic-vit`.
    """
    method = settings["loss"]
    if method == "cluster":
        method = ablation.method_of_row(settings)
    elif method == "coreface" and settings["coreface_weight"] == 0:
        method = "coreface-control"
    elif method == "coreface" and settings["coreface_mask"] == "clean":
        method = "coreface-clean"
    if settings["backbone"] not in _MODELS:
        return method
    started = "scratch" if settings["init"] == "scratch" else "full"
    return f"{method}-{'lora' if settings['lora_rank'] else started}-{settings['backbone']}"


@dataclass(frozen=True)
class Result:
    """Figures of a run. `report` is the content of eval.json."""

    folder: Path
    config: Config
    report: dict
    label: str

    @property
    def rendered(self) -> bool:
        """Were the benchmarks rendered faces?"""
        return self.report["rendered"]

    @property
    def benchmarks(self) -> list[str]:
        return list(self.report["benchmarks"])

    def table(self) -> pd.DataFrame:
        """One row per benchmark: both protocols with intervals, TAR@FAR, AUC, EER."""
        return figures_table(self.report)

    def scores(self, name: str) -> Scores:
        """Per-pair scores of a benchmark: those that the figures come from."""
        wanted = self.report["benchmarks"].get(name, {}).get("scores")
        return load_scores(self.folder / "scores" / f"{name}.npz", wanted)

    def embeddings(self, name: str) -> np.ndarray:
        """Embeddings (U, d) of a benchmark's unique images, as the network gives them."""
        return kept_embeddings(self.folder, name, self.report["benchmarks"][name])

    def benchmark(self, name: str) -> Benchmark:
        """Images and pairs of a benchmark, from the file that it was evaluated on.

        Raises:
            UserError: no such benchmark among the figures, or its file is gone or another.
        """
        if name not in self.report["benchmarks"]:
            raise UserError(f"benchmark {name!r}: {self.label} has {', '.join(self.benchmarks)}")
        figures = self.report["benchmarks"][name]
        path = kept = figures.get("file")
        if not kept or not Path(kept).is_file():
            path = next((p for p in benchmark_paths(self.config) if p.stem == name), None)
        bench = path and load_benchmark(path)
        if not bench or bench.digest != figures.get("digest", bench.digest):
            what = "is of other images or pairs now" if bench else "is gone"
            raise UserError(
                f"benchmark {name!r} of {self.label}: its file {path or kept or ''} {what}; "
                "evaluate it again: python -m facelib eval "
                f"{named_run(self.folder)} --benchmarks {quote(str(path or kept or name + '.bin'))}"
            )
        return bench

    def thresholds(self, name: str) -> dict[str, float]:
        """Mean cosine thresholds of both protocols, for a plot of the unflipped scores."""
        figures = self.report["benchmarks"][name]
        return {
            "strict": figures["strict"]["threshold"],
            "best": 1 - figures["best"]["threshold"] / 2,  # squared L2 distance = 2 - 2 cos
        }

    def pose(self, name: str) -> pd.DataFrame:
        """TAR by |Δyaw| at the benchmark's mean best threshold; empty without known yaws.

        Bins of fewer than `MIN_POSE_PAIRS` genuine pairs are left out.
        """
        scores = self.scores(name)
        if scores.yaw1 is None:
            return pd.DataFrame()
        accepted = scores.score >= self.thresholds(name)["best"]
        frame = pose_frame(scores, accepted, self.label)
        return frame[frame["pairs"] >= MIN_POSE_PAIRS]

    def title(self, name: str) -> str:
        """A benchmark's name as tables show it: rendered faces are called so."""
        return benchmark_name(name, self.rendered)

    def summary(self) -> str:
        """One Markdown line per benchmark, with the numbers of eval.json."""
        lines = []
        for name, figures in self.report["benchmarks"].items():
            best, strict = accuracies(figures)
            lines.append(f"- {self.title(name)}: best threshold {best} %, strict {strict} %")
            lines += [f"  - warning: {text}" for text in figures.get("warnings", ())]
        return f"{self.label}, {self.folder.name}\n" + "\n".join(lines)


def evaluate(run: Run, bootstrap: int = 1000) -> Result:
    """Evaluate a finished run on its benchmarks (embeddings are cached)."""
    report = evaluate_run(run, bootstrap=bootstrap)
    return Result(run.path, run.config, report, LABELS[method_of(run.config.to_dict())])


class Pixels(nn.Module):
    """Raw pixels as an embedding: centred and flattened. The lower floor of any benchmark."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - x.mean((1, 2, 3), keepdim=True)).flatten(1)


def floors(cfg: Config) -> dict[str, Result]:
    """Figures without training on a config's benchmarks: raw pixels, and the random network."""
    torch.manual_seed(cfg.seed)
    untrained = cfg.replace(init="scratch", lora_rank=0)
    models = {"raw pixels": Pixels(), "random network": build_backbone(untrained).eval()}
    results = {}
    for label, model in models.items():
        folder = runs_root() / "floors" / f"{label.replace(' ', '-')}-{cfg.digest()}"
        figures = {}
        for path in benchmark_paths(cfg):
            bench = load_benchmark(path)
            key = f"{label}-{cfg.seed}-{cfg.image_size}"
            figures[bench.name] = evaluate_benchmark(
                folder, bench, model, key, cfg.image_size, cfg.fill_border, bootstrap=0
            )
            figures[bench.name]["rendered"] = is_rendered(path)
        report = {"benchmarks": figures, "rendered": cfg.data == "rendered"}
        results[label] = Result(folder, cfg, report, label)
    return results


def side_by_side(results: list[Result]) -> pd.DataFrame:
    """Best-threshold accuracy, strict accuracy and AUC (%) of several results, with intervals."""
    rows = {}
    for result in results:
        for name, figures in result.report["benchmarks"].items():
            intervals = figures.get("intervals") or {}
            figures = *accuracies(figures), percent(figures["auc"], intervals.get("auc"))
            columns = ("best threshold", "strict", "AUC")
            rows[(result.title(name), result.label)] = dict(zip(columns, figures))
    frame = pd.DataFrame(rows).T
    names = {results[0].title(name): i for i, name in enumerate(results[0].benchmarks)}
    frame = frame.rename_axis(["benchmark", "loss"])
    return frame.sort_index(level=0, sort_remaining=False, key=lambda level: level.map(names))


def accuracy_frame(results: list[Result], figure: str = "best.accuracy") -> pd.DataFrame:
    """Frame for `plots.forest`: label (benchmark), group (loss), value, lo, hi."""
    group, key = figure.split(".")
    rows = []
    for result in results:
        for name, figures in result.report["benchmarks"].items():
            lo, hi = (figures.get("intervals") or {}).get(figure) or (float("nan"),) * 2
            value = figures[group][key]
            label = benchmark_name(name)
            rows.append({"label": label, "group": result.label, "value": value, "lo": lo, "hi": hi})
    return pd.DataFrame(rows)


def differences(a: Result, b: Result, bootstrap: int = 1000) -> pd.DataFrame:
    """Paired differences a − b in percentage points with 95 % intervals, and exact McNemar p."""
    rows = {}
    for name in a.benchmarks:
        found = compare_scores(a.scores(name), b.scores(name), bootstrap)
        row = {}
        for kind, figure in (("best", "best.accuracy"), ("strict", "strict.accuracy")):
            entry = found["differences"][figure]
            points = [100 * value for value in (entry["difference"], *(entry["interval"] or ()))]
            told = with_interval(*points) if len(points) == 3 else f"{points[0]:+.1f} (no interval)"
            row[f"{kind}: difference"] = told
            row[f"{kind}: McNemar p"] = f"{found['mcnemar'][kind]['p']:.2g}"
        rows[a.title(name)] = row
    return pd.DataFrame(rows).T.rename_axis(f"{a.label} − {b.label}")


def finished(cfg: Config) -> Result | None:
    """The result of a config whose run is done, or None: nothing is trained."""
    path = runs_root() / cfg.run_name
    if not (path / "config.json").is_file():
        return None
    run = load_run(path)
    return evaluate(run) if run.state == "done" else None


def finished_reports(configs: Iterable[Config]) -> dict[str, dict]:
    """Reports of the configs whose run is done, by `method_of`: nothing is trained."""
    found = {method_of(cfg.to_dict()): finished(cfg) for cfg in configs}
    return {method: result.report for method, result in found.items() if result}
