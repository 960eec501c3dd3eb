"""The results section of the README, written from committed records."""

from pathlib import Path

import pandas as pd

from facelib.errors import UserError
from facelib.metrics.tables import markdown_table, with_interval
from facelib.paths import atomic_file, published_root
from facelib.studies import breadth
from facelib.studies.claims import correct, family_note, points_by
from facelib.studies.negatives import record_frame, sentences
from facelib.studies.records import (
    PROTOCOLS,
    load_record,
    pose_difference,
    protocol_gaps,
    repeat_table,
)

ANSWER = "<!-- answer -->", "<!-- end of answer -->"
RESULTS = "<!-- results -->", "<!-- end of results -->"


def readme_section(name: str) -> str:
    """The README's results as Markdown: means with intervals, then corrected differences."""
    frame, record = load_record(name)
    path = f"runs/published/{name}"
    source = f"[`{path}`]({path}), {record['runs']} runs"
    lines = [result_table(frame), "", *difference_table(frame), ""]
    lines += [f"Source: {source}, made by the command in its `record.json`."]
    return "\n".join([*lines, "", *_other_answers()])


def headline(name: str) -> str:
    """The answer to the study's question in one sentence, for the README's first screen."""
    frame, _ = load_record(name)
    gaps = loss_differences(frame)
    chosen = (gaps["comparison"] == "InfoNCE − ArcFace") & (gaps["protocol"] == "best threshold")
    said = "; ".join(f"{gap['benchmark']} {_short(gap)}" for gap in gaps[chosen].to_dict("records"))
    pose, seen = _pose(frame)
    [extra] = pose[pose["protocol"] == "best threshold"].to_dict("records")
    return (
        f"**InfoNCE − ArcFace, points of accuracy at the best threshold:** {said}. **How much "
        f"further it falls behind on profile than on frontal faces:** {_short(extra)}. The "
        f"published effect, a gap on profile faces only, {seen} on these rendered faces "
        "(95 % intervals over repeats; n.s.: the interval includes 0)."
    )


def _short(gap: dict) -> str:
    told = with_interval(gap["difference"], gap["lo"], gap["hi"])
    return told if gap["significant"] else f"{told} (n.s.)"


def result_table(frame: pd.DataFrame) -> str:
    """Markdown: one row per loss and protocol, one column per benchmark, mean [95 % interval]."""
    table = repeat_table(frame)[list(PROTOCOLS)].rename_axis(columns="protocol")
    return markdown_table(table.stack().unstack(0, sort=False).reset_index())


def difference_table(frame: pd.DataFrame) -> list[str]:
    """Markdown: `loss_differences`, one row per comparison and protocol; significant ones bold."""
    gaps = loss_differences(frame)
    told = gaps.apply(lambda g: with_interval(g["difference"], g["lo"], g["hi"]), axis=1)
    gaps = gaps.assign(told=told.where(~gaps["significant"], "**" + told + "**"))
    table = gaps.set_index(["comparison", "protocol", "benchmark"])["told"].unstack(sort=False)
    table = markdown_table(table.rename_axis(columns=None).reset_index())
    note = (f"Differences in percentage points, 95 % intervals corrected by Holm for {len(gaps)} "
            "comparisons. Bold: the interval leaves out 0; the others are not significant (n.s.). "
            "≥x: a difference of x would have been found with a power of 80 %; 13_results says it "
            "of each.")  # fmt: skip
    return [table, "", pose_line(frame), "", note]


def loss_sentences(frame: pd.DataFrame) -> list[str]:
    """What a record of repeats says of ArcFace, InfoNCE and the hybrid, both protocols.

    First source A's own question, which is about pose; then all pairs of losses, one family.
    """
    lines = ["- " + pose_line(frame)]
    gaps = loss_differences(frame)
    for (comparison, protocol), part in gaps.groupby(["comparison", "protocol"], sort=False):
        lines.append(f"- {comparison}, {protocol}: {points_by(part)}")
    return [*lines, "", f"Differences in {family_note(gaps)}."]


def _pose(frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Source A's effect by both protocols, corrected, and whether it is seen."""
    parts = {protocol: pose_difference(frame, figure) for protocol, figure in PROTOCOLS.items()}
    pose = correct(pd.concat(part.assign(protocol=protocol) for protocol, part in parts.items()))
    found = (pose["significant"] & (pose["difference"] > 0)).all()
    return pose, "is reproduced" if found else "is not reproduced"


def pose_line(frame: pd.DataFrame) -> str:
    pose, seen = _pose(frame)
    return (
        "**Does InfoNCE fall behind on profile faces only?** (ArcFace − InfoNCE on CFP-FP) − "
        f"(the same on CFP-FF): {points_by(pose, 'protocol')}. Above 0 would be the "
        f"published effect: it {seen} here."
    )


def loss_differences(frame: pd.DataFrame) -> pd.DataFrame:
    """All pairs of the three losses on all benchmarks, both protocols: one family."""
    pairs = (("infonce", "arcface"), ("hybrid", "arcface"), ("hybrid", "infonce"))
    return protocol_gaps(frame, pairs)


def _other_answers() -> list[str]:
    """First answers of 11_batch_size and 14_breadth_and_depth, and their limits."""
    lines = []
    for name, chapter, answer in (
        ("rendered-breadth", "14_breadth_and_depth", _breadth_answer),
        ("rendered-negatives", "11_batch_size", _negatives_answer),
    ):
        path = f"runs/published/{name}"
        if (published_root() / name).is_dir():
            said, runs = answer(name)
            lines += [f"{said}. Source: [`{path}`]({path}), {runs} runs; more in {chapter}.", ""]
    return lines[:-1]


def _breadth_answer(name: str) -> tuple[str, int]:
    frame, record = breadth.record_frame(name)
    short, _ = breadth.split_lengths(frame)
    return f"{breadth.verdict(short)}. Limits: {breadth.limits(short)}", record["runs"]


def _negatives_answer(name: str) -> tuple[str, int]:
    frame, record = record_frame(name)
    answer, *_, limits = sentences(frame)
    return f"{answer}. Limits: {limits.partition(': percentage points')[0]}", record["runs"]


def refresh_readme(path: Path, name: str) -> None:
    """Write `headline` and `readme_section` between their marks of the README."""
    text = path.read_text()
    for (begin, end), made in ((ANSWER, headline), (RESULTS, readme_section)):
        before, found, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        if not found or not ended:
            raise UserError(f"{path} has no {begin} … {end}: put the two marks back")
        text = f"{before}{begin}\n\n{made(name)}\n\n{end}{after}"
    with atomic_file(path) as temporary:
        temporary.write_text(text)
