"""Is the signal of cluster-guided training alive? Rows of its ablation, simulations at scale."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from facelib.config import Config
from facelib.losses.cluster import tightness_literal
from facelib.losses.parts.cluster_store import ClassRings, RecentFeatures
from facelib.metrics.tables import percent
from facelib.runs.folder import Run
from facelib.runs.launch import launch_all
from facelib.studies import ablation
from facelib.studies.centres import similarities
from facelib.studies.claims import correct, family_note, gap_lines
from facelib.studies.records import PROTOCOLS, repeat_differences, repeat_intervals
from facelib.studies.results import LABELS, Result, method_of

# Source B on MS1M: identities, queue, batch. 5.8 million images: 68 an identity.
PAPER = {"classes": 85_742, "slots": 8_192, "batch": 512}
# Columns of a metrics line; those with a text are rows of `last_diagnostics`.
DIAGNOSTICS = {
    "queue_0": "share of classes with |Q_k| = 0",
    "queue_1": "share of classes with |Q_k| = 1",
    **dict.fromkeys(("queue_2", "queue_3_4", "queue_5_8", "queue_9_up", "phi_q0", "phi_q10"), ""),
    "phi_q50": "φ, median class",
    "phi_q90": "φ, 90th percentile",
    "phi_q100": "φ, largest",
    **dict.fromkeys(("margin_q0", "margin_q10", "margin_q90", "margin_q100"), ""),
    "margin_q50": "λ·m, median class (radians)",
    "margin": "λ·m, mean of the batch (radians)",
    "contrast_entropy": "",
    "contrast_temperature": "CluCon: temperature of the own class",
    "effective_classes": "CluCon: exp(entropy), classes",
    "contrast_accuracy": "CluCon: own class is the nearest",
    "share_z_clucon": "CluCon: share of the gradient at z",
    "align": "CluAli: value",
    "align_temperature": "CluAli: τ",
    "share_w_cluali": "CluAli: share of the gradient at W",
    "bank_cosine": "cosine of bank and classifier centre",
}


def train_rows(rows: Sequence[str], base: Config) -> dict[str, Run]:
    """Train rows of the ablation: label -> run.

    A finished one returns at once. All rows are checked before the first is trained.
    """
    configs = [ablation.row_config(row, base) for row in rows]
    labels = [LABELS[method_of(cfg.to_dict())] for cfg in configs]
    return dict(zip(labels, launch_all(configs)))


def metrics_of(runs: dict[str, Run]) -> pd.DataFrame:
    """Training lines of all runs below each other; column `run` is the label.

    Diagnostics that a run has not (plain ArcFace has none) are NaN. `effective_classes` is
    exp(entropy) of CluCon's softmax.
    """
    frames = {label: run.metrics().dropna(subset=["loss"]) for label, run in runs.items()}
    frame = pd.concat([f.assign(run=label) for label, f in frames.items()], ignore_index=True)
    frame = frame.reindex(columns=[*frame, *(name for name in DIAGNOSTICS if name not in frame)])
    return frame.assign(effective_classes=np.exp(frame["contrast_entropy"].astype(float)))


def last_diagnostics(metrics: pd.DataFrame) -> pd.DataFrame:
    """Mean of the diagnostics over the last ten log ticks of each run: one column per run."""
    named = {name: text for name, text in DIAGNOSTICS.items() if text}
    frame = metrics.groupby("run", sort=False)[[*named]].agg(lambda line: line.iloc[-10:].mean())
    return frame.rename(columns=named).dropna(how="all").T.rename_axis(columns=None)


def simulate_queue(classes: int, slots: int, batch: int) -> pd.DataFrame:
    """size, share: of classes with |Q_k| in a queue after 40 steps; binomial: expected by chance.

    All identities are equally likely. Real MS1M has 68 ± 40 images per identity; unequal counts
    leave still more classes at 0.
    """
    from scipy.stats import binom

    steps, generator = 40, torch.Generator().manual_seed(0)
    store = RecentFeatures(classes, 1, slots=slots)
    for _ in range(steps):
        labels = torch.randint(0, classes, (batch,), generator=generator)
        store.remember(torch.ones(batch, 1), labels)
    counts = torch.bincount(store.sizes()).numpy()
    sizes = np.arange(len(counts))
    chance = binom.pmf(sizes, min(slots, steps * batch), 1 / classes)
    return pd.DataFrame({"size": sizes, "share": counts / classes, "binomial": chance})


def simulate_concentration(
    classes: int, slots: int, batch: int, ring: int = 0, steps: int = 300
) -> pd.DataFrame:
    """What φ says of classes whose spread is known, once the bank has settled; nothing is trained.

    Features of class k are unit vectors μ_k + σ_k·noise with σ_k drawn from 0.4 to 1; the bank
    starts at the means. `ring`: features kept of each class; 0: one queue of `slots`.

    Returns:
        One row per class that was seen: spread (σ_k), phi, share (λ, literal), age (steps since its
        last image; 0 is the last batch).
    """
    generator, dim = torch.Generator().manual_seed(0), 16
    kind, size = (ClassRings, ring) if ring else (RecentFeatures, slots)
    store = kind(classes, dim, slots=size)
    mean = F.normalize(torch.randn(classes, dim, generator=generator))
    spread = 0.4 + 0.6 * torch.rand(classes, generator=generator)
    store.bank.copy_(mean / (1 + spread.square())[:, None].sqrt())  # mean of the unit features
    last = torch.full((classes,), -1)
    for step in range(steps):
        labels = torch.randint(0, classes, (batch,), generator=generator)
        noise = torch.randn(batch, dim, generator=generator) / dim**0.5
        store.remember(F.normalize(mean[labels] + spread[labels, None] * noise), labels)
        last[labels] = step
    seen = last >= 0
    frame = {
        "spread": spread[seen],
        "phi": store.phi[seen],
        "share": tightness_literal(store.phi)[seen],
        "age": steps - 1 - last[seen],
    }
    return pd.DataFrame({name: tensor.numpy() for name, tensor in frame.items()})


def fidelity(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per simulation: does φ follow the spread, or the time since the last image?"""
    rows = {}
    for name, frame in frames.items():
        fresh, old = frame[frame["age"] == 0], frame[frame["age"] > 0]
        rows[name] = {
            "rank correlation of φ and spread": frame["phi"].corr(frame["spread"], "spearman"),
            "the same, classes of the batch": fresh["phi"].corr(fresh["spread"], "spearman"),
        }
        for column, sign in (("phi", "φ"), ("share", "λ")):
            rows[name][f"median {sign}, classes of the batch"] = fresh[column].median()
            rows[name][f"median {sign}, the others"] = old[column].median()
    return pd.DataFrame(rows)


def gap_table(results: Sequence[Result]) -> pd.DataFrame:
    """Mean cosines of positive and negative pairs and their difference, by benchmark and row."""
    rows = {
        (result.title(name), result.label): similarities(result.scores(name))
        for name in results[0].benchmarks
        for result in results
    }
    return pd.DataFrame(rows).T.rename_axis(["benchmark", "loss"])


def methods_of(frame: pd.DataFrame) -> list[str]:
    """Methods of a published record in the order of the ablation, the baseline first."""
    order = ["arcface", *ablation.LABELS]
    return sorted(frame["loss"].unique(), key=order.index)


def ablation_table(frame: pd.DataFrame, figure: str = "best.accuracy") -> pd.DataFrame:
    """Ablation of a published record as text: mean over repeats [95 % t interval], percent."""
    found = repeat_intervals(frame, figure)
    limits = zip(found["lo"], found["hi"])
    limits = [pair if many > 1 else None for pair, many in zip(limits, found["repeats"])]
    found["text"] = [*map(percent, found["value"], limits)]
    table = found.pivot(index="group", columns="label", values="text")
    table = table[list(dict.fromkeys(found["label"]))].rename(columns="{} (rendered)".format)
    table["repeats"] = found.groupby("group")["repeats"].min()
    table = table.loc[[LABELS[method] for method in methods_of(frame)]]
    return table.rename_axis("loss").rename_axis(columns=None)


def ablation_gaps(frame: pd.DataFrame, figure: str = "best.accuracy") -> pd.DataFrame:
    """Each row of a published record minus ArcFace, paired by repeat: a frame for `plots.forest`.

    Columns label (row), group (benchmark), value, lo, hi (points, not corrected), repeats.
    """
    parts = [repeat_differences(frame, method, "arcface", figure).assign(label=LABELS[method])
             for method in methods_of(frame)[1:]]  # fmt: skip
    names = {"benchmark": "group", "difference": "value"}
    return pd.concat(parts, ignore_index=True).rename(columns=names)


def corrected_gaps(frame: pd.DataFrame) -> pd.DataFrame:
    """`ablation_gaps` of both protocols as one corrected family, with a column protocol."""
    parts = [ablation_gaps(frame, figure).assign(protocol=p) for p, figure in PROTOCOLS.items()]
    return correct(pd.concat(parts), "value")


def ablation_sentences(gaps: pd.DataFrame) -> str:
    """Which rows of the ablation differ from ArcFace over the repeats; gaps: `corrected_gaps`."""
    found = gaps[gaps["significant"]]
    lines = gap_lines(found, "label", "group", "protocol", value="value")
    return (
        f"Rendered faces, row − ArcFace: {len(found)} of {len(gaps)} differences are significant "
        f"({family_note(gaps)}). The largest that could have been missed: "
        f"{gaps['smallest'].max():.1f} points.\n\n" + "\n".join(lines)
    )


def signal_sentences(simulated, sizes) -> str:
    """How much signal the paper's queue holds."""
    facts = fidelity(simulated)["queue of 8,192"]
    share = sizes.set_index("size")["share"]
    return (
        f"At the paper's sizes {share[0]:.0%} of classes have no stored feature and {share[1]:.1%} "
        f"have one. φ of the classes in the batch is "
        f"{facts['median φ, classes of the batch']:.2f}, "
        f"of the others {facts['median φ, the others']:.2f}: the same spread, another time."
    )
