"""Published figures of the studies that are reproduced here, and how ours stand beside them.

The figures are the CSV files of `runs/published/source-a` and `source-b`; README.md in each says
where they are from and under which protocol.
"""

import pandas as pd

from facelib.limits import FOUNDATION_MODELS
from facelib.metrics.tables import accuracies, benchmark_name
from facelib.models.registry import cached_folder
from facelib.paths import published_root

BENCHMARKS = {name: benchmark_name(name) for name in ("lfw", "cfp_ff", "cfp_fp")}


def published_figures(name: str, *index: str) -> pd.DataFrame:
    """A table of published figures, for example `source-a/centres`; `index`: its index columns."""
    frame = pd.read_csv(published_root() / f"{name}.csv")
    return frame.set_index(list(index)) if index else frame


_RESULTS = published_figures("source-a/accuracies", "experiment")
SOURCE_A: dict[str, list[float]] = _RESULTS[[*BENCHMARKS.values()]].T.to_dict("list")
LOSS_OF_ROW: dict[str, str] = _RESULTS["method"].to_dict()
# Not in source A: what stands in for its foundation models on a machine without their weights.
STAND_IN_ROWS = {
    "stand-in (generic ViT) frozen": "generic-vit",
    "stand-in (generic ViT) + LoRA": "infonce-lora-generic-vit",
}
NOT_RUN = "not run on this machine yet"
NO_WEIGHTS = "weights not on this machine"
SETTINGS = {"frozen": "same test images, not trained",
            "LoRA": "same faces, adapters of rank 8 only"}  # fmt: skip


def results_table(reports: dict[str, dict], setting: str) -> pd.DataFrame:
    """Every row of source A beside this machine's figure, or the reason why there is none.

    Below them the stand-in's rows, where it was run.

    Args:
        reports: eval.json by `results.method_of`, as far as there are runs; plain reports of frozen
            models by their name (`frozen.frozen_reports`).
        setting: what was trained here, for example "rendered faces, IResNet-10 at 32 px"; it says
            that the two columns are not comparable unless data and backbone agree.
    """
    rows = []
    ours = [row for row, key in STAND_IN_ROWS.items() if key in reports]
    for experiment in [*SOURCE_A, *ours]:
        report = reports.get((LOSS_OF_ROW | STAND_IN_ROWS)[experiment])
        published = SOURCE_A.get(experiment, (None,) * len(BENCHMARKS))
        for (key, name), value in zip(BENCHMARKS.items(), published):
            row = {"experiment": experiment, "benchmark": name,
                   "published strict": f"{value:.2f}" if value else "no such row"}  # fmt: skip
            figures = report["benchmarks"].get(key) if report else None
            kind = experiment.split()[-1]
            rows.append(row | _here(figures, SETTINGS.get(kind, setting), experiment))
    return pd.DataFrame(rows).set_index(["experiment", "benchmark"])


def _here(figures: dict | None, setting: str, experiment: str) -> dict:
    if figures is None:
        why, model = NOT_RUN, LOSS_OF_ROW.get(experiment, "").removeprefix("infonce-lora-")
        if model in FOUNDATION_MODELS and not cached_folder(model):
            why = NO_WEIGHTS
        return {"here strict": why, "here best threshold": "", "setting here": ""}
    best, strict = accuracies(figures)
    return {"here strict": strict, "here best threshold": best, "setting here": setting}


REFERENCES = published_figures("source-a/references", "reference")
CENTRES_SOURCE_A = published_figures("source-a/centres", "benchmark", "loss")
COREFACE = published_figures("source-b/coreface", "published, best threshold")
CLUSTERING_SOURCE_B = published_figures("source-b/clustering", "embedding", "method")
CLUSTER_GUIDED = published_figures("source-b/cluster_guided", "published, best threshold")
GAPS_SOURCE_B = published_figures("source-b/gaps", "published gap")
_HERE = {
    "figures": "published figures; other data and backbone than here",
    "loss": "a loss: loss={loss}",
    "system": "cited by source B, not a loss: not run",
}


def source_b_table() -> pd.DataFrame:
    """Source B's comparison (arXiv 2312.04029; MS1M, best threshold, percent), and what runs here.

    Published figures are text, empty where none is quoted here. A loss is run with the setting in
    `here`; a system that is no loss is cited without a run.
    """
    found = published_figures("source-b/comparison", "method")
    figures = found.drop(columns=["kind", "loss"])
    table = figures.map(lambda value: "" if pd.isna(value) else f"{value:.2f}")
    table["here"] = [_HERE[row.kind].format(loss=row.loss) for row in found.itertuples()]
    return table
