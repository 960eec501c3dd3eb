"""The study executes what is not up to date, in order, and never shows an older result as new."""

import logging
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

from facelib.config import make_config
from facelib.errors import UserError
from facelib.runner import execute, notebooks, study
from facelib.runs.folder import create_run, write_json
from tests.small_notebooks import write_small

ESTIMATE = {"seconds": 60, "faces": 100, "runs": 1, "disk_mb": 5}


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """Two notebooks; runs, data and site below tmp_path; what would be executed is only listed."""
    monkeypatch.setenv("FACELIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path / "data"))
    write_small(tmp_path / "nb" / "00_first.ipynb", "count", estimate=ESTIMATE)
    write_small(tmp_path / "nb" / "01_second.ipynb", "name", parameters='name: str = "b"  # a word')
    return tmp_path


@pytest.fixture
def executed(place, monkeypatch) -> list[str]:
    """Names of the notebooks executed, without kernels and site: each is copied to its output."""
    names = []

    def pretend(executions, places, ended):
        for one in executions:
            names.append(one.notebook.stem)
            one.output.parent.mkdir(parents=True, exist_ok=True)
            one.output.write_bytes(one.notebook.read_bytes())
            one.started, one.process = time.monotonic(), SimpleNamespace(returncode=0)
            ended(one)

    monkeypatch.setattr(execute, "run_side_by_side", pretend)
    monkeypatch.setattr(study, "build_site", lambda notebooks, out: out / "index.html")
    return names


def run(place: Path, **options) -> Path:
    return study.run_study(folder=place / "nb", **options)


@pytest.mark.slow
def test_notebooks_run_in_order_and_a_site_is_built(place):
    # Catches: another kernel, another order.
    index = run(place)
    pages = sorted(path.name for path in index.parent.glob("0*.html"))
    assert pages == ["00_first.html", "01_second.html"]
    executed = nbformat.read(place / "runs" / "notebooks" / "00_first.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].data["text/plain"] == "3"


def test_what_is_up_to_date_is_not_run_again(place, executed):
    # Catches: a second `make study` that takes as long as the first.
    run(place)
    run(place)
    assert executed == ["00_first", "01_second"]
    run(place, force=True, only=["01"])
    assert executed == ["00_first", "01_second", "01_second"]


@pytest.mark.parametrize(
    ("changed", "again"),
    [("00_first", ["00_first", "01_second"]), ("01_second", ["01_second"])],
)
def test_a_changed_notebook_runs_again_with_all_after_it(place, executed, changed, again):
    # Catches: a later notebook that keeps showing what an earlier one no longer says.
    run(place)
    executed.clear()
    write_small(place / "nb" / f"{changed}.ipynb", "print('changed')")
    run(place)
    assert executed == again


def test_a_deleted_run_is_noticed_even_after_an_interruption(place, executed):
    # Catches: the stamp of a notebook whose run folder is gone counted as up to date.
    made = create_run(make_config())
    write_json(made.path / "eval.json", {"benchmarks": {}})
    run(place)
    (made.path / "eval.json").unlink()
    executed.clear()
    run(place, only=["00"])  # the second notebook is left out of date
    run(place)
    assert executed == ["00_first", "01_second"]


def test_a_change_of_the_library_runs_everything_again(place, executed, monkeypatch):
    # Catches: old figures under new code.
    run(place)
    executed.clear()
    monkeypatch.setattr(notebooks, "library_digest", lambda: "another")
    run(place)
    assert executed == ["00_first", "01_second"]


def test_further_chapters_wait_until_they_are_asked_for(place, executed, caplog):
    # Catches: a study that silently leaves chapters out, or has no way to run them.
    write_small(place / "nb" / "02_third.ipynb", "name", further=True)
    with caplog.at_level(logging.INFO):
        run(place)
    assert executed == ["00_first", "01_second"]
    assert "not in this run: 02_third (study --all, or --only 02)" in caplog.text
    run(place, further=True)
    assert executed[2:] == ["02_third"]
    run(place, only=["02"], force=True)
    assert executed[3:] == ["02_third"]


def test_one_that_sums_up_waits_for_the_others(place, executed):
    # Catches: a table of results made before the notebooks that it shows.
    write_small(place / "nb" / "00_first.ipynb", "count", sums_up=True)
    run(place)
    assert executed == ["01_second", "00_first"]


def test_before_work_it_says_what_how_long_and_how_large(place, executed, caplog):
    # Catches: minutes of silence before the first notebook ends.
    with caplog.at_level(logging.INFO):
        run(place)
    assert "2 of 2 notebooks to execute: 00_first, 01_second" in caplog.text
    assert "at most 100 faces to render, 1 runs to train, 1 min on 2 cores, 5 MB" in caplog.text
    assert "the site: file://" in caplog.text


def test_a_full_disk_stops_it_before_the_first_notebook(place, executed, monkeypatch):
    # Catches: training for minutes and failing at the checkpoint.
    usage = type("usage", (), {"free": 1_000_000})
    monkeypatch.setattr(study.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"1 MB free at .*, about 5 MB needed"):
        run(place)
    assert executed == []


def test_a_wrong_number_is_one_clear_line(place, executed):
    # Catches: a mistyped number that quietly selects nothing.
    with pytest.raises(UserError, match="no notebook '07': allowed are 00_first, 01_second"):
        run(place, only=["07"])


def test_a_failing_notebook_is_named_and_never_gets_the_final_name(place):
    # Catches: half a notebook under the name of a whole one; the others run on all the same.
    write_small(place / "nb" / "00_first.ipynb", "1 / 0")
    write_small(place / "nb" / "01_second.ipynb", "import time\ntime.sleep(600)")
    write_small(place / "nb" / "02_third.ipynb", "name", sums_up=True)
    with pytest.raises(UserError, match=r"cell 2: ZeroDivisionError.*00_first\.failed\.ipynb"):
        run(place)
    assert (place / "runs" / "notebooks" / "00_first.failed.ipynb").is_file()
    assert notebooks.list_notebooks(place / "runs" / "notebooks") == []  # nor a page of the site


def test_a_second_study_beside_the_first_is_refused(place, executed):
    # Catches: two studies writing the same notebooks.
    with (
        execute.held(place / "runs" / "notebooks", "study"),
        pytest.raises(UserError, match="another study is at work"),
    ):
        run(place)


@pytest.mark.slow
def test_refreshed_outputs_are_the_same_bytes_each_time(tmp_path):
    # Catches: timings, papermill's notes or stderr in committed notebooks.
    code = "import sys\nprint('progress', file=sys.stderr)\nprint(count)"
    notebook = write_small(tmp_path / "00_first.ipynb", code)
    notebooks.refresh_outputs(folder=tmp_path)
    first = notebook.read_bytes()
    assert [o.text for o in nbformat.read(notebook, 4).cells[-1].outputs] == ["3\n"]
    notebooks.refresh_outputs(folder=tmp_path)
    assert notebook.read_bytes() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00_first.ipynb"]
