"""Progress of a run, read from its files: live curves in a notebook that a person has open, one
live line in a terminal or a notebook that a program executes, or plain lines.

At most one update a second live and one line in ten seconds in plain mode, so that neither a
notebook's message channel nor a log overflows.
"""

import base64
import io
import subprocess
import sys
import time
from collections.abc import Callable

from facelib.runs.files import VALIDATION, read_metrics
from facelib.runs.folder import Run


def show_progress(
    run: Run, child: subprocess.Popen | None, meanwhile: Callable[[], None] | None = None
) -> None:
    """Show a run's progress until it ends: its child exits, or (attached) its lock is free.

    Args:
        meanwhile: called several times a second.
    """
    show, every = _display(run)
    shown, text = 0.0, ""
    while True:
        ended = child.poll() is not None if child is not None else run.state != "running"
        now = time.monotonic()
        if ended or now - shown >= every:
            line = describe(run)
            if line != text or (ended and sys.stderr.isatty()):
                show(line, ended)
            shown, text = now, line
        if ended:
            return
        if meanwhile:
            meanwhile()
        time.sleep(0.2)


def describe(run: Run) -> str:
    """One line: name, steps, percentage, loss, images/s, peak memory, time left."""
    rows = [r for r in read_metrics(run.path / "metrics.jsonl") if "loss" in r]
    status = run.status
    if not rows:
        return f"{run.name}: starting (data, weights)"
    row, steps = rows[-1], status.get("steps", 0)
    parts = [
        f"{run.name}: step {row['step']}/{steps} ({100 * row['step'] / max(steps, 1):.0f} %)",
        f"loss {row['loss']:.3f}",
        f"{row['images_per_s']:.0f} images/s",
        f"{row['peak_memory_mb']:.0f} MB",
    ]
    if row["step"] < steps:
        parts.append(f"{row['eta_s'] / 60:.1f} min left" if row["eta_s"] >= 60
                     else f"{row['eta_s']:.0f} s left")  # fmt: skip
    else:
        parts.append("done")
    return ", ".join(parts)


def _display(run: Run) -> tuple[Callable[[str, bool], None], float]:
    """How to show a line here, and the seconds between two lines."""
    if _kernel() is not None:
        from IPython.display import display

        handle = display({"text/plain": ""}, raw=True, display_id=True)
        person = watched()

        def update(line: str, last: bool) -> None:
            picture = {"image/png": draw_curves(run, line)} if person else {}
            handle.update({"text/plain": line, **picture}, raw=True)

        return update, 1.0
    if sys.stderr.isatty():
        return lambda line, last: _rewrite(line, last), 1.0
    return lambda line, last: sys.stderr.write(line + "\n"), 10.0


def _kernel():
    shell = sys.modules.get("IPython")
    shell = shell.get_ipython() if shell else None
    return getattr(shell, "kernel", None)


def watched() -> bool:
    """Whether a person has this notebook open. Papermill and nbval get text, which stays small."""
    kernel = _kernel()  # only a person's notebook takes input
    return kernel is not None and kernel.get_parent().get("content", {}).get("allow_stdin", False)


def draw_curves(run: Run, title: str) -> str:
    """Loss, and validation where it is measured, against the step: a PNG in base64."""
    from matplotlib.figure import Figure  # no pyplot: the notebook's own figures stay as they are

    rows = read_metrics(run.path / "metrics.jsonl")
    validation = [name for name in VALIDATION if any(name in row for row in rows)]
    figure = Figure(figsize=(8, 2.4), dpi=80, layout="constrained")
    figure.suptitle(title, fontsize=9)
    names = ["loss", *validation]
    for ax, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names):
        found = [(row["step"], row[name]) for row in rows if name in row]
        ax.plot(*zip(*found), marker="." if len(found) < 20 else "")
        ax.set(xlabel="step", ylabel=name)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return base64.b64encode(buffer.getvalue()).decode()


def _rewrite(line: str, last: bool) -> None:
    sys.stderr.write(f"\r\x1b[K{line}" + ("\n" if last else ""))
    sys.stderr.flush()
