"""What a campaign of kills starts: trainings and notebooks of seconds, and all their processes."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch._dynamo  # noqa: F401 (half of the CPU seconds of a forked training, were it imported there)

from facelib.paths import REPO
from facelib.runs.folder import Run, create_run, read_lines
from facelib.training import interrupts, train
from facelib.training.checkpoint import load_checkpoint
from tests.small_notebooks import write_small

MARK = "FACELIB_KILL_TREE"  # in the environment of every process of a tree, whoever started it
VOLATILE = ("images_per_s", "eta_s", "peak_memory_mb")
KEPT = (
    "data", "benchmarks", "width", "image_size", "dim", "global_batch", "images_seen",
    "val_fraction", "split", "log_every", "eval_every", "save_every", "select", "workers", "lr",
)  # fmt: skip
NOTEBOOK = """from facelib.config import make_config
from facelib.runs.folder import record_row
from facelib.runs.launch import launch

run = launch(make_config(loss=loss, **SETTINGS))
record_row({"run": run.name, "step": run.status["step"]})"""
STUDY = """import sys
from pathlib import Path
from facelib.safety.guard import guarded
def study():  # as the verb: its imports are guarded too
    from facelib.runner.study import run_study
    run_study(folder=Path({!r}))
sys.exit(guarded(study))"""


def make_records(folder: Path) -> Path:
    """24 identities × 6 blotchy pictures of 16 pixels."""
    import numpy as np

    from facelib.formats.decode import encode_jpeg
    from facelib.formats.recordio import write_face_records

    rng, images = np.random.default_rng(0), []
    for label in range(24):
        base = rng.integers(0, 255, (4, 4, 3)).repeat(4, 0).repeat(4, 1)
        for _ in range(6):
            noisy = np.clip(base + rng.normal(0, 30, base.shape), 0, 255).astype(np.uint8)
            images.append((label, encode_jpeg(noisy)))
    write_face_records(folder, images, size=(16, 16))
    return folder


def command(how: str, root: Path, cfg) -> list[str]:
    """The command line that trains a configuration, or two losses of it by notebooks."""
    if how == "train":
        run = create_run(cfg, root)
        return [sys.executable, "-m", "facelib", "train", "--run", str(run.path), "--no-eval"]
    settings = {k: v for k, v in cfg.to_dict().items() if k in KEPT}
    code = NOTEBOOK.replace("SETTINGS", repr(settings))
    losses = ("arcface", "infonce")
    for number, loss in enumerate(losses if how == "study" else losses[:1]):
        notebook = root / "nb" / f"0{number}_{how}.ipynb"
        if not notebook.is_file():
            write_small(notebook, code, parameters=f'loss: str = "{loss}"  # which')
    if how == "study":
        return [sys.executable, "-c", STUDY.format(str(root / "nb"))]
    line = [sys.executable, "-m", "facelib", "sweep", str(notebook), "--out", str(root / "sweep")]
    return [*line, "--grid", f"loss={','.join(losses)}", "--jobs", "2"]


class Tree:
    """A started command, or a training forked from this process, with all its processes."""

    def __init__(self, how: str, root: Path, cfg):
        self.mark, self.how = f"{root.name}.{time.monotonic_ns()}", how
        self.output = root / "output.txt"
        self.code: int | None = None
        self.seen: set[psutil.Process] = set()
        if how == "fork":
            self.root = self._fork(create_run(cfg, root))
            return
        environment = {**os.environ, MARK: self.mark, "FACELIB_RUNS": str(root),
                       "PYTHONPATH": str(REPO)}  # fmt: skip
        with open(self.output, "wb") as output:
            self.child = subprocess.Popen(command(how, root, cfg), env=environment, cwd=REPO,
                                          stdout=output, stderr=subprocess.STDOUT,
                                          start_new_session=True)  # fmt: skip
        self.root = self.child.pid

    def _fork(self, run: Run) -> int:
        """The trainer's own `main` in a copy of this process: no seconds of imports."""
        train.FIRST_PARENT = interrupts.FIRST_PARENT = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            log = os.open(run.path / "train.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1), os.dup2(log, 2)
            code = train.main([str(run.path)])
        finally:
            os._exit(code)

    def poll(self) -> int | None:
        """Exit code of the root, or None while it lives."""
        if self.code is None and self.how == "fork":
            pid, status = os.waitpid(self.root, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        elif self.code is None:
            self.code = self.child.poll()
        return self.code

    def members(self) -> list[psutil.Process]:
        """The live processes of the tree: marked, or once below one that was."""
        self.seen.update(_marked(f"{MARK}={self.mark}".encode()))
        if self.poll() is None:
            self.seen.add(psutil.Process(self.root))
        for process in list(self.seen):
            with contextlib.suppress(psutil.Error):
                self.seen.update(process.children(recursive=True))
        self.seen = {process for process in self.seen if _lives(process)}
        return list(self.seen)

    def wait(self, seconds: float) -> bool:
        """Did the root end in time?"""
        end = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        return self.poll() is not None

    def clear(self, seconds: float) -> list[str]:
        """Wait for the rest of the tree; what is left then is named and killed."""
        end = time.monotonic() + seconds
        while (left := self.members()) and time.monotonic() < end:
            time.sleep(0.1)
        names = [role(process) for process in left]
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return names


def _marked(mark: bytes) -> Iterator[psutil.Process]:
    """Processes with a mark in their environment, in whatever session and below whomever."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, psutil.Error):  # gone, or somebody else's
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes():
                yield psutil.Process(int(entry.name))


def _lives(process: psutil.Process) -> bool:
    """Whether it is there, and no zombie (`psutil` knows a number that was given anew)."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def role(process: psutil.Process) -> str:
    """What a process of a tree is: the command, a launcher, a trainer, a worker, a kernel."""
    parts = {"-m facelib train": "command", "-m facelib sweep": "command", "run_study": "command",
             "facelib.runner.execute": "notebook", "ipykernel": "kernel",
             "accelerate.commands": "launcher", "resource_tracker": "tracker",
             "forkserver": "worker", "facelib.training.train": "trainer"}  # fmt: skip
    try:
        line = " ".join(process.cmdline())
    except psutil.Error:
        return "gone"
    return next((name for part, name in parts.items() if part in line), "trainer")


def result(root: Path) -> dict:
    """All that must not depend on kills, by run: weights, best score, rows of metrics."""
    found = {}
    for folder in sorted(path.parent for path in root.glob("*/config.json")):
        files = sorted((folder / "checkpoints").glob("*.pt"))
        states = {path.name: load_checkpoint(path) for path in files}
        weights = {name: [s[k] for k in ("digest", "step", "best")] for name, s in states.items()}
        rows = [{k: v for k, v in row.items() if k not in VOLATILE}
                for row in read_lines(folder / "metrics.jsonl")]  # fmt: skip
        found[folder.name] = {"weights": weights, "metrics": rows}
    made = [*root.glob("sweep/results.csv"), *root.glob("notebooks/state.json")]
    for path in made:
        text = path.read_text()
        found[path.name] = sorted(json.loads(text)["notebooks"]) if path.suffix == ".json" else text
    return found
