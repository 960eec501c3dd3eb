"""Adapted foundation models as tables: what trains, under which settings, what it brings."""

import pandas as pd
import torch

from facelib.config import Config, make_config
from facelib.data.locate import benchmark_paths, train_folder
from facelib.evaluate.embed import embed_images
from facelib.formats.benchmarks import load_benchmark
from facelib.models import build_backbone
from facelib.models.foundation import load_foundation
from facelib.models.lora import count_parameters, layer_shifts, trainable_fractions
from facelib.models.registry import FOUNDATIONS
from facelib.presets import PRESETS
from facelib.studies.claims import correct, family_note, gap_lines
from facelib.studies.frozen import evaluate_frozen
from facelib.studies.records import repeat_differences
from facelib.studies.results import Result
from facelib.training.trained import load_model

LORA_PRESETS = ("ms1m-lora-clip", "ms1m-lora-dinov2", "ms1m-lora-ijepa")


MAIN = "InfoNCE, ffn, rank 8"  # the variant that the others are compared with


def fraction_table(cfg: Config) -> pd.DataFrame:
    """Parameters that train, all parameters, their percentage, and the adapters' size in MB.

    The three real models at full size (shapes only, no weights needed), then the model of `cfg`
    where that is another one.
    """
    counts = trainable_fractions()
    if cfg.backbone not in counts:
        counts[cfg.backbone] = count_parameters(build_backbone(cfg))
    rows = {
        FOUNDATIONS[name].title: {
            "trained": trained,
            "all": total,
            "percent": round(100 * trained / total, 2),
            "adapter MB": round(trained * 4 / 1e6, 1),
        }
        for name, (trained, total) in counts.items()
    }
    return pd.DataFrame(rows).T.astype({"trained": int, "all": int}).rename_axis("model")


def settings_table() -> pd.DataFrame:
    """Source A's LoRA runs, and our variants: equal negatives, its text's epochs, peft's start."""
    ends = ("", "-equal", "-text", "-peft")
    presets = [p + end for p in LORA_PRESETS for end in ends if p + end in PRESETS]
    rows = {}
    for preset in presets:
        cfg = make_config(preset)
        own = cfg.global_batch // cfg.processes
        rows[preset] = {
            "batch a GPU": own,
            "negatives": own - 2,
            "optimiser": f"{cfg.optimizer} {cfg.lr:g}",
            "epochs": int(cfg.epochs),
            "warm-up epochs": round(cfg.warmup * cfg.epochs, 1),
            "spread of A": round(cfg.lora_spread, 2),
            "rank": cfg.lora_rank,
            "layers": cfg.lora_targets,
            "recompute": cfg.recompute,
        }
    return pd.DataFrame(rows).T.rename_axis("preset")


def frozen_results(cfg: Config, bootstrap: int = 1000) -> list[Result]:
    """The model of `cfg` without adapters and training: plain and mean-centred cosine."""
    torch.manual_seed(cfg.seed)  # of init=scratch
    model = load_foundation(cfg.backbone, cfg.init)
    paths = benchmark_paths(cfg)
    return evaluate_frozen(model, paths, train_folder(cfg), bootstrap, cfg.image_size)


def largest_initial_difference(cfg: Config) -> float:
    """Largest |adapted − frozen| embedding value of 64 benchmark images before the first step."""
    jpegs = load_benchmark(benchmark_paths(cfg)[0]).images[:64]
    embedded = []
    for build in (lambda: load_foundation(cfg.backbone, cfg.init), lambda: build_backbone(cfg)):
        torch.manual_seed(cfg.seed)  # of init=scratch
        embedded.append(embed_images(build(), jpegs, cfg.image_size)[0])
    frozen, adapted = embedded
    return float(abs(adapted - frozen).max())


def shift_frames(results: list[Result]) -> dict[str, pd.DataFrame]:
    """`layer_shifts` of trained LoRA runs, by their labels."""
    with torch.inference_mode():
        return {r.label: pd.DataFrame(layer_shifts(load_model(r.folder)[0])) for r in results}


def lift_table(before: Result, after: Result) -> pd.DataFrame:
    """Accuracies (%) before and after training, and whether best-threshold intervals part.

    `apart` is true where the two 95 % intervals do not overlap, a stricter demand than a paired
    difference that leaves out 0.
    """
    rows = {}
    for name in after.benchmarks:
        old, new = (result.report["benchmarks"][name] for result in (before, after))
        rows[after.title(name)] = {
            "before": 100 * old["best"]["accuracy"],
            "after": 100 * new["best"]["accuracy"],
            "strict before": 100 * old["strict"]["accuracy"],
            "strict after": 100 * new["strict"]["accuracy"],
            "apart": old["intervals"]["best.accuracy"][1] < new["intervals"]["best.accuracy"][0],
        }
    return pd.DataFrame(rows).T.rename_axis("benchmark")


def variant_of(row: pd.Series) -> str:
    """Name of a row of the ablation's record: what trains, by which loss."""
    loss = {"infonce": "InfoNCE", "arcface": "ArcFace"}[row["loss"].partition("-")[0]]
    if row["lora_rank"]:
        return f"{loss}, {row['lora_targets']}, rank {row['lora_rank']}"
    return f"{loss}, " + ("random start" if row["init"] == "scratch" else "all weights")


def lift_sentences(frozen, adapted) -> str:
    """What the adapters add to the frozen model."""
    return "\n".join(
        f"- {name}: best threshold {row['before']:.1f} frozen and centred, {row['after']:.1f} with "
        f"{adapted[0].label}; the 95 % intervals "
        f"{'do not overlap' if row['apart'] else 'overlap'}. "
        f"Strict: {row['strict before']:.1f}, then {row['strict after']:.1f}"
        for name, row in lift_table(frozen[-1], adapted[0]).iterrows()
    )


def variant_gaps(repeats: pd.DataFrame) -> pd.DataFrame:
    """Each variant less the main one, best threshold: one corrected family; `loss`: variants."""
    others = [name for name in repeats["loss"].unique() if name != MAIN]
    return correct(pd.concat([repeat_differences(repeats, name, MAIN) for name in others]))


def variant_sentences(gaps) -> str:
    """Which variants differ from the main one over the repeats."""
    lines = gap_lines(gaps, "benchmark", "comparison")
    return (
        f"Rendered faces, differences to the main variant over {gaps['repeats'].max()} repeats, "
        f"{family_note(gaps)}.\n\n" + "\n".join(lines)
    )
