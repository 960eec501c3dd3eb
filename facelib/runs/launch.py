"""Start, follow and stop the training subprocess. `launch(cfg)` is what notebooks call.

The child writes to files, the caller follows them: a killed kernel loses nothing, a second call
attaches or resumes. On one process the child is `python -m facelib.training.train RUN`;
on several it is `accelerate launch`. No child outlives its parent.
"""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from facelib.config import Config
from facelib.errors import UserError
from facelib.paths import REPO
from facelib.runs.folder import Run, create_run, identify, load_run, own_process, read_lines
from facelib.runs.origin import check_data, check_resume
from facelib.runs.progress import show_progress
from facelib.safety.mortal import die_with_parent

log = logging.getLogger(__name__)


def launch(
    cfg: Config, follow: bool = True, processes: int | None = None, root: Path | None = None
) -> Run:
    """Train a config and return its run: done -> at once; alive -> attach; else start or resume.

    A training that is followed and ends unfinished, as its own parent was killed, is resumed.

    Args:
        cfg: the configuration; the same one always means the same run folder.
        follow: show progress until the end. False: return as soon as the child is started (it
            still dies with this process).
        processes: start an elastic run on that many instead of the configuration's.
        root: folder of the run folder, default `runs_root()`.

    Raises:
        UserError: the training failed; the message has the last log lines and the next command.
        KeyboardInterrupt: after the child has saved its checkpoint.
    """
    if processes and processes != cfg.processes and not cfg.elastic:
        raise UserError(
            f"processes={processes}: this run was made for processes={cfg.processes} (batch "
            "statistics are those of a process); make one that takes any number with: "
            "python -m facelib train --set elastic=true name=elastic --create"
        )
    run = create_run(cfg, root)
    while run.state == "running":  # somebody else's: if they do not end it, this call does
        log.info("%s is already running: following it", run.name)
        if not follow:
            return run
        _watch(run, None)
    if run.state == "done":
        check_data(run)
        return load_run(run.path)
    child = start(run, processes)
    if follow:
        _follow(run, child)
    return load_run(run.path)


def launch_all(configs: Sequence[Config]) -> list[Run]:
    """`launch` several configs; on a CPU side by side, as many as their threads fill its cores.

    The next run starts as soon as one ends. Small networks gain little from a second thread: two
    runs side by side take less time than one after the other with two threads. On CUDA, and for
    runs of several processes, one after the other.

    Raises:
        UserError, KeyboardInterrupt: as `launch`; the other runs have stopped with a checkpoint.
    """
    found = {run.path: run for run in map(create_run, configs)}
    waiting = deque(run for run in found.values() if run.state not in ("done", "running"))
    cores = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    places = max(1, cores // max((cfg.threads for cfg in configs), default=1))
    if places == 1 or _cuda_devices() or any(cfg.processes > 1 for cfg in configs):
        return [launch(cfg) for cfg in configs]
    children: dict[Path, subprocess.Popen] = {}

    def fill() -> None:
        while waiting and sum(child.poll() is None for child in children.values()) < places:
            run = waiting.popleft()
            children[run.path] = start(run)

    try:
        for run in list(waiting):
            fill()
            _follow(run, children[run.path], fill)
    except BaseException:
        for path, child in children.items():
            stop(found[path], child)
        raise
    return [launch(cfg) for cfg in configs]


def command(
    cfg: Config, folder: Path, processes: int | None = None
) -> tuple[list[str], dict[str, str]]:
    """The command line and the extra environment of the training subprocess."""
    processes = cfg.replace(processes=processes or cfg.processes).processes  # checks the batch
    if processes == 1:
        return [sys.executable, "-m", "facelib.training.train", str(folder)], {}
    line = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    line += ["--num_processes", str(processes), "--num_machines", "1"]
    line += ["--mixed_precision", {"fp32": "no"}.get(cfg.precision, cfg.precision)]
    line += ["--dynamo_backend", "no", "--main_process_port", str(free_port())]
    extra = {} if _cuda_devices() else {"ACCELERATE_USE_CPU": "1"}
    return [*line, "-m", "facelib.training.train", str(folder)], extra


def start(run: Run, processes: int | None = None) -> subprocess.Popen:
    """Start the child with its output in train.log; `processes` None: the config's."""
    if (run.path / "checkpoints" / "last.pt").is_file():
        check_resume(run)
    line, extra = command(run.config, run.path, processes)
    environment = {**os.environ, **extra, "PYTHONUNBUFFERED": "1"}
    count = processes or run.config.processes
    environment["OMP_NUM_THREADS"] = str(run.config.threads)
    environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(REPO), os.environ.get("PYTHONPATH")])
    )
    run.set_status(state="starting", message="", pid=-1, processes=count)
    with open(run.path / "train.log", "ab") as output:
        child = subprocess.Popen(
            line,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            preexec_fn=partial(die_with_parent, os.getpid()) if sys.platform == "linux" else None,
            start_new_session=True,  # Ctrl-C reaches the child once, from `stop`
        )
    if run.status["state"] == "starting":
        run.set_status(**identify(child.pid))
    return child


def stop(run: Run, child: subprocess.Popen | None = None, patience: float = 60) -> None:
    """Ask a run to save its checkpoint and stop; kill our own `child` after `patience` s.

    Raises:
        UserError: without a child, the run is not running, or its process cannot be asked: it is
            gone, on another machine, or somebody else's. No other process gets the signal.
    """
    if child is not None:
        if child.poll() is not None:
            return
        pid = child.pid
    else:
        pid = _process_to_stop(run)
    count = run.status.get("processes", run.config.processes)
    try:
        os.kill(pid, signal.SIGINT if count == 1 else signal.SIGTERM)
    except OSError as error:
        raise UserError(f"{run.name}: process {pid} cannot be stopped: {error.strerror}") from error
    end = time.monotonic() + patience
    while time.monotonic() < end and (child.poll() is None if child else run.state == "running"):
        time.sleep(0.1)
    if child is not None and child.poll() is None:
        child.kill()
    elif child is None and run.state == "running":
        raise UserError(
            f"{run.name}: process {pid} was asked to stop and still runs after {patience:.0f} s; "
            f"watch it: python -m facelib follow {run.ref}"
        )


def _process_to_stop(run: Run) -> int:
    """Process id of a run that somebody else started."""
    state, status = run.state, run.status
    if state != "running":
        raise UserError(f"{run.name} is {state}: nothing to stop")
    process = own_process(status)
    if process is None:
        host = status.get("host", "another machine")
        raise UserError(
            f"{run.name} runs, but not as process {status.get('pid', -1)} of this machine: it was "
            f"started on {host}, or by a launcher that has not said so yet; stop it there"
        )
    return process.pid


def _follow(run: Run, child: subprocess.Popen, meanwhile: Callable[[], None] | None = None) -> None:
    _watch(run, child, meanwhile)
    child.wait()
    _raise_unless_done(run)


def _watch(
    run: Run, child: subprocess.Popen | None, meanwhile: Callable[[], None] | None = None
) -> None:
    try:
        show_progress(run, child, meanwhile)
    except BaseException:  # KeyboardInterrupt, SystemExit, or an error of the display itself
        stop(run, child)
        raise


def _raise_unless_done(run: Run) -> None:
    state = run.state
    if state == "done":
        return
    log_file = run.path / "train.log"
    lines = log_file.read_text(errors="replace").splitlines() if log_file.is_file() else []
    again = f"resume with: python -m facelib train --run {run.ref}"
    message = run.status.get("message") if state in ("failed", "stopped") else ""
    if message:
        helps = state == "stopped" or run.status.get("resumable", True)
        raise UserError(f"{run.name} {state}: {message}" + (f" ({again})" if helps else ""))
    tail = "\n".join([f"last lines of {log_file}:", *lines[-30:]])
    raise UserError(f"{run.name} {state}; {again}", tail)


def free_port() -> int:
    """A TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _cuda_devices() -> int:
    import torch

    return torch.cuda.device_count()


def wait_and_follow(name: str) -> Run:
    """Attach to a run by name and show its progress until it ends."""
    run = load_run(name)
    if run.state == "running":
        show_progress(run, None)
    rows = read_lines(run.path / "metrics.jsonl")
    if not rows and run.state == "new":
        raise UserError(
            f"{run.name} has not started; start it: python -m facelib train --run {run.ref}"
        )
    return run
