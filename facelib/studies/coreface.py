"""What notebook 05 says of CoReFace, from the committed record."""

import pandas as pd

from facelib.studies.claims import correct, family_note, gap_lines
from facelib.studies.records import repeat_differences

FIGURES = {"best threshold": "best.accuracy", "strict": "strict.accuracy", "AUC": "auc"}


def term_gaps(repeats: pd.DataFrame) -> pd.DataFrame:
    """CoReFace less its control, in all figures: one corrected family, with a column protocol."""
    parts = [
        repeat_differences(repeats, "coreface", "coreface-control", figure).assign(protocol=title)
        for title, figure in FIGURES.items()
    ]
    return correct(pd.concat(parts))


def what_we_learned(gaps) -> str:
    """What the repeats say of CoReFace against its control."""
    lines = gap_lines(gaps, "benchmark", "protocol")
    counted = f"rendered faces, {gaps['repeats'].max()} repeats"
    return f"CoReFace − its control, {counted}, {family_note(gaps)}:\n\n" + "\n".join(lines)
