"""What the last cells of chapters 05 to 12 say, from small made tables and records."""

from pathlib import Path

import pandas as pd

from facelib.config import make_config
from facelib.studies import adaptation, clustering, coreface, diagnostics, frozen, overlap_tables
from facelib.studies.claims import correct
from facelib.studies.records import repeat_differences
from facelib.studies.results import Result

WOBBLE = (-0.01, 0.0, 0.01, 0.0)


def result(label, best, half=0.02):
    figures = {"best": {"accuracy": best}, "strict": {"accuracy": 0.5}}
    figures["intervals"] = {"best.accuracy": [best - half, best + half]}
    report = {"rendered": True, "benchmarks": {"cfp_ff": figures}}
    return Result(Path("none"), make_config(), report, label)


def repeats(levels, figure="best.accuracy"):
    """Four repeats on LFW; a level of None is 0.9, wobbling so that no order can be claimed."""
    return pd.DataFrame(
        [
            {"loss": loss, "seed": seed, "data_seed": seed, "benchmark": "lfw",
             figure: 0.9 + wobble if level is None else level + wobble / 1000}
            for seed, wobble in enumerate(WOBBLE)
            for loss, level in levels.items()
        ]
    )  # fmt: skip


def test_coreface_is_compared_with_its_control():
    # Catches: control − CoReFace instead, a difference without its verdict.
    frame = repeats({"coreface": 0.88, "coreface-control": 0.9})
    gaps = repeat_differences(frame, "coreface", "coreface-control").assign(protocol="strict")
    head, line = coreface.what_we_learned(correct(gaps)).split("\n\n")
    assert head.startswith("CoReFace − its control, rendered faces, 4 repeats")
    assert line.startswith("- LFW, strict: -2.0 [-2.0, -2.0]")


def test_frozen_models_are_listed_with_their_own_figures():
    # Catches: a model left out, the plain stand-in under the strict protocol.
    plain, centred = result("stand-in", 0.6), result("stand-in, centred", 0.65)
    text = frozen.what_we_learned([plain, centred], [result("raw pixels", 0.7), plain, centred])
    assert "raw pixels: 70.0; stand-in: 60.0; stand-in, centred: 65.0" in text
    assert text.endswith("under the strict protocol: 50.0")


def test_adapters_are_compared_with_the_centred_frozen_model():
    # Catches: the plain frozen row, before and after swapped, intervals that overlap anyway.
    frozen_rows = [result("plain", 0.5), result("centred", 0.6)]
    apart = adaptation.lift_sentences(frozen_rows, [result("LoRA", 0.8)])
    assert "best threshold 60.0 frozen and centred, 80.0 with LoRA" in apart
    assert "do not overlap" in apart
    assert "intervals overlap" in adaptation.lift_sentences(frozen_rows, [result("LoRA", 0.61)])


def test_variants_without_a_clear_difference_are_marked():
    # Catches: an order of ranks claimed from noise.
    frame = repeats({"main": 0.9, "worse": 0.87, "level": None})
    gaps = pd.concat([repeat_differences(frame, name, "main") for name in ("worse", "level")])
    first, second = adaptation.variant_sentences(correct(gaps)).split("\n\n")[1].splitlines()
    assert first.startswith("- LFW, worse − main: -3.0") and "n.s." not in first
    assert "level − main" in second and "(n.s." in second


def test_the_ablation_lists_clear_differences_only_and_counts_all():
    # Catches: rows that are not significant in the list.
    frame = repeats({"arcface": 0.9, "cluster-all": 0.88, "cluster-cg": None})
    gaps = correct(diagnostics.ablation_gaps(frame).assign(protocol="strict"), "value")
    head, *lines = [line for line in diagnostics.ablation_sentences(gaps).splitlines() if line]
    assert "1 of 2 differences are significant" in head
    assert len(lines) == 1 and lines[0].startswith("- cluster-guided, LFW, strict: -2.0")


def test_the_queue_is_told_by_its_shares_and_medians():
    # Catches: the ring's simulation, shares of other sizes.
    phi = {"phi": [0.24, 0.24, 0.05, 0.05], "spread": [0.4, 0.5, 0.6, 0.7]}
    frame = pd.DataFrame(phi | {"age": [0, 0, 3, 3], "share": [0.9, 0.9, 0.1, 0.1]})
    sizes = pd.DataFrame({"size": [0, 1], "share": [0.9, 0.1]})
    text = diagnostics.signal_sentences({"queue of 8,192": frame}, sizes)
    assert "90% of classes have no stored feature and 10.0% have one" in text
    assert "in the batch is 0.24, of the others 0.05" in text


def test_clusterings_are_told_by_gains_figures_and_clear_differences():
    # Catches: precision and recall swapped, differences whose interval holds 0 in the list.
    most = pd.DataFrame(
        [("ArcFace", method, 0.8, 0.6, 0.7, eps)
         for method, eps in (("L-GCN", None), ("K-means", None), ("DBSCAN", 0.3),
                             ("DBSCAN, label-free eps", 0.4))],
        columns=["embedding", "method", "bcubed_precision", "bcubed_recall", "bcubed_f", "eps"],
    )  # fmt: skip
    gaps = pd.DataFrame({"a": ["x", "y", "z"], "a − b": [3.0, -2.0, 0.5], "lo": [1.0, -3, -1],
                         "hi": [5.0, -1, 2], "excludes 0": [True, True, False]})  # fmt: skip
    text = clustering.what_we_learned(gaps, most, gaps, 10, [5, 10], ["ArcFace"])
    assert "5, 10 people: -2.0 to +3.0 points" in text
    assert "above 0 in 1 of 3 cases, below 0 in 1" in text
    assert "L-GCN 80 and 60" in text and "ArcFace 70.0 against 70.0" in text
    assert text.endswith("x +3.0; y -2.0") and "2 of 3 differences" in text


def test_inflation_is_averaged_over_benchmarks_within_a_repeat():
    # Catches: benchmarks counted as repeats, gains in fractions, InfoNCE − ArcFace.
    signals = pd.DataFrame(
        {"recall": [0.5, 0.7], "precision": [1.0, 0.8]}, pd.Index(["names"] * 2, name="signal")
    )
    kept = pd.DataFrame(
        [{"protocol": "strict", "loss": loss, "seed": seed, "data_seed": seed, "benchmark": bench,
          "gain": gain + spread}
         for seed in range(3)
         for bench, spread in (("lfw", 1), ("cfp_fp", -1))
         for loss, gain in (("arcface", 2 + seed), ("infonce", seed - 1))]
    )  # fmt: skip
    lines = overlap_tables.what_we_learned(
        {"runs": 3}, signals, kept.assign(kind="accuracy", group="difference")
    ).splitlines()
    assert lines[2] == "- **names**: recall 60%, precision 90%"
    assert [line.split(": ")[1].split(" [")[0] for line in lines[3:]] == ["+3.0", "+0.0", "+3.0"]
    assert "ArcFace − InfoNCE" in lines[5] and "n.s." in lines[4] and "n.s." not in lines[5]
