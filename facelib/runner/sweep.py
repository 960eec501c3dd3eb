"""A grid of parameters over one notebook: each cell of the grid is one papermill run.

Every value is checked against the notebook's parameters before the first run. A cell of the grid
has a folder of its own with the executed notebook; `results.csv` and `results.jsonl` hold one row a
cell: its parameters and what the notebook gave to `facelib.runs.folder.record_row`. A cell that is
finished is skipped as long as the notebook, its parameters and facelib's sources are the same; one
that was interrupted runs again, and its training goes on by itself.
"""

import argparse
import itertools
import json
import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from facelib.digests import digest_values
from facelib.errors import UserError
from facelib.paths import atomic_file, runs_root
from facelib.runner import execute, notebooks
from facelib.runs.folder import read_json, write_json

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cell:
    """One combination of values: its folder and the digest of everything that it depends on."""

    values: dict
    folder: Path
    digest: str

    @property
    def row_path(self) -> Path:
        return self.folder / "row.json"

    @property
    def name(self) -> str:
        return ", ".join(f"{key}={value}" for key, value in self.values.items())

    def is_done(self) -> bool:
        """Whether this very cell ran to its end before."""
        return read_json(self.folder / "cell.json", default={}).get("digest") == self.digest

    def row(self) -> dict:
        """Its parameters, then what the notebook recorded."""
        recorded = read_json(self.row_path, default={})
        return {**self.values, **{k: v for k, v in recorded.items() if k not in self.values}}


def plan_cells(
    notebook: Path, grid: Mapping[str, Sequence], out: Path, fixed: Mapping[str, object]
) -> list[Cell]:
    """All cells of a grid, in the order of `grid`, the last parameter changing fastest.

    Raises:
        UserError: unknown parameter, value of the wrong type, empty list, or a parameter that is
            both swept and fixed.
    """
    for name, values in grid.items():
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise UserError(f"{name}={values!r}: wanted a list of values, for example [1, 2]")
        for single in name.split("+"):
            if single in fixed:
                raise UserError(f"{single!r} is both swept and fixed: leave one of them out")
    sources = [notebooks.notebook_digest(notebook), notebooks.library_digest()]
    cells = []
    for combination in itertools.product(*grid.values()):
        swept = {}
        for name, value in zip(grid, combination, strict=True):
            swept |= split_values(name, value)
        values = notebooks.check_values(notebook, {**fixed, **swept})
        label = re.sub(r"[^\w.=-]+", "-", "_".join(f"{k}={values[k]}" for k in swept))[:60]
        folder = out / f"{label}-{digest_values(values)[:8]}"
        cells.append(Cell(values, folder, digest_values([*sources, values])))
    return cells


def split_values(name: str, value: object) -> dict[str, object]:
    """Values of the names that "+" joins: one for all of them, or one each between colons."""
    names = name.split("+")
    values = value.split(":") if isinstance(value, str) and len(names) > 1 else [value]
    if len(values) == 1:
        values *= len(names)
    if len(values) != len(names):
        raise UserError(f"{name}={value}: {len(values)} values for {len(names)} names")
    return dict(zip(names, values, strict=True))


def run_sweep(
    notebook: Path,
    grid: Mapping[str, Sequence],
    out: Path | None = None,
    jobs: int = 1,
    fixed: Mapping[str, object] | None = None,
) -> Path:
    """Run every cell that is not done; return the path of `results.csv`.

    Args:
        notebook: the notebook, with a cell tagged `parameters`.
        grid: parameter name -> list of values; every combination is run. Names joined by "+" take
            their values together: {"seed+data_seed": [0, 1]} gives two cells, not four, and
            {"tau+loss": ["0.1:infonce", "0.2:hybrid"]} gives each name its own.
        out: folder of the sweep; default `sweeps/<notebook>/` in the runs root.
        jobs: cells side by side; above 1 each gets its share of the cores.
        fixed: values that are the same in every cell.

    Raises:
        UserError: bad grid (before anything runs), or cells failed (after all others ran).
        KeyboardInterrupt: Ctrl-C or SIGTERM, once every kernel was stopped.
    """
    notebook = Path(notebook)
    notebooks.read_notebook(notebook)
    if not grid:
        raise UserError(
            "the grid is empty: give NAME=VALUE,VALUE, for example loss=arcface,infonce"
        )
    if not isinstance(jobs, int) or jobs < 1:
        raise UserError(f"jobs={jobs!r}: wanted 1 or more")
    # Absolute, as the kernels that write the rows run in the notebook's folder.
    out = Path(out).resolve() if out else runs_root() / "sweeps" / notebook.stem
    cells = plan_cells(notebook, grid, out, dict(fixed or {}))
    waiting = [cell for cell in cells if not cell.is_done()]
    _announce(notebook, cells, waiting, jobs, out)
    with execute.held(out, "sweep"):
        _write_results(cells, out)
        failures = _run_cells(notebook, cells, waiting, jobs, out)
    if failures:
        raise UserError(
            f"{len(failures)} of {len(cells)} cells failed, the first: {failures[0]}; "
            f"the others are in {out / 'results.csv'}; the same command tries the failed ones again"
        )
    return out / "results.csv"


def run_sweep_command(options: argparse.Namespace) -> None:
    """The verb `sweep`: notebook by name or path, grid and fixed values as NAME=VALUE."""
    given = Path(options.notebook)
    if given.suffix != ".ipynb":
        given = notebooks.select_notebooks(notebooks.list_notebooks(), [options.notebook])[0]
    fixed = {}
    for pair in options.set:
        name, equals, fixed[name] = pair.partition("=")
        if not equals:
            raise UserError(f"{pair!r}: write NAME=VALUE, for example seed=1")
    grid = notebooks.split_assignments(options.grid)
    log.info("results: %s", run_sweep(given, grid, options.out, options.jobs, fixed))


def _announce(notebook: Path, cells: list, waiting: list, jobs: int, out: Path) -> None:
    seconds = notebooks.facelib_metadata(notebook).get("estimate", {}).get("seconds")
    guess = f", about {len(waiting) * seconds / jobs / 60:.0f} min" if seconds and waiting else ""
    log.info(
        "sweep of %s: %d cells, %d done before, %d to run, %d side by side%s; into %s",
        notebook.stem, len(cells), len(cells) - len(waiting), len(waiting), jobs, guess, out,
    )  # fmt: skip


def _run_cells(notebook: Path, cells: list, waiting: list, jobs: int, out: Path) -> list[str]:
    """Run the waiting cells, `jobs` at a time; return one line per failed cell."""
    executions = {_execution(notebook, cell, jobs): cell for cell in waiting}
    failures, ended, start = [], [], time.monotonic()

    def finish(execution: execute.Execution) -> None:
        ended.append(execution)
        failures.extend(_finish(execution, executions[execution]))
        _write_results(cells, out)
        left = len(waiting) - len(ended)
        minutes = left * (time.monotonic() - start) / len(ended) / 60
        log.info("%d of %d left, about %.0f min", left, len(cells), minutes)

    execute.run_side_by_side(executions, jobs, finish)
    return failures


def _execution(notebook: Path, cell: Cell, jobs: int) -> execute.Execution:
    environment = {"FACELIB_ROW": str(cell.row_path)} | execute.shared_threads(jobs)
    for stale in (cell.folder / "cell.json", cell.row_path):
        stale.unlink(missing_ok=True)
    output = cell.folder / notebook.name
    return execute.Execution(notebook, output, cell.values, environment, cell.name)


def _finish(execution: execute.Execution, cell: Cell) -> list[str]:
    if execution.process.returncode:
        failure = f"{cell.name}: {execution.failure()}"
        log.error("failed: %s", failure)
        return [failure]
    if not cell.row_path.exists():
        log.warning("%s: the notebook recorded no row (facelib.runs.folder.record_row)", cell.name)
    seconds = round(execution.seconds, 1)
    done = {"digest": cell.digest, "values": cell.values, "seconds": seconds}
    write_json(cell.folder / "cell.json", done)
    log.info("done: %s (%.0f s)", cell.name, seconds)
    return []


def _write_results(cells: list[Cell], out: Path) -> None:
    """One row per finished cell, in the grid's order: a table for people, lines for programs."""
    rows = [cell.row() for cell in cells if cell.is_done()]
    with atomic_file(out / "results.jsonl") as temporary:
        temporary.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    columns = list(dict.fromkeys(key for row in rows for key in row)) or list(cells[0].values)
    with atomic_file(out / "results.csv") as temporary:
        pd.DataFrame(rows, columns=columns).to_csv(temporary, index=False)
