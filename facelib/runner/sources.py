"""What a chapter's figures are made from: runs, published records and rendered sets.

An executed cell names them: a run or a set in its output, a record in a string of its code. A name
in Python has the sources of what it was made from, a figure those of the names in its cell.
"""

import ast
import logging
import re
from pathlib import Path

import pandas as pd

from facelib.digests import digest, digest_values
from facelib.errors import BadData
from facelib.metrics.tables import markdown_table
from facelib.paths import REPO, check_folder_name, published_root, runs_root
from facelib.runs.files import read_origin, read_record
from facelib.runs.folder import read_json
from facelib.safety.readers import reading

log = logging.getLogger(__name__)
NAMED = re.compile(r"\b[a-z0-9]+(?:-[a-z0-9]+)*-[0-9a-f]{8}\b")  # a run or a rendered set
CHANGED = {"with_loss", "replace"}  # of a configuration: another run's
PACKAGE = {".py", ".css", ".js"}  # pages show its docstrings
HEADING = "How the figures were made"
ANCHOR = "#how-the-figures-were-made"


def plain(text: object) -> str:
    """Any text as Markdown that shows it as it is, on one line."""
    return re.sub(r"([^\w\s.,;:%/])", r"\\\1", " ".join(str(text).split()))


def fenced(text: str, language: str) -> str:
    """Any text as a block of code: its fence is longer than all in the text."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 3)
    return f"{fence}{language}\n{text}\n{fence}"


def record_names() -> list[str]:
    """Published records that hold a table of results."""
    names = sorted(path.parent.name for path in published_root().glob("*/record.json"))
    return [check_folder_name(name, "record") for name in names]


def cell_sources(notebook) -> list[set[str]]:
    """For each cell, the runs, records and sets that it shows or uses."""
    late: dict[str, set[str]] = {}  # read twice: what made a result may be printed further down
    for _ in range(2):
        known: dict[str, set[str]] = {}
        records = set(record_names())
        found = [_read_cell(cell, known, late, records) for cell in notebook.cells]
    return found


def _read_cell(cell, known: dict[str, set[str]], late: dict[str, set[str]], records) -> set[str]:
    """The sources of one cell; those of its names are noted in `known`, or in `late`."""
    shown = set(NAMED.findall(_shown_text(cell)))
    try:
        body = ast.parse(cell.source).body if cell.cell_type == "code" else []
    except SyntaxError:  # a magic
        return shown
    used, loads = set(shown), set()
    for statement in body:
        nodes = list(ast.walk(statement))
        names = [node for node in nodes if isinstance(node, ast.Name)]
        stores = {node.id for node in names if isinstance(node.ctx, ast.Store)}
        loads = {node.id for node in names if isinstance(node.ctx, ast.Load)}
        loads -= {node.value.id for node in nodes if isinstance(node, ast.Attribute)
                  and node.attr in CHANGED and isinstance(node.value, ast.Name)}  # fmt: skip
        loads -= set() if isinstance(statement, ast.Assign) else stores  # of a loop's own names
        strings = {node.value for node in nodes if isinstance(node, ast.Constant)}
        here = (strings & records).union(*(known.get(name, ()) for name in loads))
        used |= here
        for name in stores:
            known[name] = here | shown | late.get(name, set())
    own = loads & set(known)  # of the last statement, whose value is shown
    missing = shown.difference(*(known[name] for name in own))
    for name in [name for name in own if not known[name]] or own:
        late[name] = late.get(name, set()) | missing
    return used


def _shown_text(cell) -> str:
    kinds = ("text/plain", "text/markdown", "text/html")
    parts = []
    for output in cell.get("outputs", ()):
        parts += [output.get("text", ""), *(output.get("data", {}).get(k, "") for k in kinds)]
    return "\n".join("".join(part) for part in parts)


def caption(heading: str, names: set[str]) -> str:
    """A figure's caption: its heading, and links to what it is made from."""
    ours = set(record_names())
    links = [f"[{name}](/records/{name}.md)" for name in sorted(names & ours)]
    runs = sorted(names - ours)
    named = runs if len(runs) < 4 else [f"{len(runs)} runs"]
    links += [f"[{plain(name)}]({ANCHOR})" for name in named]
    made = ", ".join(links) or f"[this chapter's code and settings]({ANCHOR})"
    return f"{heading}. Made from {made}."


def sources_section(stem: str, names: set[str]) -> str:
    """The end of a chapter: command, code and data of everything that its figures come from."""
    state = read_json(runs_root() / "notebooks" / "state.json", default={})
    stamp = state.get("notebooks", {}).get(stem, "not recorded")
    command = f"python -m facelib study --only {stem.partition('_')[0]}"
    rows = [{"made from": "this chapter", "command": command, "code": stamp,
             "data": "that of the rows below" if names else "its settings"}]  # fmt: skip
    rows += [{"made from": name, **origin(name, command)} for name in sorted(names)]
    ours = set(record_names())
    table = [in_cells(row) | ({"made from": f"[{row['made from']}](/records/{row['made from']}.md)"}
                           if row["made from"] in ours else {}) for row in rows]  # fmt: skip
    return f"## {HEADING}\n\n{markdown_table(pd.DataFrame(table))}"


def in_cells(row: dict[str, str]) -> dict[str, str]:
    """A row as Markdown; its command as code, which keeps two dashes as they are."""
    code = row["command"].startswith("python")
    return {key: f"`{text}`" if code and key == "command" else plain(text)
            for key, text in row.items()}  # fmt: skip


def origin(name: str, command: str) -> dict[str, str]:
    """Command, code and data of a record, of a run, or of a rendered set that `command` makes."""
    if name in record_names():
        found = record_origin(name)
        return {**found, "command": "in the record", "data": found["data"].partition(":")[0]}
    if name.startswith("rendered-"):
        return {"command": command, "code": "as above", "data": f"rendered, digest {name[-8:]}"}
    return run_origin(name)


def run_origin(name: str) -> dict[str, str]:
    """Command, code and data of a run, as its folder has them."""
    try:
        found = read_origin(runs_root() / name / "origin.json")
    except BadData as error:
        log.warning("%s", error)
        found = {}
    data = (f"{file} {entry['digest']}" for file, entry in found.get("data", {}).items())
    return {
        "command": f"python -m facelib train --run {name}",
        "code": found.get("code", "not recorded"),
        "data": ", ".join(data) or "not recorded",
    }


def record_origin(name: str) -> dict[str, str]:
    """Command, code and data of a published record."""
    folder = published_root() / name
    rows, record = read_record(folder)
    settings = record.get("shared_settings", {}).items()
    data = {key: value for key, value in settings if key.startswith("data")}
    with reading(folder / "results.csv", "rows with a `data_seed`"):
        data["data_seed"] = sorted({int(seed) for seed in rows["data_seed"]})
    rendered = bool(rows.get("rendered", pd.Series([name.startswith("rendered")])).all())
    written = " ".join(f"{key}={value}" for key, value in data.items())
    made = f"rendered from these settings, digest {digest_values(data)}: {written}"
    return {
        "command": record["command"],
        "code": f"commit {record['commit']}",
        "data": made if rendered else "see note",
    }


def stamp(made_from: dict[str, str | Path]) -> str:
    """Digest over what a site is made from: its sources, the package, the versions of others."""
    package = [path for path in (REPO / "facelib").rglob("*") if path.suffix in PACKAGE]
    every = made_from | {str(path): path for path in (*package, REPO / "environment.yml")}
    content = {k: v.read_bytes() if isinstance(v, Path) else v.encode() for k, v in every.items()}
    return digest_values([[name, digest(content[name], digits=64)] for name in sorted(content)])
