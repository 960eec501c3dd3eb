"""A grid over a notebook: validated, resumable, one row per cell, nothing left running."""

import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import psutil
import pytest

from facelib.errors import BadData, UserError
from facelib.runner import notebooks, sweep
from tests.small_notebooks import write_small

RECORD = (
    "from facelib.runs.folder import record_row\nrecord_row({'square': count**2, 'count': count})"
)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (
            {"cuont": [1]},
            r"no parameter 'cuont' \(did you mean 'count'\?\): it has count, name, rat",
        ),
        ({"count": ["two"]}, r"count='two' is str, wanted int \(how many\)"),
        ({"count": [1.5]}, "is float, wanted int"),
        ({"count": [True]}, "is bool, wanted int"),
        ({"name": [1]}, "name=1 is int, wanted str"),
        ({"count": []}, "wanted a list of values"),
        ({"count": "12"}, "wanted a list of values"),
        ({}, "the grid is empty"),
    ],
)
def test_a_bad_grid_is_refused_before_anything_runs(tmp_path, grid, message):
    # Catches: papermill's habit to warn and run with the default.
    notebook = write_small(tmp_path / "n.ipynb", RECORD)
    with pytest.raises(UserError, match=message):
        sweep.run_sweep(notebook, grid, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_values_from_the_command_line_get_the_type_of_their_parameter(tmp_path):
    # Catches: "64" handed to a notebook that wants 64; an int refused where a float is wanted.
    notebook = write_small(tmp_path / "n.ipynb")
    grid = notebooks.split_assignments(["count=1,2", "name=3"])
    cells = sweep.plan_cells(notebook, grid, tmp_path, {"rate": 1})
    assert [cell.values for cell in cells] == [
        {"rate": 1, "count": 1, "name": "3"},
        {"rate": 1, "count": 2, "name": "3"},
    ]


def test_a_parameter_with_default_none_takes_none_and_its_own_type(tmp_path):
    # Catches: `x: int = None` that refuses None, or that takes any string.
    notebook = write_small(tmp_path / "n.ipynb", parameters="x: int = None  # a number")
    assert [notebooks.check_values(notebook, {"x": v}) for v in (None, "None", "5", 5)] == [
        {"x": None}, {"x": None}, {"x": 5}, {"x": 5}
    ]  # fmt: skip
    with pytest.raises(UserError, match="wanted int or None"):
        notebooks.check_values(notebook, {"x": "five"})


def test_no_notebook_and_a_broken_one_are_told_apart(tmp_path):
    # Catches: a traceback of nbformat.
    with pytest.raises(UserError, match="notebooks in that folder: none"):
        sweep.run_sweep(tmp_path / "n.ipynb", {"a": [1]})
    (tmp_path / "n.ipynb").write_text("{")
    with pytest.raises(BadData, match="not JSON"):
        sweep.run_sweep(tmp_path / "n.ipynb", {"a": [1]})


@pytest.mark.slow
def test_finished_cells_are_skipped_and_failed_ones_do_not_stop_the_others(tmp_path):
    # Catches: running everything again, losing the good cells, a failure that exits with 0.
    code = "if count == 2:\n    raise ValueError('two is no good')\n" + RECORD
    notebook, out = write_small(tmp_path / "n.ipynb", code), tmp_path / "out"
    with pytest.raises(UserError, match=r"1 of 2 cells failed.*two is no good.*failed\.ipynb"):
        sweep.run_sweep(notebook, {"count": [2, 3]}, out=out, jobs=2)
    table = pd.read_csv(out / "results.csv")
    assert table.to_dict("records") == [{"count": 3, "square": 9}]
    executed = next(out.glob("count=3*/n.ipynb"))
    before = executed.stat().st_mtime_ns
    sweep.run_sweep(notebook, {"count": [3]}, out=out)
    assert executed.stat().st_mtime_ns == before
    assert json.loads((out / "results.jsonl").read_text()) == {"count": 3, "square": 9}


def test_rows_are_found_whatever_folder_out_is_relative_to(tmp_path, monkeypatch):
    # Catches: a row that the kernel, at work in the notebook's folder, writes somewhere else.
    (tmp_path / "notebooks").mkdir()
    notebook = write_small(tmp_path / "notebooks" / "n.ipynb", RECORD)
    monkeypatch.chdir(tmp_path)
    results = sweep.run_sweep(notebook, {"count": [3]}, out="sweeps/one")
    assert pd.read_csv(results)["square"].to_list() == [9]
    assert results.resolve().parent == tmp_path / "sweeps" / "one"


def test_a_changed_notebook_makes_its_cells_run_again(tmp_path):
    # Catches: results of an older notebook under the name of the new one.
    notebook, out = write_small(tmp_path / "n.ipynb", RECORD), tmp_path / "out"
    cell = sweep.plan_cells(notebook, {"count": [1]}, out, {})[0]
    write_small(notebook, RECORD + "\n# changed")
    changed = sweep.plan_cells(notebook, {"count": [1]}, out, {})[0]
    assert cell.folder == changed.folder
    assert cell.digest != changed.digest


@pytest.mark.slow
@pytest.mark.parametrize("blow", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_sweep_leaves_no_process_behind(tmp_path, blow):
    # Catches: a kernel or a training that goes on after its sweep was killed, SIGKILL included.
    code = (
        "import subprocess, time\nfrom pathlib import Path\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        "Path(name).write_text(str(child.pid))\ntime.sleep(600)"
    )
    notebook, mark = write_small(tmp_path / "n.ipynb", code), tmp_path / "pid"
    script = (
        "from pathlib import Path; from facelib.runner.sweep import run_sweep;"
        f"run_sweep(Path({str(notebook)!r}), {{'name': [{str(mark)!r}]}}, Path({str(tmp_path)!r}))"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    wait_for(lambda: mark.exists() and mark.read_text(), 60)
    family = psutil.Process(parent.pid).children(recursive=True)
    assert int(mark.read_text()) in [process.pid for process in family]
    os.kill(parent.pid, blow)
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []
    parent.wait(10)


def wait_for(condition, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def test_names_joined_by_plus_take_their_values_together(tmp_path):
    # Catches: every combination run where repeats with their own data were asked for.
    notebook = write_small(tmp_path / "n.ipynb")
    cells = sweep.plan_cells(notebook, {"count+rate": [1, 2], "name": ["a"]}, tmp_path, {})
    assert [(c.values["count"], c.values["rate"]) for c in cells] == [(1, 1), (2, 2)]
    cells = sweep.plan_cells(notebook, {"count+name": ["1:a", "2:b"]}, tmp_path, {})
    assert [(c.values["count"], c.values["name"]) for c in cells] == [(1, "a"), (2, "b")]
    with pytest.raises(UserError, match="3 values for 2 names"):
        sweep.plan_cells(notebook, {"count+name": ["1:a:b"]}, tmp_path, {})
    with pytest.raises(UserError, match="'rate' is both swept and fixed"):
        sweep.plan_cells(notebook, {"count+rate": [1]}, tmp_path, {"rate": 3})
