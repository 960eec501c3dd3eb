"""The results section of the README, written from committed records."""

from pathlib import Path

import pandas as pd

from facelib.errors import UserError
from facelib.metrics.tables import markdown_table
from facelib.paths import atomic_file, published_root
from facelib.studies.claims import correct, family_note, points_by
from facelib.studies.negatives import record_frame, sentences
from facelib.studies.records import (
    load_record,
    pose_difference,
    repeat_differences,
    repeat_table,
)

RESULTS_BEGIN, RESULTS_END = "<!-- results -->", "<!-- end of results -->"


def readme_section(name: str) -> str:
    """The README's results as Markdown: means with intervals, then corrected differences."""
    frame, record = load_record(name)
    lines = [result_table(frame), "", *loss_sentences(frame), ""]
    path = f"runs/published/{name}"
    source = f"[`{path}`]({path}), {record['runs']} runs"
    lines += [f"Source: {source}, made by the command in its `record.json`."]
    return "\n".join([*lines, "", *_more_negatives()])


def result_table(frame: pd.DataFrame) -> str:
    """Markdown: one row per loss and protocol, one column per benchmark, mean [95 % interval]."""
    table = repeat_table(frame)[list(PROTOCOLS)].rename_axis(columns="protocol")
    return markdown_table(table.stack().unstack(0, sort=False).reset_index())


PROTOCOLS = {"best threshold": "best.accuracy", "strict": "strict.accuracy"}


def loss_sentences(frame: pd.DataFrame) -> list[str]:
    """What a record of repeats says of ArcFace, InfoNCE and the hybrid, both protocols.

    First source A's own question, which is about pose; then all pairs of losses, one family.
    """
    parts = {protocol: pose_difference(frame, figure) for protocol, figure in PROTOCOLS.items()}
    pose = correct(pd.concat(part.assign(protocol=protocol) for protocol, part in parts.items()))

    found = (pose["significant"] & (pose["difference"] > 0)).all()
    seen = "is reproduced" if found else "is not reproduced"
    lines = [
        "- **Does InfoNCE fall behind on profile faces only?** (ArcFace − InfoNCE on CFP-FP) − "
        f"(the same on CFP-FF): {points_by(pose, 'protocol')}. Above 0 would be the "
        f"published effect: it {seen} here."
    ]
    gaps = loss_differences(frame)
    for (comparison, protocol), part in gaps.groupby(["comparison", "protocol"], sort=False):
        lines.append(f"- {comparison}, {protocol}: {points_by(part)}")
    return [*lines, "", f"Differences in {family_note(gaps)}."]


def loss_differences(frame: pd.DataFrame) -> pd.DataFrame:
    """All pairs of the three losses on all benchmarks, both protocols: one family."""
    pairs = (("infonce", "arcface"), ("hybrid", "arcface"), ("hybrid", "infonce"))
    parts = [
        repeat_differences(frame, a, b, figure).assign(protocol=protocol)
        for a, b in pairs
        for protocol, figure in PROTOCOLS.items()
    ]
    return correct(pd.concat(parts))


def _more_negatives() -> list[str]:
    """The first answer of 11_batch_size and its limits, where its record is: more negatives?"""
    name = "rendered-negatives"
    if not (published_root() / name).is_dir():
        return []
    frame, record = record_frame(name)
    path = f"runs/published/{name}"
    source = f"[`{path}`]({path}), {record['runs']} runs; all answers in 11_batch_size"
    answer, *_, limits = sentences(frame)
    return [f"{answer}. Limits: {limits}. Source: {source}."]


def refresh_readme(path: Path, name: str) -> None:
    """Write `readme_section` between the README's two result marks."""
    text = path.read_text()
    before, found, rest = text.partition(RESULTS_BEGIN)
    _, ended, after = rest.partition(RESULTS_END)
    if not found or not ended:
        raise UserError(f"{path} has no {RESULTS_BEGIN} … {RESULTS_END}: put the two marks back")
    section = readme_section(name)
    with atomic_file(path) as temporary:
        temporary.write_text(f"{before}{RESULTS_BEGIN}\n\n{section}\n\n{RESULTS_END}{after}")
