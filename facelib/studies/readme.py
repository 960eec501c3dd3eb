"""The results section of the README, written from committed records."""

from pathlib import Path

import pandas as pd

from facelib.errors import UserError
from facelib.paths import atomic_file, published_root
from facelib.studies.claims import correct, family_note, points_by
from facelib.studies.negatives import record_frame, sentences
from facelib.studies.records import load_record, pose_difference, repeat_differences, repeat_table

RESULTS_BEGIN, RESULTS_END = "<!-- results -->", "<!-- end of results -->"


def readme_section(name: str) -> str:
    """The README's results as Markdown: means with intervals, then corrected differences."""
    frame, record = load_record(name)
    table = repeat_table(frame).reset_index()
    rows = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).to_numpy()]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines += ["", "", *loss_sentences(frame), "", *_source(name, record), "", *_more_negatives()]
    return "\n".join(lines)


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


def _source(name: str, record: dict) -> list[str]:
    """Where figures are from: the record's folder and its command."""
    path = f"runs/published/{name}"
    made = f"Record: [`{path}`]({path}), {record['runs']} runs, made by"
    return [made, "", "```sh", record["command"], "```"]


def _more_negatives() -> list[str]:
    """The answer of 11_batch_size, where its record is: does InfoNCE want more negatives?"""
    name = "rendered-negatives"
    if not (published_root() / name).is_dir():
        return []
    frame, record = record_frame(name)
    answer = [f"- {line}" for line in sentences(frame)]
    people = frame.loc[frame["row"] == "centres-all", "negatives"].iloc[0] + 1
    who = f"{people:,.0f} rendered people, InfoNCE and ArcFace, points of accuracy:"
    return [f"**More negatives?** {who}", "", *answer, "", *_source(name, record)]


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
