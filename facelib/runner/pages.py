"""The pages of the site that are no notebooks, as Markdown: answers, records, runs, API.

Every number of the first page is a link to the record that it comes from, and a record's page says
by which command, which code and which data it was made. Sentences are those of the README.
"""

import logging
import re
from collections import defaultdict
from pathlib import Path

import pandas as pd

from facelib.config import NOT_IN_DIGEST, Config, plain_config
from facelib.digests import digest, digest_values
from facelib.errors import BadData, UserError
from facelib.metrics.tables import accuracies, benchmark_name, markdown_table
from facelib.paths import REPO, published_root
from facelib.runner.notebooks import import_nbformat, library_digest
from facelib.runner.sources import (
    fenced,
    in_cells,
    plain,
    record_names,
    record_origin,
    run_origin,
)
from facelib.runs.files import read_record
from facelib.runs.folder import Run, list_runs
from facelib.studies.answers import CHANGE, answers
from facelib.studies.explorer.gather import gather
from facelib.studies.explorer.page import page_of, write_page
from facelib.studies.readme import PROTOCOLS, headline, result_table
from facelib.studies.records import load_record
from facelib.studies.results import LABELS, method_of

log = logging.getLogger(__name__)
TITLE = "Face verification: ArcFace against InfoNCE"
QUESTION = (
    "A classifier with an angular margin (ArcFace), a contrastive loss (InfoNCE), or both: "
    "which one makes embeddings that tell two people apart, from the front and in profile?"
)
LOSSES = "rendered-losses"
PICTURES = [REPO / ".github" / f"result-{mode}.png" for mode in ("light", "dark")]  # the README's
EXPLORER, EXPLORED, EXPLORER_BYTES = "explorer.html", 6, 6_000_000  # page, runs and bytes
EXPLORER_LINK = (
    f"**[Explorer]({EXPLORER})**: scores, thresholds and pairs of runs on this machine; drag the "
    "threshold, open a pair."
)
WHERE = "## Where to go"
ROOMS = ("losses", "metrics", "formats", "runs")  # whose public names the API pages list
# A number with what belongs to it: sign, interval, "not significant", unit. One inside a name, such
# as that of a model, a chapter or a preset, is none.
NUMBER = re.compile(
    r"(?P<name>`[^`]*`|\b\d\d_[a-z_]+|\b[A-Za-z]\w*)|"
    r"[-+≥]?\d(?:[\d.,]*\d)?(?: \[[^\]]*\])?(?: \(n\.s\.[^)]*\))?(?: %)?"
)


def first_page(chapters: list[tuple[str, str, str]]) -> str:
    """The question, the answers with a link on every number, and where to go.

    Args:
        chapters: name of the page, title and question of each notebook.
    """
    listed = [
        f"- [{plain(title)}]({stem}.ipynb): {plain(asked)}" for stem, title, asked in chapters
    ]
    parts = [f"# {TITLE}", QUESTION, *_answers(), WHERE, "\n".join(listed)]
    further = ["- [Records](records.md): how each published number was made",
               "- [Runs on this machine](runs.md): figures of what was trained here",
               "- [API](api.md): public names of the package"]  # fmt: skip
    return "\n\n".join([*parts, "\n".join(further), *_contents([c[0] for c in chapters])])


def link_from_first_page(page: str) -> str:
    """The first page with a link to the explorer's page, which lies beside it."""
    return page.replace(WHERE, f"{WHERE}\n\n{EXPLORER_LINK}", 1)


def _contents(stems: list[str]) -> list[str]:
    records = [f"records/{name}" for name in record_names()]
    parts = {"Chapters": stems, "Where numbers are from": ["runs", "records"], "Package": ["api"]}
    tree = [contents(caption, pages) for caption, pages in parts.items() if pages]
    return tree if records else [t.replace("\nrecords", "") for t in tree]


def contents(caption: str, pages: list[str], hidden: bool = True) -> str:
    """A table of contents for the navigation."""
    options = [f":caption: {caption}"] if caption else []
    options += [":hidden:"] if hidden else []
    return "\n".join(["```{toctree}", *options, ":maxdepth: 1", "", *pages, "```"])


def _answers() -> list[str]:
    if LOSSES not in record_names():
        return []
    frame, _ = load_record(LOSSES)
    repeats = len(frame.drop_duplicates(["seed", "data_seed"]))
    lines = [f"Accuracy in percent: mean of {repeats} repeats, each with other weights and other "
             "rendered people; in brackets the 95 % interval. *Best threshold* is InsightFace's "
             "protocol; *strict* accepts one impostor in a thousand.",
             "", *result_table(frame).split("\n")]  # fmt: skip
    parts = [_linked([headline(LOSSES)], LOSSES), *map(_picture, pictures()), "## Accuracy"]
    return [*parts, _linked(lines, LOSSES), "## What is the answer?",
            *map(_answer, answers())]  # fmt: skip


def _answer(one: dict) -> str:
    lines = [_linked([f"- {line}"], record) for record, line in one["lines"]]
    return "\n".join([f"### {one['question']}", "", *lines, f"- *{CHANGE}:* {one['change']}"])


def pictures() -> list[Path]:
    """The README's picture of the main result, light and dark, where it is there."""
    return [path for path in PICTURES if path.is_file()]


def _picture(path: Path) -> str:
    mode = path.stem.rpartition("-")[2]
    options = [f":class: only-{mode}", f":target: records/{LOSSES}.html",
               ":alt: Rendered faces and the main result, with its numbers below"]  # fmt: skip
    return "\n".join([f"```{{image}} {path.name}", *options, "```"])


def _linked(lines: list[str], record: str) -> str:
    """Markdown in which each number leads to its record."""

    def link(match: re.Match) -> str:
        text = match[0].replace("[", r"\[").replace("]", r"\]")
        return text if match["name"] else f"[{text}](records/{record}.md)"

    return "\n".join(NUMBER.sub(link, line) for line in lines)


def record_pages() -> dict[str, str | Path]:
    """One page and table per record, by its path in the site, and the page that lists them."""
    pages = {f"records/{name}.md": _record_page(name) for name in record_names()}
    pages |= {f"records/{name}.csv": published_root() / name / "results.csv"
              for name in record_names()}  # fmt: skip
    listing = "# Records\n\nWhat the published numbers come from."
    listed = contents("", [f"records/{name}" for name in record_names()], hidden=False)
    return {"records.md": f"{listing}\n\n{listed}", **pages}


def _record_page(name: str) -> str:
    folder = published_root() / name
    rows, record = read_record(folder)
    table = (folder / "results.csv").read_bytes()
    settings = record.get("shared_settings", {})
    origin = record_origin(name)
    packages = ", ".join(f"{key} {value}" for key, value in record["packages"].items())
    facts = {
        "code": plain(origin["code"]),
        "data": plain(origin["data"]),
        "results": f"[{name}.csv]({name}.csv), {len(rows)} rows of {record['runs']} runs, "
                   f"digest `{digest(table)}`",
        "made": plain(f"{record['date']}, Python {record['python']}, {packages}"),
        "machine": plain(f"{record['machine']}, {record['cpu_count']} cores"),
    }  # fmt: skip
    lines = [f"- **{key}:** {value}" for key, value in facts.items()]
    note = [plain(record["note"])] if record.get("note") else []
    shared = "\n".join(f"{key}={value}" for key, value in settings.items())
    return "\n\n".join([
        f"# {name}", *note, fenced(record["command"], "sh"), "\n".join(lines),
        "## Settings that all runs share",
        fenced(shared, "text"),
    ])  # fmt: skip


def evaluated_runs() -> list[tuple[Run, dict]]:
    """The evaluated runs of this machine and their figures."""
    evaluated = []
    for run in list_runs():
        try:
            evaluated += [(run, run.evaluation())] if (run.path / "eval.json").is_file() else []
        except BadData as error:
            log.warning("%s", error)
    return evaluated


def comparable_runs(
    evaluated: list[tuple[Run, dict]], most: int = EXPLORED
) -> list[tuple[Run, dict]]:
    """The largest set of runs on the same benchmarks: of each method the one nearest its preset."""
    sets = defaultdict(list)
    for run, report in evaluated:
        key = sorted((name, str(f.get("digest"))) for name, f in report["benchmarks"].items())
        sets[str(key)].append((run, report))
    chosen: dict[str, tuple[Run, dict]] = {}
    for run, report in sorted(
        max(sets.values(), key=len, default=[]),
        key=lambda pair: (len(changed_settings(pair[0].config)), pair[0].name),
    ):
        chosen.setdefault(method_of(run.config.to_dict()), (run, report))
    return list(chosen.values())[:most]


def write_site_explorer(folder: Path) -> bool:
    """Write the explorer's page of comparable runs into a site; False where there are none.

    One of the same figures and the same code is left as it is: its pictures take seconds.
    """
    path, found = folder / EXPLORER, comparable_runs(evaluated_runs())
    key = digest_values([page_of({}), library_digest(), [report for _, report in found]])
    home = f'<p><a href="index.html">{TITLE}</a></p><!-- {key} -->'
    try:
        if found and not (path.is_file() and home in path.read_text(encoding="utf-8")):
            write_page(gather([run for run, _ in found], limit=EXPLORER_BYTES), path, home)
    except (UserError, BadData) as error:
        log.warning("the site has no explorer: %s", error)
        found = []
    if not found:
        path.unlink(missing_ok=True)
    return bool(found)


def link_explorer(notebook) -> None:
    """After the cell that shows the explorer in JupyterLab: a link to the site's page of it."""
    v4 = import_nbformat().v4
    link = v4.new_markdown_cell(EXPLORER_LINK, id="explorer-link")  # the same in each build
    for place, cell in enumerate(notebook.cells):
        if cell.cell_type == "code" and re.search(r"^explore\(", cell.source, re.MULTILINE):
            notebook.cells.insert(place + 1, link)
            return


def runs_page() -> str:
    """The evaluated runs of this machine: a loss per row, a benchmark and protocol per column."""
    rows, made, warned = [], [], set()
    for run, report in evaluated_runs():
        row = {"loss": plain(LABELS[method_of(run.config.to_dict())]),
               "settings": plain(changed_settings(run.config))}  # fmt: skip
        for name, figures in report["benchmarks"].items():
            shown = plain(benchmark_name(name, figures.get("rendered", False)))
            for protocol, text in zip(PROTOCOLS, accuracies(figures)):
                row[f"{shown}, {protocol}"] = plain(text)
            warned |= {f"- {plain(name)}: {plain(text)}" for text in figures.get("warnings", ())}
        rows.append(row | {"run": plain(run.name)})
        made.append({"run": plain(run.name), **in_cells(run_origin(run.name))})
    if not rows:
        return "# Runs on this machine\n\nNone is evaluated yet: `make study`"
    parts = ["# Runs on this machine",
             "Accuracy in percent, with 95 % intervals over people where they were computed.",
             markdown_table(pd.DataFrame(rows).fillna(""))]  # fmt: skip
    parts += ["## Warnings", "\n".join(sorted(warned))] if warned else []
    return "\n\n".join([*parts, "## How they were made", markdown_table(pd.DataFrame(made))])


def changed_settings(cfg: Config) -> str:
    """Settings by which a run differs from its preset's run of that loss, as `--set` has them."""
    changes = cfg.changes_from(plain_config(cfg)).items()
    unseen = {"name", "loss", *NOT_IN_DIGEST}
    return " ".join(f"{key}={value}" for key, (_, value) in changes if key not in unseen)


def api_pages() -> dict[str, str]:
    """Pages of the public names, a room each, from their docstrings."""
    pages = {}
    for room in ROOMS:
        folder = REPO / "facelib" / room
        names = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
        parts = [f"# {room}", _module(f"facelib.{room}")]
        parts += [f"## {name}\n\n{_module(f'facelib.{room}.{name}')}" for name in names]
        pages[f"api/{room}.md"] = "\n\n".join(parts)
    listed = contents("", ["api/config", *(f"api/{room}" for room in ROOMS)], hidden=False)
    pages["api/config.md"] = f"# config\n\n{_module('facelib.config')}"
    opening = "# API\n\nPublic names with their shapes and sources, from the docstrings."
    return {"api.md": f"{opening}\n\n{listed}", **pages}


def _module(name: str) -> str:
    return f"```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n```"


def generated_pages(chapters: list[tuple[str, str, str]]) -> dict[str, str | Path]:
    """All pages but the notebooks, by their path in the site."""
    pages = {"index.md": first_page(chapters), "runs.md": runs_page()}
    pages |= record_pages() if record_names() else {}
    return {**pages, **api_pages(), **{path.name: path for path in pictures()}}
