"""Who gets a signal, who counts as alive, and that nobody is left behind."""

import contextlib
import math
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from facelib.__main__ import main
from facelib.errors import UserError
from facelib.runs.folder import create_run, hold, identify
from facelib.runs.launch import start, stop
from tests.training.test_train import tiny


@pytest.fixture
def stranger():
    """A process that has nothing to do with any run."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize(
    "lie",
    [{"pid_started": 1.0}, {"host": "another"}, {"pid_started": 0}, {"pid_started": math.nan}],
    ids=str,
)
def test_a_stale_process_number_gets_no_signal(tiny_records, runs_folder, stranger, capsys, lie):
    # Mutation: os.kill(status["pid"]) while another process (torchrun's) trains the run.
    run = create_run(tiny(tiny_records))
    with hold(run.path):
        run.set_status(state="running", **(identify(stranger.pid) | lie))
        assert run.state == "running"
        assert main(["follow", run.name, "--stop"]) == 2
        assert "not as process" in capsys.readouterr().err
    assert stranger.poll() is None
    assert run.state == "died"
    assert main(["follow", run.name, "--stop"]) == 2
    assert "is died: nothing to stop" in capsys.readouterr().err


def test_a_zombie_counts_as_dead(tiny_records, runs_folder, stranger):
    # Mutation: a pid that exists is alive: launch follows a dead training for ever.
    run = create_run(tiny(tiny_records))
    run.set_status(state="starting", **identify(stranger.pid))
    assert run.state == "running"
    stranger.kill()  # nobody waits for it yet
    while psutil.Process(stranger.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert run.state == "died"


def test_a_process_that_ignores_the_request_is_said(tiny_records, runs_folder):
    # Mutation: silence after the patience is over, and follow goes on.
    code = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
    deaf = subprocess.Popen([sys.executable, "-c", code])
    try:
        time.sleep(0.5)
        run = create_run(tiny(tiny_records))
        run.set_status(state="running", **identify(deaf.pid))
        with pytest.raises(UserError, match="still runs after 0 s"):
            stop(run, patience=0.3)
    finally:
        deaf.kill()
        deaf.wait()


def test_a_trainer_says_who_it_is_whoever_started_it(tiny_records, runs_folder):
    # Mutation: only `start` writes the process: a run of torchrun or SLURM keeps an old one.
    run = create_run(tiny(tiny_records, images_seen=1_600_000))
    run.set_status(pid=1, pid_started=1.0, host="another")
    child = subprocess.Popen(
        [sys.executable, "-m", "facelib.training.train", str(run.path)], stderr=subprocess.DEVNULL
    )
    try:
        while run.status.get("step", 0) < 3:
            assert child.poll() is None
            time.sleep(0.05)
        assert run.status["pid"] == child.pid
        stop(run)
        assert child.wait(timeout=20) == 130 and run.state == "stopped"
    finally:
        child.kill()


def test_workers_of_a_killed_trainer_are_gone(tiny_records, runs_folder):
    # Mutation: workers whose parent is the fork server: 554 MB each, for minutes.
    run = create_run(tiny(tiny_records, images_seen=1_600_000, workers=2))
    child = start(run)
    try:
        while run.status.get("step", 0) < 3:
            assert child.poll() is None, (run.path / "train.log").read_text()
            time.sleep(0.05)
        children = psutil.Process(child.pid).children(recursive=True)
        assert len(children) >= 3  # fork server and workers
        os.kill(child.pid, signal.SIGKILL)
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive
    finally:
        child.kill()
        child.wait()


def test_ranks_of_a_launcher_that_is_killed_while_they_import_are_gone(tiny_records, runs_folder):
    # Mutation: asking to die with the parent after the imports, which take seconds.
    run = create_run(tiny(tiny_records, images_seen=1_600_000, processes=2))
    child = start(run)
    ranks: list[psutil.Process] = []
    try:
        while len(ranks) < 2:
            assert child.poll() is None
            found = psutil.Process(child.pid).children(recursive=True)
            with contextlib.suppress(psutil.NoSuchProcess):  # of a short helper of the launcher
                ranks = [p for p in found if "facelib.training.train" in " ".join(p.cmdline())]
            time.sleep(0.02)
        time.sleep(0.5)  # they import
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        _, alive = psutil.wait_procs(ranks, timeout=10)
        assert not alive
    finally:
        child.kill()
        for process in ranks:
            if process.is_running():
                process.kill()
