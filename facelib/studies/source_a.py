"""Published figures of the study that is reproduced here, and how ours stand beside them.

Source A: "Face Verification: ArcFace vs InfoNCE". MS1M-ArcFace, 85,742 identities, two H100;
accuracies in percent under the strict protocol (threshold at FAR 0.001 on nine folds). Single runs
without seeds or intervals; the frozen models are not trained, LoRA is rank 8.
"""

import pandas as pd

from facelib.limits import FOUNDATION_MODELS
from facelib.metrics.tables import percent
from facelib.models.foundation import cached_folder

BENCHMARKS = {"lfw": "LFW", "cfp_ff": "CFP-FF", "cfp_fp": "CFP-FP"}

SOURCE_A: dict[str, tuple[float, float, float]] = {
    "ArcFace R50": (99.72, 99.80, 95.84),
    "InfoNCE R50": (99.55, 99.59, 87.89),
    "ArcFace + InfoNCE R50": (99.72, 99.73, 95.30),
    "CLIP ViT-B/32 frozen": (68.35, 69.01, 56.69),
    "DINOv2 ViT-B/14 frozen": (57.85, 51.39, 50.43),
    "I-JEPA ViT-H/14 frozen": (52.57, 51.64, 50.13),
    "CLIP ViT-B/32 + LoRA": (96.08, 89.79, 72.24),
    "DINOv2 ViT-B/14 + LoRA": (94.78, 96.81, 78.50),
    "I-JEPA ViT-H/14 + LoRA": (89.12, 89.57, 72.73),
}

LOSS_OF_ROW = {
    "ArcFace R50": "arcface",
    "InfoNCE R50": "infonce",
    "ArcFace + InfoNCE R50": "hybrid",
    "CLIP ViT-B/32 frozen": "clip-vit-b32",
    "DINOv2 ViT-B/14 frozen": "dinov2-vit-b14",
    "I-JEPA ViT-H/14 frozen": "ijepa-vit-h14",
    "CLIP ViT-B/32 + LoRA": "infonce-lora-clip-vit-b32",
    "DINOv2 ViT-B/14 + LoRA": "infonce-lora-dinov2-vit-b14",
    "I-JEPA ViT-H/14 + LoRA": "infonce-lora-ijepa-vit-h14",
}
# Not in source A: what stands in for its foundation models on a machine without their weights.
STAND_IN_ROWS = {
    "stand-in (generic ViT) frozen": "generic-vit",
    "stand-in (generic ViT) + LoRA": "infonce-lora-generic-vit",
}
NOT_RUN = "not run on this machine yet"
NO_WEIGHTS = "weights not on this machine"
SETTINGS = {
    "frozen": "same test images, not trained",
    "LoRA": "same faces, adapters of rank 8 only",
}


def results_table(reports: dict[str, dict], setting: str) -> pd.DataFrame:
    """Every row of source A beside this machine's figure, or the reason why there is none.

    Below them the stand-in's rows, where it was run.

    Args:
        reports: eval.json by `results.method_of`, as far as there are runs;
            plain reports of frozen models by their name (`evaluate.frozen.frozen_reports`).
        setting: what was trained here, for example "rendered faces, IResNet-10 at 32 px"; it says
            that the two columns are not comparable unless data and backbone agree.

    Returns:
        Frame with columns experiment, benchmark, published strict, here strict, here best
        threshold, setting here.
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
        if model in FOUNDATION_MODELS and not _has_weights(model):
            why = NO_WEIGHTS
        return {"here strict": why, "here best threshold": "", "setting here": ""}
    intervals = figures.get("intervals") or {}
    return {
        "here strict": percent(figures["strict"]["accuracy"], intervals.get("strict.accuracy")),
        "here best threshold": percent(figures["best"]["accuracy"], intervals.get("best.accuracy")),
        "setting here": setting,
    }


def _has_weights(name: str) -> bool:
    return cached_folder(name) is not None


REFERENCES = pd.DataFrame(
    [
        ("InsightFace R50, MS1MV2, s=64 m=0.5", "best threshold", 99.78, None, 97.94),
        ("humans (Sengupta et al. 2016)", "human raters", None, 96.24, 94.57),
    ],
    columns=["reference", "protocol", *BENCHMARKS.values()],
).set_index("reference")

CENTRES_SOURCE_A = pd.DataFrame(
    [
        ("LFW", "ArcFace", 0.714, 0.630, 0.631, 0.433, 0.448),
        ("LFW", "ArcFace + InfoNCE", 0.776, 0.676, 0.678, 0.339, 0.353),
        ("CFP-FF", "ArcFace", 0.711, 0.725, 0.727, 0.656, 0.664),
        ("CFP-FF", "ArcFace + InfoNCE", 0.780, 0.767, 0.769, 0.533, 0.531),
        ("CFP-FP", "ArcFace", 0.515, 0.726, 0.573, 0.902, 0.771),
        ("CFP-FP", "ArcFace + InfoNCE", 0.589, 0.769, 0.617, 0.897, 0.652),
    ],
    columns=[
        *("benchmark", "loss", "pair sim"),
        *("centre sim A", "centre sim B", "A closer", "B closer"),
    ],
).set_index(["benchmark", "loss"])
"""Centre analysis as published: positive pairs, 85,742 classifier centres, d = 512; shares 0 to 1.

InfoNCE has no classifier and is missing there.
"""

_B_COLUMNS = [
    *("LFW", "CFP-FP", "AgeDB-30", "CALFW", "CPLFW"),
    *("IJB-B TAR@FAR=1e-4", "IJB-C TAR@FAR=1e-4"),
]
_B_FIGURES = {
    "cluster-guided, R100": (99.85, 99.12, 98.58, 96.16, 93.51, 95.62, 96.80),
    "CoReFace, R100 (its own paper)": (99.83, 98.60, 98.37, 96.20, 93.27, None, None),
    "ArcFace, R50 (InsightFace, MS1MV2)": (99.78, 97.94, 98.25, None, None, None, 95.97),
}
_B_LOSSES = {
    **{"CosFace": "cosface", "SphereFace": "sphereface", "Sub-center ArcFace": "subcenter"},
    **{"CurricularFace": "curricularface", "MV-Softmax": "mv_softmax", "MagFace": "magface"},
    **{"AdaFace": "adaface", "ElasticFace": "elasticface", "Circle loss": "circle"},
    **{"SupCon": "supcon", "DCL": "dcl", "Triplet": "triplet", "Center loss": "center"},
}
_B_SYSTEMS = ("AFRN", "GroupFace", "DUL", "URFace", "DB", "BroadFace", "SST", "VPL-ArcFace")


def source_b_table() -> pd.DataFrame:
    """Source B's comparison (arXiv 2312.04029; MS1M, best threshold, percent), and what runs here.

    Its own row, and two whose figures stand in their own sources, hold what was published; a loss
    is run with the setting named; a system that is no loss is cited without a run.

    Returns:
        Frame by method: the published figures as text, empty where none is quoted here, and `here`.
    """
    rows = {
        name: dict(zip(_B_COLUMNS, ("" if v is None else f"{v:.2f}" for v in figures)))
        for name, figures in _B_FIGURES.items()
    }
    for name in _B_FIGURES:
        rows[name]["here"] = "published figures; other data and backbone than here"
    rows |= {name: {"here": f"a loss: loss={loss}"} for name, loss in _B_LOSSES.items()}
    rows |= {name: {"here": "cited by source B, not a loss: not run"} for name in _B_SYSTEMS}
    return pd.DataFrame(rows).T.reindex(columns=[*_B_COLUMNS, "here"]).fillna("").rename_axis(
        "method"
    )  # fmt: skip


# arXiv 2304.11668, table of R100 models: its own figures, on benchmarks of which two are used here.
COREFACE = pd.DataFrame(
    [
        ("CoReFace R100", 99.83, 98.37, 98.60, 96.20, 93.27),
        ("ArcFace + dropout R100, its control", 99.83, 98.27, 98.57, 96.18, 93.07),
    ],
    columns=["published, best threshold", "LFW", "AgeDB-30", "CFP-FP", "CALFW", "CPLFW"],
).set_index("published, best threshold")

# arXiv 2312.04029: BCubed F / NMI in percent, R100 on MS1M, IJB-B's clustering protocol.
_CLUSTERING = {
    ("ArcFace", "K-means"): ("66.70 / 88.83", "66.82 / 89.48", "66.93 / 89.88"),
    ("ArcFace", "DBSCAN"): ("72.72 / 90.42", "72.50 / 91.15", "73.89 / 91.96"),
    ("ArcFace", "L-GCN"): ("84.92 / 93.72", "83.50 / 93.78", "80.35 / 92.30"),
    ("MagFace", "K-means"): ("66.75 / 88.86", "67.33 / 89.62", "67.06 / 89.96"),
    ("MagFace", "DBSCAN"): ("73.13 / 90.61", "72.68 / 91.30", "74.26 / 92.13"),
    ("MagFace", "L-GCN"): ("85.27 / 93.83", "83.79 / 94.10", "81.58 / 92.79"),
    ("cluster-guided", "K-means"): ("66.79 / 88.89", "67.51 / 89.70", "67.12 / 90.02"),
    ("cluster-guided", "DBSCAN"): ("73.44 / 90.75", "72.78 / 91.42", "74.49 / 92.25"),
    ("cluster-guided", "L-GCN"): ("85.46 / 93.88", "83.92 / 94.41", "82.17 / 93.15"),
}
CLUSTERING_SOURCE_B = pd.DataFrame(
    _CLUSTERING.values(),
    pd.MultiIndex.from_tuples(_CLUSTERING, names=["embedding", "method"]),
    columns=["512 people", "1,024 people", "1,845 people"],
)
"""Single runs without intervals; the rule for eps and the averaging of the NMI are not stated."""

# arXiv 2312.04029 (source B), IResNet-100 on MS1M: its full method, single runs without intervals.
CLUSTER_GUIDED = pd.DataFrame(
    [_B_FIGURES["cluster-guided, R100"]],
    columns=_B_COLUMNS,
    index=pd.Index(["cluster-guided R100"], name="published, best threshold"),
)

# The same source, figure 2: mean cosine of positive pairs minus that of negative pairs.
GAPS_SOURCE_B = pd.DataFrame(
    [("CFP-FP", 0.463, 0.524), ("AgeDB-30", 0.521, 0.547)],
    columns=["published gap", "ArcFace", "cluster-guided"],
).set_index("published gap")
