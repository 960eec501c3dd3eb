"""What notebook 05 says of CoReFace, from the committed record."""

import pandas as pd

from facelib.studies.claims import family_note, gap_lines
from facelib.studies.records import PROTOCOLS, protocol_gaps

FIGURES = {**PROTOCOLS, "AUC": "auc"}


def term_gaps(repeats: pd.DataFrame) -> pd.DataFrame:
    """CoReFace less its control, in all figures: one corrected family, with a column protocol."""
    return protocol_gaps(repeats, [("coreface", "coreface-control")], FIGURES)


def what_we_learned(gaps) -> str:
    """What the repeats say of CoReFace against its control."""
    lines = gap_lines(gaps, "benchmark", "protocol")
    counted = f"rendered faces, {gaps['repeats'].max()} repeats"
    return f"CoReFace − its control, {counted}, {family_note(gaps)}:\n\n" + "\n".join(lines)
