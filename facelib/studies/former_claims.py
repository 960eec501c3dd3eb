"""What this study once reported as differences, and what a correction leaves of them.

Until the correction by Holm, a chapter listed each difference whose own 95 % interval left out 0.
Here is each of these, from the same committed records, within the family that its chapter now uses.
"""

import pandas as pd

from facelib.studies import adaptation, coreface, diagnostics, negatives, overlap_tables, readme
from facelib.studies.claims import points
from facelib.studies.records import load_record


def families(*chapters: str) -> dict[str, pd.DataFrame]:
    """Corrected comparisons (`claims.correct`) of these chapters, or of all with repeats.

    Returns:
        Frames with comparison, benchmark, protocol (where there are several), difference, alone.
    """
    return {chapter: FAMILIES[chapter]() for chapter in chapters or FAMILIES}


def _cluster() -> pd.DataFrame:
    gaps = diagnostics.corrected_gaps(load_record("rendered-cluster")[0])
    return gaps.assign(comparison=gaps["label"], benchmark=gaps["group"], difference=gaps["value"])


def _lora() -> pd.DataFrame:
    lora = load_record("rendered-lora")[0]
    return adaptation.variant_gaps(lora.assign(loss=lora.apply(adaptation.variant_of, axis=1)))


def _overlap() -> pd.DataFrame:
    gaps = overlap_tables.inflation_gaps(load_record("rendered-overlap")[0])
    return gaps.assign(benchmark="mean of benchmarks")


def _many() -> pd.DataFrame:
    return negatives.record_frame("rendered-negatives")[0]


FAMILIES = {
    "README, 13: losses": lambda: readme.loss_differences(load_record("rendered-losses")[0]),
    "05: CoReFace": lambda: coreface.term_gaps(load_record("rendered-coreface")[0]),
    "07: LoRA": _lora,
    "09: cluster-guided": _cluster,
    "README, 11: negatives": lambda: negatives.answers(_many()),
    "11: single rows": lambda: negatives.row_gaps(_many()),
    "11: from InfoNCE to ArcFace": lambda: negatives.ladder_gaps(_many()),
    "12: overlap": _overlap,
}


def former_claims() -> pd.DataFrame:
    """One row per difference that was once reported.

    Returns:
        Frame by chapter and comparison: benchmark, protocol, points (corrected), stands ("yes" or
        "no"), family (how many comparisons).
    """
    rows = []
    for chapter, gaps in families().items():
        for gap in gaps[gaps["alone"]].to_dict("records"):
            rows.append(
                {
                    "chapter": chapter,
                    "comparison": gap["comparison"],
                    "benchmark": gap["benchmark"],
                    "protocol": gap.get("protocol", "best threshold"),
                    "points": points(gap),
                    "stands": "yes" if gap["significant"] else "no",
                    "family": gap["family"],
                }
            )
    return pd.DataFrame(rows).set_index(["chapter", "comparison"])


def summary() -> pd.DataFrame:
    """One row per chapter: comparisons made, reported once, standing after the correction."""
    rows = {
        chapter: {
            "comparisons": len(gaps),
            "once reported": int(gaps["alone"].sum()),
            "stand": int((gaps["alone"] & gaps["significant"]).sum()),
        }
        for chapter, gaps in families().items()
    }
    return pd.DataFrame(rows).T.rename_axis("chapter")
