"""One execution: a clean end, a clear failure, and no process that outlives its parent."""

import os
import signal
import sys

import nbformat
import psutil
import pytest

from facelib.errors import UserError
from facelib.runner.execute import Execution
from tests.small_notebooks import write_small


def test_the_kernel_is_this_interpreter_and_finds_the_package(tmp_path):
    # Catches: a kernel of another environment, whatever python3 kernel the machine has installed.
    code = "import sys, os, facelib\nprint(sys.prefix, os.getcwd(), count)"
    notebook = write_small(tmp_path / "nb" / "n.ipynb", code)
    run = Execution(notebook, tmp_path / "out" / "n.ipynb", {"count": 9})
    run.run_to_end()
    printed = nbformat.read(run.output, as_version=4).cells[-1].outputs[0].text
    assert printed == f"{sys.prefix} {tmp_path / 'nb'} 9\n"
    assert not run.partial.exists()


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["papermill", "kernel"])
def test_what_is_killed_with_sigkill_takes_its_children_along(tmp_path, victim):
    # Catches: a kernel that outlives papermill, papermill that waits for a dead kernel for ever.
    notebook = write_small(tmp_path / "n.ipynb", "import time\nprint('here')\ntime.sleep(600)")
    run = Execution(notebook, tmp_path / "out" / "n.ipynb")
    run.start()
    while run.last_line() != "here":
        assert run.poll() is None
    family = psutil.Process(run.process.pid).children(recursive=True)
    os.kill(run.process.pid if victim == "papermill" else family[0].pid, signal.SIGKILL)
    assert run.process.wait(60) != 0
    assert psutil.wait_procs(family, timeout=60)[1] == []
    run.poll()
    message = run.failure()
    assert ("killed by SIGKILL at 'here'" if victim == "papermill" else "Kernel died") in message
    assert not run.output.exists()


def test_an_error_in_a_cell_is_told_in_one_line(tmp_path):
    # Catches: a traceback of papermill instead of the reason; a failure that looks like success.
    notebook = write_small(tmp_path / "n.ipynb", "raise ValueError('no such file: x\\nmore')")
    run = Execution(notebook, tmp_path / "n.out.ipynb")
    with pytest.raises(UserError, match=r"^n\.ipynb: cell 2: ValueError: no such file: x; look"):
        run.run_to_end()
    assert run.failed.exists()
    assert not run.output.exists()


def test_a_relative_runs_folder_means_the_same_in_the_notebook(tmp_path, monkeypatch):
    # Catches: FACELIB_RUNS=runs that lands beside the notebooks, where the kernel runs.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACELIB_RUNS", "here")
    code = "from facelib import paths\nprint(paths.runs_root())"
    notebook = write_small(tmp_path / "nb" / "n.ipynb", code)
    run = Execution(notebook, tmp_path / "out" / "n.ipynb")
    run.run_to_end()
    printed = nbformat.read(run.output, as_version=4).cells[-1].outputs[0].text
    assert printed == f"{tmp_path / 'here'}\n"
