"""What is the answer? The study's questions, each with figures, their power, and what would count.

Every figure is of a committed record, within the family of its chapter (`former_claims.families`).
"""

import pandas as pd

from facelib.studies import breadth, former_claims, negatives, readme
from facelib.studies.claims import family_note, points, points_by
from facelib.studies.records import load_record

CHAPTERS = "README, 13: losses", "05: CoReFace", "07: LoRA", "09: cluster-guided"
CHANGE = "What would change our mind"


def answers() -> list[dict]:
    """The five questions: question, lines (record, estimate with interval and power), change."""
    gaps, losses = former_claims.families(*CHAPTERS), load_record("rendered-losses")[0]
    first = gaps["README, 13: losses"]
    shapes, _ = breadth.split_lengths(breadth.record_frame("rendered-breadth")[0])
    more = negatives.sentences(negatives.record_frame("rendered-negatives")[0])
    return [
        {
            "question": "How far does InfoNCE get against ArcFace on the same backbone and data?",
            "lines": [
                *_by_protocol(first, "InfoNCE − ArcFace"),
                ("rendered-losses", family_note(first)),
                ("rendered-breadth", f"{breadth.verdict(shapes)} ({breadth.limits(shapes)})"),
            ],
            "change": "the same difference on MS1M with the rate searched for each loss: presets "
            "`ms1m-arcface` and `ms1m-infonce`, and with `subset=8500x20` as with `1700x100`",
        },
        {
            "question": "Does InfoNCE fall behind on profile faces only?",
            "lines": [("rendered-losses", readme.pose_line(losses).partition("** ")[2])],
            "change": "a positive difference of differences by both protocols on the official CFP "
            "folds, with the interval over repeats that the published single runs lack",
        },
        {
            "question": "Does InfoNCE lack negatives?",
            "lines": [("rendered-negatives", line) for line in (*more[:2], more[-1])],
            "change": "a gain at an equal number of steps, with fresh negatives and the rate "
            "searched for each batch: preset `ms1m-infonce-32k` is source A's own question",
        },
        {
            "question": "What do hybrids, CoReFace and cluster-guided training add to ArcFace?",
            "lines": [
                *_by_protocol(first, "ArcFace + InfoNCE − ArcFace"),
                ("rendered-coreface",
                 _shown(gaps["05: CoReFace"], "CoReFace less ArcFace on the same two views")),
                ("rendered-cluster",
                 _shown(gaps["09: cluster-guided"], "cluster-guided training and its parts")),
            ],
            "change": "more repeats: the powers above say which gains these could not have shown",
        },
        {
            "question": "What do frozen foundation models and LoRA add?",
            "lines": [
                ("rendered-lora",
                 "published weights cannot be downloaded here: a small transformer, pretrained on "
                 "drawn shapes, stands in. It shows the method, not an answer: before any training "
                 "on faces it is no better than raw pixels on LFW and CFP-FF, and worse on CFP-FP"),
                ("rendered-lora",
                 _shown(gaps["07: LoRA"], "adapters of this stand-in, each less InfoNCE in the "
                        "feed-forward layers with rank 8")),
            ],
            "change": "the published weights of CLIP, DINOv2 and I-JEPA, frozen and with adapters: "
            "06_frozen_baselines and 07_lora with weights, presets `ms1m-lora-*`",
        },
    ]  # fmt: skip


def _by_protocol(gaps: pd.DataFrame, comparison: str) -> list[tuple[str, str]]:
    parts = gaps[gaps["comparison"] == comparison].groupby("protocol", sort=False)
    return [
        ("rendered-losses", f"{comparison}, {protocol}: {points_by(part)}")
        for protocol, part in parts
    ]


def _shown(gaps: pd.DataFrame, what: str) -> str:
    """How many comparisons of a family are significant, and what half of them could have shown."""
    found = gaps[gaps["significant"]]
    told = "; ".join(
        f"{gap['comparison']} on {gap['benchmark']}"
        f"{', ' + gap['protocol'] if isinstance(gap.get('protocol'), str) else ''}: {points(gap)}"
        for gap in found.to_dict("records")
    )
    return (
        f"{what}: {len(found)} of {len(gaps)} differences are significant"
        f"{f' ({told})' if told else ''}; half of them would have been found from "
        f"{gaps['smallest'].median():.1f} points on (power of 80 %)"
    )


def answer_lines() -> str:
    """All answers as Markdown, for a notebook."""
    return "\n\n".join(
        "\n".join([f"**{one['question']}**\n", *(f"- {line}" for _, line in one["lines"]),
                   f"- *{CHANGE}:* {one['change']}"])
        for one in answers()
    )  # fmt: skip
