"""One execution of a notebook by papermill, in a process of its own.

`Execution` is the parent's side: start it, look at the last line of its log. The child
(`python -m facelib.runner.execute`) runs papermill with a kernel of this very interpreter. Nothing
outlives its parent: the child asks Linux for SIGTERM when the parent dies, passes SIGINT and
SIGTERM on to the kernel as Ctrl-C (so that a training leaves a checkpoint), and the kernel asks for
SIGTERM when the child dies. The executed notebook gets its final name only when it ran to its end.
"""

import contextlib
import itertools
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from facelib.errors import UserError
from facelib.locks import Locked, cores, locked
from facelib.paths import REPO, data_root, runs_root
from facelib.runs.folder import list_runs
from facelib.runs.progress import describe
from facelib.safety.mortal import die_with_parent, end_at_once
from facelib.safety.readers import read_object, reading

log = logging.getLogger(__name__)
STOP_SECONDS = 60  # for a training to write its checkpoint
TELL_SECONDS = 10  # between two lines of progress
INTERRUPTED = 130
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


class Execution:
    """One notebook with one set of values, executed into `output`.

    Beside `output` lie, while it runs, `NAME.partial.ipynb` and, always, `NAME.log` with what the
    notebook printed; after a failure `NAME.failed.ipynb` shows the cell that failed.
    """

    def __init__(
        self,
        notebook: Path,
        output: Path,
        values: Mapping[str, object] | None = None,
        environment: Mapping[str, str] | None = None,
        label: str = "",
    ):
        self.notebook, self.output = Path(notebook).resolve(), Path(output).resolve()
        self.label = label
        self.values, self.environment = dict(values or {}), dict(environment or {})
        stem = self.output.with_suffix("")
        self.partial = stem.with_name(f"{stem.name}.partial.ipynb")
        self.failed = stem.with_name(f"{stem.name}.failed.ipynb")
        self.log = stem.with_name(f"{stem.name}.log")
        self.process: subprocess.Popen | None = None
        self.started = 0.0

    def start(self) -> None:
        """Start the child, its output in the log. Call it from the main thread (see the child)."""
        self.output.parent.mkdir(parents=True, exist_ok=True)
        self.failed.unlink(missing_ok=True)
        paths = filter(None, [str(REPO), os.environ.get("PYTHONPATH")])
        # Absolute, since a relative folder would mean another one where the notebook runs.
        places = {"FACELIB_RUNS": str(runs_root()), "FACELIB_DATA": str(data_root())}
        places["PYTHONPATH"] = os.pathsep.join(paths)
        given = (self.notebook, self.partial, json.dumps(self.values), os.getpid())
        with open(self.log, "w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "facelib.runner.execute", *map(str, given)],
                cwd=REPO,
                env={**os.environ, **places, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C in the terminal reaches it once, through us
            )
        self.started = time.monotonic()

    def poll(self) -> int | None:
        """Exit code, or None while it runs. Moves the executed notebook to where it belongs."""
        code = self.process.poll()
        if code is not None and self.partial.exists():
            self.partial.replace(self.failed if code else self.output)
        return code

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def last_line(self) -> str:
        """The last line that the notebook printed (not its kernel), cut at 120 characters."""
        text = self.log.read_text(errors="replace")[-4000:] if self.log.is_file() else ""
        lines = (line.strip() for line in re.split(r"[\r\n]+", text))
        own = [line for line in lines if line and not line.startswith("[IPKernelApp]")]
        return own[-1][:120] if own else ""

    def run_to_end(self) -> None:
        """Start, log progress, wait. Raises as `run_side_by_side` does."""
        run_side_by_side([self], 1, Execution.raise_if_failed)

    def raise_if_failed(self) -> None:
        """Of an execution that has ended.

        Raises:
            UserError: a cell failed; names the executed notebook and the error.
        """
        if self.process.returncode:
            raise UserError(self.failure())

    def failure(self) -> str:
        """One line about a failed execution: notebook, error, where to look."""
        where = self.failed if self.failed.exists() else self.log
        code = self.process.returncode
        reason = self.last_line() or f"exit code {code}"
        if code < 0:
            reason = f"killed by {signal.Signals(-code).name} at {reason!r}, run it again to go on"
        return f"{self.notebook.name}: {reason}; look at {where}"

    def remove_files(self) -> None:
        """Remove everything that this execution wrote."""
        for path in (self.output, self.partial, self.failed, self.log):
            path.unlink(missing_ok=True)


def run_side_by_side(
    executions: Iterable[Execution], places: int, ended: Callable[[Execution], None]
) -> None:
    """Run executions to their end, `places` at a time: the next starts as soon as one has ended.

    One thread starts and watches all: on Linux a child dies with the thread that started it.

    Args:
        ended: is given each execution that has ended; where it raises, the others are stopped.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; the kernels were stopped first.
    """
    waiting, running, told = deque(executions), [], time.monotonic()
    with stopping_on_sigterm():
        try:
            while waiting or running:
                while waiting and len(running) < places:
                    running.append(waiting.popleft())
                    running[-1].start()
                time.sleep(0.1)
                for one in [one for one in running if one.poll() is not None]:
                    running.remove(one)
                    ended(one)
                if time.monotonic() - told >= TELL_SECONDS:
                    told = time.monotonic()
                    for one in running:
                        log.info("  %s %4.0f s  %s", one.label, one.seconds, one.last_line())
                    for line in live_runs():
                        log.info("    %s", line)
        finally:
            stop(running)


def shared_threads(places: int) -> dict[str, str]:
    """The environment in which one of several executions takes its share of the cores."""
    return dict.fromkeys(THREADS, str(max(1, cores() // places))) if places > 1 else {}


def live_runs() -> list[str]:
    """One line for each training that runs now: steps, loss, images/s, memory, time left."""
    return [describe(run) for run in list_runs() if run.state == "running"]


def stop(executions: Iterable[Execution]) -> None:
    """Ctrl-C for the kernels, a minute for their checkpoints, then kill. A second Ctrl-C kills."""
    running = [e.process for e in executions if e.process and e.process.poll() is None]
    try:
        for process in running:
            process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + STOP_SECONDS
        for process in running:
            process.wait(max(0.0, deadline - time.monotonic()))
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        for process in running:
            process.kill()
            process.wait()


@contextlib.contextmanager
def stopping_on_sigterm() -> Iterator[None]:
    """Turn SIGTERM into KeyboardInterrupt, so that one clean-up serves both."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextlib.contextmanager
def held(folder: Path, what: str) -> Iterator[None]:
    """Hold a folder of executions: a second study or sweep in it is an error, not a mess."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with locked(folder / ".lock", wait=False):
            yield
    except Locked:
        raise UserError(f"another {what} is at work in {folder}: wait until it ends") from None


def run_child(notebook: Path, output: Path, values: dict, parent: int) -> int:
    """Execute a notebook with papermill; print one line per cell and, at the end, any error."""
    die_with_parent(parent)  # before the imports, which take seconds
    import papermill
    from nbformat import NotebookNode
    from papermill.exceptions import PapermillExecutionError

    kernels: list = []
    stopping = _pass_signals_to(kernels)
    with reading(notebook, "a notebook"):
        cells = sum(cell["cell_type"] == "code" for cell in read_object(notebook)["cells"])
    cells += bool(values)  # papermill adds a cell with the values
    done = itertools.count(1)

    def tell(cell: NotebookNode, cell_index: int) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt
        if cell.cell_type == "code":
            print(f"cell {next(done)} of {cells}", flush=True)

    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        papermill.execute_notebook(
            notebook,
            output,
            parameters=values,
            kernel_name="python3",
            language="python",
            cwd=notebook.parent,
            progress_bar=False,
            stdout_file=sys.stdout,
            stderr_file=sys.stdout,
            kernel_manager_class=_kernel_class(kernels),
            on_cell_start=tell,
        )
    except PapermillExecutionError as error:
        print(f"\n{''.join(error.traceback)}\ncell {error.exec_count}: {error.ename}: ", end="")
        print((error.evalue or "no message").splitlines()[0])
        return INTERRUPTED if stopping.is_set() else 1
    except KeyboardInterrupt:
        print("interrupted")
        return INTERRUPTED
    return 0


def _kernel_class(started: list) -> type:
    """Managers of kernels that are this interpreter; each enters itself in `started`."""
    import ipykernel.kernelspec
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

    class ThisInterpreter(KernelSpecManager):
        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            return KernelSpec(resource_dir="", **ipykernel.kernelspec.get_kernel_dict())

    class Manager(AsyncKernelManager):
        def __init__(self, **settings: object):
            super().__init__(**settings, kernel_spec_manager=ThisInterpreter())
            started.append(self)

        async def start_kernel(self, **settings: object) -> None:
            if sys.platform == "linux":  # its own look at us begins after seconds of imports
                settings["preexec_fn"] = partial(die_with_parent, os.getpid())
            await super().start_kernel(**settings)

    return Manager


def _pass_signals_to(started: list) -> threading.Event:
    """On SIGINT or SIGTERM interrupt the kernel's process group; a second one ends this process."""
    stopping = threading.Event()

    def interrupt(*_: object) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt
        stopping.set()
        for group in filter(None, (getattr(m.provisioner, "pgid", None) for m in started)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGINT)

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    return stopping


if __name__ == "__main__":
    source, target, given, parent_pid = sys.argv[1:]
    end_at_once(run_child(Path(source), Path(target), json.loads(given), int(parent_pid)))
