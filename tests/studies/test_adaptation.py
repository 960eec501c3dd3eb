"""Tables of the LoRA chapter: settings from the presets, intervals that part, names of variants."""

from pathlib import Path

import pandas as pd

from facelib.config import make_config
from facelib.studies import adaptation
from facelib.studies.results import Result


def result(accuracy: float, half: float) -> Result:
    figures = {"best": {"accuracy": accuracy}, "strict": {"accuracy": 0.5}}
    figures["intervals"] = {"best.accuracy": [accuracy - half, accuracy + half]}
    report = {"rendered": True, "benchmarks": {"cfp_ff": figures}}
    return Result(Path("none"), make_config(), report, "toy")


def test_the_settings_show_the_spread_in_negatives_and_its_repair():
    # Catches: images counted over both GPUs, whose negatives source A does not gather.
    table = adaptation.settings_table()
    own = table.loc[list(adaptation.LORA_PRESETS), "negatives"]
    assert own.tolist() == [4098, 778, 118]
    assert 34 < own.max() / own.min() < 35
    equal = table.loc[[name for name in table.index if name.endswith("-equal")]]
    assert set(equal["negatives"]) == {own["ms1m-lora-dinov2"]}
    assert equal["recompute"].to_dict() == {
        "ms1m-lora-clip-equal": False,
        "ms1m-lora-ijepa-equal": True,
    }
    assert table["epochs"].to_dict()["ms1m-lora-ijepa"] == 5
    assert table["warm-up epochs"].tolist().count(2.5) == 3  # the -peft presets


def test_intervals_part_only_where_they_do_not_overlap():
    # Catches: the wrong ends compared; a fall shown as a lift.
    apart = {
        (0.8, 0.9): True,  # [0.78, 0.82] and [0.88, 0.92]
        (0.8, 0.83): False,
        (0.9, 0.8): False,
    }
    for (before, after), expected in apart.items():
        table = adaptation.lift_table(result(before, 0.02), result(after, 0.02))
        assert table.loc["CFP-FF (rendered)", "apart"] == expected


def test_variants_of_an_ablation_have_names_of_their_own():
    # Catches: two variants under one name, whose repeats would be averaged.
    rows = [
        ("infonce-lora-generic-vit", 8, "ffn", "pretrained"),
        ("infonce-lora-generic-vit", 32, "ffn", "pretrained"),
        ("infonce-lora-generic-vit", 8, "all", "pretrained"),
        ("arcface-lora-generic-vit", 8, "ffn", "pretrained"),
        ("infonce-full-generic-vit", 0, "ffn", "pretrained"),
        ("infonce-scratch-generic-vit", 0, "ffn", "scratch"),
    ]
    frame = pd.DataFrame(rows, columns=["loss", "lora_rank", "lora_targets", "init"])
    names = frame.apply(adaptation.variant_of, axis=1)
    assert names.is_unique
    assert names[0] == "InfoNCE, ffn, rank 8"
    assert names[5] == "InfoNCE, random start"
