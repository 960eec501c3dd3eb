"""A run that goes on from the end of a finished one: `train --run NAME --images-seen N`."""

from pathlib import Path

from facelib.config import Config
from facelib.errors import UserError
from facelib.runs.folder import Run, load_run
from facelib.training.schedule import learning_rate


def longer(run: Run, images_seen: int, skip_bad: bool = False) -> Config:
    """The configuration of a new run that begins with the weights and optimiser of a finished one.

    It skips bad records where `skip_bad` says so, or that run did.

    Raises:
        UserError: the run is not finished, or no shorter than asked.
    """
    if run.state != "done":
        raise UserError(
            f"{run.name} is {run.state}; finish it first: python -m facelib train --run {run.ref}"
        )
    seen = run.status["step"] * run.config.global_batch
    if images_seen < seen + run.config.global_batch:
        raise UserError(
            f"--images-seen {images_seen}: {run.name} has seen {seen}; give "
            f"{seen + run.config.global_batch} or more"
        )
    skip_bad = skip_bad or run.config.skip_bad or bool(run.status.get("skip_bad"))
    return run.config.replace(
        images_seen=images_seen, epochs=0.0, continues=run.name, skip_bad=skip_bad
    )


def earlier_run(cfg: Config, root: Path) -> Path:
    """Folder of the run that a config continues: beside it, or under the runs root."""
    beside = root / cfg.continues
    run = load_run(beside if (beside / "config.json").is_file() else cfg.continues)
    if run.state != "done":
        raise UserError(f"continues={cfg.continues!r}: that run is {run.state}, wanted a done one")
    return run.path


def continuation(cfg: Config, before: str, step: int, steps: int) -> str:
    """What such a run is not equal to, for a person."""
    return (
        f"goes on from {before} at step {step} of {steps} with its weights, optimiser and order of "
        f"images. Not equal to a run of {steps} steps from the start: its first {step} steps "
        f"followed the shorter schedule (warm-up, then down to the end), and the learning rate now "
        f"goes on at {learning_rate(cfg, step, steps):.3g}; what a loss does at a fraction of the "
        "run took place at that of the shorter one"
    )
