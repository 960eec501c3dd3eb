"""What is the answer? The study's questions, each with figures, their power, and what would count.

Every figure is of a committed record, within the family of its chapter (`former_claims.families`).
"""

import pandas as pd

from facelib.studies import former_claims, negatives, readme
from facelib.studies.claims import family_note, points, points_by
from facelib.studies.records import load_record

CHANGE = "What would change our mind"


def answers() -> list[dict]:
    """The five questions: question, lines (estimate with interval and power), change."""
    gaps, losses = former_claims.families(), load_record("rendered-losses")[0]
    first = gaps["README, 13: losses"]
    more = negatives.sentences(negatives.record_frame("rendered-negatives")[0])
    return [
        {
            "question": "How far does InfoNCE get against ArcFace on the same backbone and data?",
            "lines": [*_by_protocol(first, "InfoNCE − ArcFace"), family_note(first)],
            "change": "the same difference on MS1M with the rate searched for each loss: presets "
            "ms1m-arcface and ms1m-infonce",
        },
        {
            "question": "Does InfoNCE fall behind on profile faces only?",
            "lines": [readme.pose_line(losses).partition("** ")[2]],
            "change": "a difference of differences above 0 by both protocols on the official CFP "
            "folds, with the interval over repeats that the published single runs lack",
        },
        {
            "question": "Does InfoNCE lack negatives?",
            "lines": [*more[:2], more[-1]],
            "change": "a gain at an equal number of steps, with fresh negatives and the rate "
            "searched for each batch: preset ms1m-infonce-32k is source A's own question",
        },
        {
            "question": "What do hybrids, CoReFace and cluster-guided training add to ArcFace?",
            "lines": [
                *_by_protocol(first, "ArcFace + InfoNCE − ArcFace"),
                _shown(gaps["05: CoReFace"], "CoReFace less ArcFace on the same two views"),
                _shown(gaps["09: cluster-guided"], "cluster-guided training and its parts"),
            ],
            "change": "more repeats: the powers above say which gains these could not have shown",
        },
        {
            "question": "What do frozen foundation models and LoRA add?",
            "lines": [
                _shown(gaps["07: LoRA"], "the stand-in's variants less InfoNCE with rank 8"),
                "the stand-in shows the method: before any training on faces it is no better than "
                "raw pixels on LFW and CFP-FF",
            ],
            "change": "the published weights of CLIP, DINOv2 and I-JEPA, frozen and with adapters: "
            "06 and 07 with weights, presets ms1m-lora-*",
        },
    ]


def _by_protocol(gaps: pd.DataFrame, comparison: str) -> list[str]:
    parts = gaps[gaps["comparison"] == comparison].groupby("protocol", sort=False)
    return [f"{comparison}, {protocol}: {points_by(part)}" for protocol, part in parts]


def _shown(gaps: pd.DataFrame, what: str) -> str:
    """How many comparisons of a family are shown, and the smallest and largest power among them."""
    found = gaps[gaps["significant"]]
    told = "; ".join(
        f"{gap['comparison']} on {gap['benchmark']}"
        f"{', ' + gap['protocol'] if isinstance(gap.get('protocol'), str) else ''}: {points(gap)}"
        for gap in found.to_dict("records")
    )
    low, high = gaps["smallest"].min(), gaps["smallest"].max()
    return (
        f"{what}: {len(found)} of {len(gaps)} differences are shown{f' ({told})' if told else ''}"
        f"; these repeats would have shown {low:.1f} to {high:.1f} points"
    )


def answer_lines() -> str:
    """All answers as Markdown, for a notebook."""
    return "\n\n".join(
        "\n".join([f"**{one['question']}**\n", *(f"- {line}" for line in one["lines"]),
                   f"- *{CHANGE}:* {one['change']}"])
        for one in answers()
    )  # fmt: skip
