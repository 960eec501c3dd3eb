"""Starting, following and stopping runs: side by side, signals, dead parents, second trainers."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest
import torch

from facelib.config import make_config
from facelib.errors import UserError
from facelib.runs.folder import create_run
from facelib.runs.launch import launch, launch_all, start, stop
from facelib.training import interrupts
from facelib.training.train import Trainer
from tests.training.test_train import tiny, weights


@pytest.mark.slow
def test_runs_train_side_by_side_and_the_next_starts_as_one_ends(
    tiny_records, runs_folder, monkeypatch
):
    # Catches: one after the other, more threads than cores, one config trained twice at once, a
    # core that is idle until both of a pair have ended.
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    lengths = {0: 9600, 1: 1600, 2: 1600}
    configs = [tiny(tiny_records, seed=s, images_seen=lengths[s]) for s in (0, 1, 0, 2)]
    runs = launch_all(configs)
    assert [run.config for run in runs] == configs
    assert all(run.state == "done" for run in runs)
    started = {run.config.seed: (run.path / "env.json").stat().st_mtime for run in runs}
    ended = {run.config.seed: run.status["updated"] for run in runs}
    assert started[1] < ended[0]
    assert ended[1] < started[2] < ended[0]
    assert all(a.path == b.path for a, b in zip(runs, launch_all(configs)))


@pytest.mark.slow
def test_weights_do_not_depend_on_the_cores_that_are_offered(
    tiny_records, runs_folder, monkeypatch
):
    # Catches: one run name with two results: threads taken from the machine or its environment.
    settings = {"width": 16, "image_size": 32, "global_batch": 32}
    found = []
    for cores in ("1", "2"):
        monkeypatch.setenv("OMP_NUM_THREADS", cores)
        monkeypatch.setenv("FACELIB_RUNS", str(runs_folder / cores))
        found.append(weights(launch(tiny(tiny_records, **settings))))
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])
    assert tiny(tiny_records, threads=2).run_name != tiny(tiny_records).run_name


@pytest.mark.slow
def test_a_failed_run_stops_the_one_beside_it_with_a_checkpoint(
    tiny_records, runs_folder, monkeypatch
):
    # Catches: an orphan that trains on, or one that loses its steps.
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    bad = tiny(tiny_records, lr=1e30, clip_norm=0.0, warmup=0.0, images_seen=1600)
    good = tiny(tiny_records, images_seen=1_600_000, save_every=1_000_000)
    with pytest.raises(UserError, match="is not finite"):
        launch_all([bad, good])
    run = create_run(good)
    assert run.state == "stopped"
    assert (run.path / "checkpoints" / "last.pt").is_file()


@pytest.mark.slow
def test_a_finished_run_returns_at_once(tiny_records, runs_folder):
    # Catches: training again what is done.
    run = launch(tiny(tiny_records))
    before = (run.path / "metrics.jsonl").stat().st_mtime_ns
    begin = time.monotonic()
    assert launch(tiny(tiny_records)).path == run.path
    assert time.monotonic() - begin < 1
    assert (run.path / "metrics.jsonl").stat().st_mtime_ns == before


@pytest.mark.slow
def test_ctrl_c_leaves_a_checkpoint_and_resumes(tiny_records, runs_folder):
    # Catches: an interrupt that loses the steps since the last checkpoint, or reads as a failure.
    cfg = tiny(tiny_records, images_seen=160_000, save_every=100_000)
    run = create_run(cfg)
    child = start(run)
    while run.status.get("step", 0) < 20:
        assert child.poll() is None
        time.sleep(0.02)
    stop(run, child)
    assert child.wait() == 130
    assert run.state == "stopped"
    saved = torch.load(run.path / "checkpoints" / "last.pt", weights_only=True)["step"]
    assert saved >= 20


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("processes", [1, 2])
def test_no_training_process_outlives_its_launcher(tiny_records, runs_folder, number, processes):
    # Catches: orphans that keep the cores or the GPU after a killed kernel.
    cfg = tiny(tiny_records, images_seen=1_600_000, processes=processes)
    run = create_run(cfg)
    code = f"from facelib.runs.launch import launch; from facelib.runs.folder import load_run;\
        launch(load_run({str(run.path)!r}).config)"
    parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    try:
        while run.status.get("step", 0) < 3:
            assert parent.poll() is None
            time.sleep(0.05)
        children = psutil.Process(parent.pid).children(recursive=True)
        assert len(children) >= processes
        os.kill(parent.pid, number)
        _, alive = psutil.wait_procs(children, timeout=20)
        assert not alive
    finally:
        parent.kill()
    assert run.state in ("stopped", "died")


@pytest.mark.slow
def test_a_process_that_no_signal_reaches_dies_after_its_parent(tmp_path):
    # Catches: a rank that hangs in a collective for ever, once its launcher is gone.
    code = (
        "import os, signal, threading, time; import facelib.training.interrupts as t;"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]);"
        "threading.Thread(target=t.watch_parent, args=(0.5,), daemon=True).start();"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", "import subprocess, sys;"
                               f"subprocess.run([sys.executable, '-c', {code!r}])"])  # fmt: skip
    while not (tmp_path / "pid").is_file() or not (tmp_path / "pid").read_text():
        assert parent.poll() is None
        time.sleep(0.05)
    child = psutil.Process(int((tmp_path / "pid").read_text()))
    time.sleep(2.5)
    assert child.is_running()  # the parent lives
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs([child], timeout=10)
    assert not alive


@pytest.mark.slow
def test_a_second_trainer_of_the_same_run_is_refused(tiny_records, runs_folder):
    # Catches: two processes that write one checkpoint.
    run = create_run(tiny(tiny_records, images_seen=160_000))
    first = start(run)
    try:
        while run.status.get("step", 0) < 1:
            time.sleep(0.02)
        second = subprocess.run(
            [sys.executable, "-m", "facelib.training.train", str(run.path)],
            capture_output=True,
            text=True,
        )
        assert second.returncode == 2
        assert "is being trained by another process" in second.stderr
        assert run.state == "running"
    finally:
        stop(run, first)


def test_a_failure_raises_with_its_reason_and_the_resume_command(tiny_records, runs_folder):
    # Catches: a notebook cell that goes on after a failed training.
    cfg = tiny(tiny_records, loss="infonce", global_batch=64)
    with pytest.raises(UserError, match="takes 32 identities.*use global_batch=36 or less"):
        launch(cfg)


def test_the_wrong_number_of_processes_is_refused(tiny_records, runs_folder):
    # Catches: `accelerate launch` that silently starts one process.
    run = create_run(tiny(tiny_records, processes=2))
    done = subprocess.run(
        [sys.executable, "-m", "facelib.training.train", str(run.path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "1 process(es) run, the configuration says processes=2" in done.stderr


def test_a_checkpoint_may_take_longer_than_the_agreement_to_stop():
    # Catches: an alarm that ends the process while it writes its last checkpoint.
    signal.alarm(1000)
    interrupts.take_time()
    assert signal.alarm(0) == 0


@pytest.mark.parametrize(("device", "changes", "slow"), [
    ("cpu", {}, True),
    ("cuda", {}, False),
    ("cuda", {"chunk": 8}, True),
    ("cuda", {"accumulate": 2}, True),
])  # fmt: skip
def test_where_steps_are_slow_each_is_a_place_to_stop(device, changes, slow):
    # Catches: ten steps of chunks, minutes, before a process sees that it was asked to stop.
    asked = SimpleNamespace(cfg=make_config(loss="infonce", **changes),
                            accelerator=SimpleNamespace(device=torch.device(device)))  # fmt: skip
    assert Trainer._slow_steps.fget(asked) is slow


def test_each_process_of_a_run_has_the_threads_that_its_name_says(
    tiny_records, runs_folder, monkeypatch
):
    # Catches: a share of this machine's cores, so that another machine gives another result.
    seen = {}
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.setattr(subprocess, "Popen", lambda line, **options: seen.update(options["env"])
                        or SimpleNamespace(pid=os.getpid()))  # fmt: skip
    start(create_run(tiny(tiny_records, processes=2)))
    assert seen["OMP_NUM_THREADS"] == "1"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_same_call_at_once_after_a_kill_trains_to_the_end(tiny_records, runs_folder, number):
    # Catches: the dying training is followed, and its end is reported as this call's failure.
    cfg = tiny(tiny_records, images_seen=16_000)
    run = create_run(cfg)
    code = f"from facelib.runs.launch import launch; from facelib.runs.folder import load_run;\
        launch(load_run({str(run.path)!r}).config)"
    parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    while run.status.get("step", 0) < 3:
        assert parent.poll() is None
        time.sleep(0.02)
    parent.send_signal(number)
    parent.wait()
    assert launch(cfg).status["step"] == 1000
