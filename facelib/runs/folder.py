"""Run folders: create, load, list, compare. A run is a folder of small files.

config.json      the configuration            metrics.jsonl  one line per log tick
env.json         versions, machine, commit    train.log      output of the subprocess
status.json      state, pid, step             eval.json      figures of each benchmark
origin.json      digests of data and code     checkpoints/   last.pt, best.pt
embeddings/      scores/
"""

import importlib.metadata
import logging
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from facelib.config import Config, plain_config
from facelib.errors import BadData, UserError
from facelib.locks import Locked, is_locked, locked
from facelib.paths import REPO, named_run, runs_root
from facelib.runs.files import AGAIN, read_evaluation, read_metrics, read_status, write_json
from facelib.runs.origin import why_stale
from facelib.safety.readers import read_object, read_object_lines

log = logging.getLogger(__name__)


class AlreadyTraining(UserError):
    """Another process holds the lock of this run."""


PACKAGES = ("torch", "torchvision", "accelerate", "numpy", "opencv-python-headless", "simplejpeg")


@dataclass(frozen=True, repr=False)
class Run:
    """A run folder and its configuration."""

    path: Path
    config: Config

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def ref(self) -> str:
        """The run as an advised command names it."""
        return named_run(self.path)

    @property
    def checkpoint(self) -> Path:
        """The checkpoint used for evaluation: best.pt where the config selects one."""
        name = "last.pt" if self.config.select == "last" else "best.pt"
        return self.path / "checkpoints" / name

    @property
    def status(self) -> dict:
        """Content of status.json; state "new" before the first start.

        A run whose process died reads "running" in the file; `state` tells the truth.
        """
        return read_status(self.path / "status.json")

    @property
    def state(self) -> str:
        """new, running, done, stopped (resumable), failed, or died (killed; resumable)."""
        state = self.status["state"]
        if state in ("starting", "running"):
            return "running" if is_alive(self.path) else "died"
        return state

    def set_status(self, **changes: object) -> None:
        """Merge changes into status.json, atomically."""
        write_json(self.path / "status.json", {**self.status, **changes, "updated": time.time()})

    def metrics(self):
        """metrics.jsonl as a DataFrame, one row per log tick."""
        import pandas as pd

        return pd.DataFrame(read_metrics(self.path / "metrics.jsonl"))

    def evaluation(self) -> dict:
        """eval.json, or an error that says how to make it: absent, or of something else."""
        found = read_evaluation(self.path / "eval.json")
        if found is None:
            raise UserError(
                f"{self.name}: not evaluated yet; run: python -m facelib eval {self.ref}"
            )
        if reason := why_stale(self, found):
            raise BadData(reason)
        return found

    def __repr__(self) -> str:
        status = self.status
        return f"{self.name}: {self.state}, step {status.get('step', 0)} of {status.get('steps')}"


def create_run(cfg: Config, root: Path | None = None) -> Run:
    """The run of a config: its folder is made, or found again with all that it holds.

    Raises:
        UserError: the folder exists with another configuration (edited by hand, or a collision of
            digests), or cannot be written.
    """
    path = (root or runs_root()) / cfg.run_name
    if (path / "config.json").is_file():
        found = load_run(path).config
        if found.digest() != cfg.digest():
            keys = ", ".join(found.changes_from(cfg))
            raise UserError(
                f"{path} holds another configuration (differs in {keys}): "
                "give this run another name, or move that folder away"
            )
        if found == cfg:
            return Run(path, found)
    try:
        (path / "checkpoints").mkdir(parents=True, exist_ok=True)
        write_json(path / "config.json", cfg.to_dict())
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}); free space or set FACELIB_RUNS"
        ) from error
    return Run(path, cfg)


def load_run(name: str | Path | Run) -> Run:
    """A run as it is, or by folder, by name under the runs root, or by a beginning of its name.

    Of several that begin so, the one of that very name counts, else the one of that name
    (`smoke-arcface`, then a digest), or of several such the one without other settings.
    """
    if isinstance(name, Run):
        return name
    path = Path(name)
    if not os.path.lexists(path / "config.json"):  # a folder or a broken link is a damaged run
        matches = _folders_beginning(path)
        if len(matches) > 1:
            called = [p for p in matches if p.name.rpartition("-")[0] == str(name)]
            plain = [p for p in called if _is_plain(p)] if len(called) > 1 else called
            matches = [p for p in matches if p.name == path.name] or plain or matches
        if len(matches) != 1:
            what = ", ".join(p.name for p in matches) or "none"
            raise UserError(
                f"run {str(name)!r}: matching runs: {what}; give a run's name or folder; list "
                "them: python -m facelib runs"
            )
        path = matches[0]
    settings = read_json(path / "config.json")
    try:
        return Run(path.resolve(), Config(**settings))
    except Exception as error:  # a value of another type fails wherever it is compared
        reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise BadData(
            f"{path / 'config.json'}: not a configuration of this version: {reason}; move the "
            "folder away, or train anew"
        ) from error


def _folders_beginning(path: Path) -> list[Path]:
    """Run folders under the runs root whose name begins so; none for an absolute path."""
    root = runs_root() / path.parent
    if path.is_absolute() or ".." in path.parts or not root.is_dir():
        return []
    return sorted(p for p in root.iterdir()
                  if p.name.startswith(path.name) and (p / "config.json").is_file())  # fmt: skip


def _is_plain(folder: Path) -> bool:
    """Is this the run of its preset and loss without other settings?"""
    try:
        cfg = load_run(folder).config
    except BadData:
        return False
    return plain_config(cfg).run_name == folder.name


def list_runs(root: Path | None = None) -> list[Run]:
    """All runs under the runs root, by name; one with a damaged file is logged and left out."""
    runs = []
    for config in sorted((root or runs_root()).glob("*/config.json")):
        try:
            run = load_run(config.parent)
            log.debug("%s is %s", run.name, run.state)  # reads status.json
            runs.append(run)
        except BadData as error:
            log.warning("%s", error)
    return runs


def tabulate(runs: list[Run] | None = None):
    """One row per run: name, state, step, loss, images/s, best-threshold accuracies (%).

    A run with a damaged file has the state "damaged", and a warning says which file.
    """
    import pandas as pd

    if runs is None:
        folders = sorted(path.parent for path in runs_root().glob("*/config.json"))
    else:
        folders = [run.path for run in runs]
    rows = []
    for folder in folders:
        try:
            rows.append(_table_row(load_run(folder)))
        except BadData as error:
            log.warning("%s", error)
            rows.append({"run": folder.name, "state": "damaged"})
    return pd.DataFrame(rows)


def _table_row(run: Run) -> dict:
    ticks = [line for line in read_metrics(run.path / "metrics.jsonl") if "loss" in line]
    status, last = run.status, ticks[-1] if ticks else {}
    row = {
        "run": run.name,
        "state": run.state,
        "step": status.get("step", 0),
        "steps": status.get("steps"),
        "loss": last.get("loss"),
        "images/s": last.get("images_per_s"),
    }
    report = read_evaluation(run.path / "eval.json")
    if report and (reason := why_stale(run, report)):
        log.warning("%s", reason)
        return row
    for name, figures in (report or {"benchmarks": {}})["benchmarks"].items():
        row[name] = round(100 * figures["best"]["accuracy"], 2)
    return row


def compare_configs(runs: list[Run]):
    """The settings in which runs differ: one row per run."""
    import pandas as pd

    frame = pd.DataFrame([{"run": r.name, **r.config.to_dict()} for r in runs]).set_index("run")
    return frame.loc[:, frame.nunique() > 1]


def record_row(row: dict) -> None:
    """Hand one result row to a sweep: written to `$FACELIB_ROW`, which only a sweep sets."""
    target = os.environ.get("FACELIB_ROW")
    if target:
        write_json(Path(target), row)


def environment() -> dict:
    """Versions, machine and commit, as kept in env.json."""
    import torch

    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        "packages": versions,
        "machine": platform.platform(),
        "cpu_count": os.cpu_count(),
        "gpus": gpus,
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "command": sys.argv,
    }


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=REPO, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None  # not a git checkout: a downloaded archive is fine
    return done.stdout.strip()


def read_json(path: Path, default: object = ...) -> dict:
    """A JSON object; `default` where it is absent; BadData where it is none."""
    return read_object(path, AGAIN, default)


def read_lines(path: Path) -> list[dict]:
    """A JSON-lines file; an unfinished last line (a killed writer) is left out."""
    return read_object_lines(path, AGAIN) if path.exists() else []


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold the lock of a run folder while training it. The kernel frees it at any death.

    Raises:
        AlreadyTraining: another process trains this run.
    """
    try:
        with locked(path / ".lock", wait=False):
            for half in (path / "checkpoints").glob(".*.tmp"):  # of a writer that was killed
                half.unlink()
            yield
    except Locked:
        raise AlreadyTraining(
            f"{path.name} is being trained by another process; "
            f"watch it: python -m facelib follow {named_run(path)}"
        ) from None


def is_alive(path: Path) -> bool:
    """Does a process on this machine hold the run's lock, or is one just starting?"""
    return is_locked(path / ".lock") or own_process(read_status(path / "status.json")) is not None


def identify(pid: int) -> dict:
    """What names a process for good: its id, when it started, and on which machine."""
    import psutil

    try:
        started = psutil.Process(pid).create_time()
    except psutil.Error:
        started = 0
    return {"pid": pid, "pid_started": started, "host": socket.gethostname()}


def own_process(status: dict):
    """The live process that a status names (`psutil.Process`), or None.

    Its number alone is not enough: numbers are given again. It must have started when the status
    says, on this machine, and not be a zombie (dead, and nobody has waited for it).
    """
    import psutil

    if status.get("host", socket.gethostname()) != socket.gethostname():
        return None
    try:
        process = psutil.Process(status.get("pid", -1))
        if not abs(process.create_time() - status.get("pid_started", 0)) < 1:  # NaN is not
            return None
        return None if process.status() == psutil.STATUS_ZOMBIE else process
    except (psutil.Error, ValueError, OverflowError):
        return None
