"""The runs as a table for JupyterLab: a heading sorts, a run's files open in a tab."""

import html
import os
from pathlib import Path

from facelib.paths import runs_root
from facelib.runs.folder import Run, tabulate

FILES = ("config.json", "train.log", "metrics.jsonl", "eval.json")
# An attribute, as JupyterLab runs scripts of an output before the output is in the page.
SORT = """
const head = this.parentNode, body = head.closest('table').tBodies[0], place = head.cellIndex;
const sign = head.ariaSort === 'ascending' ? -1 : 1;
const key = row => row.cells[place].textContent;
const order = (a, b) => {
  const [x, y] = [key(a), key(b)];
  if (x === '' || y === '') return (x === '') - (y === '');  // what a run has not comes last
  return sign * (isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y);
};
for (const cell of head.parentNode.cells) cell.ariaSort = 'none';
head.ariaSort = sign > 0 ? 'ascending' : 'descending';
body.append(...[...body.rows].sort(order));
"""
PLAIN = "background: none; border: 0; color: inherit; cursor: pointer; font: inherit"


class RunTable:
    """What `browse` shows: HTML in JupyterLab, the plain table elsewhere."""

    def __init__(self, frame, folders: dict[str, Path]):
        self.frame, self.folders = frame, folders

    def __repr__(self) -> str:
        return self.frame.to_string() if len(self.frame) else "no runs yet"

    def _repr_html_(self) -> str:
        button = f'<button style="{PLAIN}" onclick="{html.escape(SORT)}">'
        names = [*self.frame.columns, "files"]
        head = "".join(f"<th>{button}{html.escape(str(name))} ↕</button></th>" for name in names)
        rows = self.frame.to_dict("records")
        body = "".join(_row(row, self.folders[row["run"]]) for row in rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def browse(runs: list[Run] | None = None) -> RunTable:
    """All runs (or these) with state, speed and accuracies, sortable, with links to their files."""
    frame = tabulate(runs)
    folders = {run.path.name: run.path for run in runs or ()}
    return RunTable(frame, folders or {name: runs_root() / name for name in frame.get("run", ())})


def _row(row: dict, folder: Path) -> str:
    cells = "".join(f"<td>{html.escape(_text(value))}</td>" for value in row.values())
    here = Path(os.path.relpath(folder))  # JupyterLab: from the notebook's folder
    links = (f'<a href="{html.escape((here / name).as_posix())}">{name}</a>'
             for name in FILES if (here / name).is_file())  # fmt: skip
    return f"<tr>{cells}<td>{' '.join(links)}</td></tr>"


def _text(value: object) -> str:
    if value is None or value != value:  # NaN
        return ""
    return f"{round(value, 4):.10g}" if isinstance(value, float) else str(value)
