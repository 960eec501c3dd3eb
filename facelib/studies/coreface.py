"""What notebook 05 says of CoReFace, from the committed record."""

from facelib.studies.claims import family_note, gap_lines


def what_we_learned(gaps) -> str:
    """What the repeats say of CoReFace against its control."""
    lines = gap_lines(gaps, "benchmark", "protocol")
    counted = f"rendered faces, {gaps['repeats'].max()} repeats"
    return f"CoReFace − its control, {counted}, {family_note(gaps)}:\n\n" + "\n".join(lines)
