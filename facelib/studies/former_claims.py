"""What this study once reported as differences, and what a correction leaves of them.

Until the correction by Holm, a chapter listed each difference whose own 95 % interval left out 0.
Here is each of these, from the same committed records, within the family that its chapter now uses.
"""

import pandas as pd

from facelib.studies import adaptation, coreface, diagnostics, negatives, overlap_tables, readme
from facelib.studies.claims import points
from facelib.studies.records import load_record


def families() -> dict[str, pd.DataFrame]:
    """Corrected comparisons (`claims.correct`) of each chapter that has a record of repeats.

    Returns:
        Frames with comparison, benchmark, protocol (where there are several), difference, alone.
    """
    cluster = diagnostics.corrected_gaps(load_record("rendered-cluster")[0])
    cluster["comparison"], cluster["benchmark"] = cluster["label"], cluster["group"]
    many = negatives.record_frame("rendered-negatives")[0]
    lora = load_record("rendered-lora")[0]
    lora["loss"] = lora.apply(adaptation.variant_of, axis=1)
    overlap = overlap_tables.inflation_gaps(load_record("rendered-overlap")[0])
    return {
        "README, 13: losses": readme.loss_differences(load_record("rendered-losses")[0]),
        "05: CoReFace": coreface.term_gaps(load_record("rendered-coreface")[0]),
        "07: LoRA": adaptation.variant_gaps(lora),
        "09: cluster-guided": cluster.assign(difference=cluster["value"]),
        "README, 11: negatives": negatives.answers(many),
        "11: single rows": negatives.row_gaps(many),
        "11: from InfoNCE to ArcFace": negatives.ladder_gaps(many),
        "12: overlap": overlap.assign(benchmark="mean of benchmarks"),
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
