"""The results section of the README, written from committed records."""

from pathlib import Path

from facelib.errors import UserError
from facelib.paths import atomic_file, published_root
from facelib.studies.negatives import record_frame, sentences
from facelib.studies.records import load_record, repeat_differences, repeat_table

RESULTS_BEGIN, RESULTS_END = "<!-- results -->", "<!-- end of results -->"


def readme_section(name: str) -> str:
    """The README's results as Markdown: means with intervals, and which differences are carried."""
    frame, record = load_record(name)
    table = repeat_table(frame).reset_index()
    rows = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).to_numpy()]
    lines = ["| " + " | ".join(row) + " |" for row in rows] + [""]
    for a, b in (("infonce", "arcface"), ("hybrid", "arcface"), ("hybrid", "infonce")):
        gaps = repeat_differences(frame, a, b)
        parts = [
            f"{gap.benchmark} {gap.difference:+.1f} [{gap.lo:+.1f}, {gap.hi:+.1f}]"
            + ("" if gap.carried else " (not carried)")
            for gap in gaps.itertuples()
        ]
        lines.append(f"- {gaps['comparison'][0]}, best threshold, points: {'; '.join(parts)}")
    lines += ["", *_source(name, record)]
    return "\n".join([*lines, "", *_more_negatives()])


def _source(name: str, record: dict) -> list[str]:
    """Where figures are from: the record's folder and its command."""
    path = f"runs/published/{name}"
    made = f"Record: [`{path}`]({path}), {record['runs']} runs, made by"
    return [made, "", "```sh", record["command"], "```"]


def _more_negatives(name: str = "rendered-negatives") -> list[str]:
    """The answer of 11_batch_size, where its record is: does InfoNCE want more negatives?"""
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
