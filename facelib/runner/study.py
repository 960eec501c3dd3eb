"""The study: its runs, the numbered notebooks in order, through papermill, then one HTML site.

The runs that the notebooks share are trained first (`facelib.runner.ahead`); then notebooks run
side by side, as many as there are cores (4 at most).

An executed notebook is kept as long as everything that it came from is the same: its source and
those of the notebooks before it, facelib, the published records, and the finished runs. Where one
of them changed, or a run folder was deleted, it is executed again, which is quick where its runs
are still there.
"""

import logging
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from facelib.digests import digest, digest_values
from facelib.errors import UserError
from facelib.locks import cores
from facelib.paths import data_root, published_root, runs_root
from facelib.runner import execute, notebooks
from facelib.runner.ahead import train_ahead
from facelib.runner.execute import held
from facelib.runner.site import build_site
from facelib.runs.folder import read_json, write_json
from facelib.safety.readers import check_fields

log = logging.getLogger(__name__)
SIDE_BY_SIDE = 4  # notebooks: a kernel takes a gigabyte


@dataclass(frozen=True)
class Step:
    """One notebook of the study, with the digest of what it is made from."""

    notebook: Path
    stamp: str

    @property
    def output(self) -> Path:
        return runs_root() / "notebooks" / self.notebook.name


def run_study(
    only: Iterable[str] | None = None,
    force: bool = False,
    folder: Path | None = None,
    further: bool = False,
) -> Path:
    """Execute what is not up to date, build the site, and return its index.html.

    Args:
        only: numbers (`02`) or names of notebooks; where it is empty, all but further chapters.
        force: execute even what is up to date.

        folder: where the notebooks are; the repository's by default.
        further: further chapters too: those whose metadata say `"further": true`.

    Raises:
        UserError: unknown notebook, a disk too full, or a notebook that failed.
        KeyboardInterrupt: Ctrl-C or SIGTERM, once the kernel was stopped.
    """
    folder = folder or notebooks.FOLDER
    every = notebooks.list_notebooks(folder)
    if not every:
        raise UserError(f"no numbered notebooks in {folder}: run this in a complete checkout")
    chosen = notebooks.select_notebooks(every, only)
    if not only and not further:
        left_out = [path for path in chosen if notebooks.facelib_metadata(path).get("further")]
        chosen = [path for path in chosen if path not in left_out]
        if left_out:
            numbers = " ".join(path.stem.partition("_")[0] for path in left_out)
            names = ", ".join(path.stem for path in left_out)
            log.info("further chapters, not in this run: %s (study --all, or --only %s)", names,
                     numbers)  # fmt: skip
    steps = [step for step in study_steps(every) if step.notebook in chosen]
    waiting = [step for step in steps if force or not is_current(step)]
    _announce(steps, waiting)
    with held(runs_root() / "notebooks", "study"):
        _forget(waiting, every)
        train_ahead(step.notebook for step in waiting)
        # One that sums up shows what the others made.
        last = [s for s in waiting if notebooks.facelib_metadata(s.notebook).get("sums_up")]
        for part in ([step for step in waiting if step not in last], last):
            _execute(part, steps)
        index = build_site(runs_root() / "notebooks", runs_root() / "site")
    log.info("the site: %s", index.as_uri())
    return index


def study_steps(every: list[Path]) -> list[Step]:
    """One step a notebook; each stamp covers the stamps before it."""
    files = sorted(path for path in published_root().rglob("*") if path.is_file())
    published = [[str(path), digest(path.read_bytes(), digits=64)] for path in files]
    base = [notebooks.library_digest(), str(data_root()), published]
    steps: list[Step] = []
    for path in every:
        before = [step.stamp for step in steps[-1:]]
        stamp = digest_values([*base, *before, notebooks.notebook_digest(path)])
        steps.append(Step(path, stamp))
    return steps


def is_current(step: Step) -> bool:
    """Whether the executed notebook is there, from the same sources and the same finished runs."""
    state = _read_state()
    same = state["notebooks"].get(step.notebook.stem) == step.stamp
    return same and state["runs"] == finished_runs() and step.output.is_file()


def finished_runs() -> dict[str, str]:
    """Each evaluated run with the digest of its configuration and figures."""
    digests = {}
    for figures in sorted(runs_root().glob("*/eval.json")):
        config = figures.with_name("config.json")
        if config.is_file():
            content = [path.read_text(errors="replace") for path in (config, figures)]
            digests[figures.parent.name] = digest_values(content)
    return digests


def estimate(steps: list[Step]) -> dict[str, float]:
    """What the steps take at most: seconds on 2 cores, MB of disk, faces to render, runs to train.

    Each notebook's metadata declare what it takes alone. Faces and runs are shared between
    notebooks, so there the largest counts; seconds and disk add up.
    """
    declared = [notebooks.facelib_metadata(step.notebook).get("estimate", {}) for step in steps]
    totals = {key: sum(d.get(key, 0) for d in declared) for key in ("seconds", "disk_mb")}
    shared = {key: max((d.get(key, 0) for d in declared), default=0) for key in ("faces", "runs")}
    return totals | shared


def _announce(steps: list[Step], waiting: list[Step]) -> None:
    """Say what will be done; stop where the disk cannot hold it."""
    names = ", ".join(step.notebook.stem for step in waiting) or "nothing"
    log.info("study: %d of %d notebooks to execute: %s", len(waiting), len(steps), names)
    if not waiting:
        return
    totals = estimate(waiting)
    runs_root().mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(runs_root()).free / 1e6
    log.info(
        "  at most %.0f faces to render, %.0f runs to train, %.0f min on 2 cores, %.0f MB of disk "
        "(%.0f GB free); what is there already is used again",
        totals["faces"], totals["runs"], totals["seconds"] / 60, totals["disk_mb"], free / 1000,
    )  # fmt: skip
    if free < totals["disk_mb"]:
        raise UserError(
            f"{free:.0f} MB free at {runs_root()}, about {totals['disk_mb']:.0f} MB needed: "
            "free some space, or set FACELIB_RUNS and FACELIB_DATA to another disk"
        )


def _forget(waiting: list[Step], every: list[Path]) -> None:
    """Note first what is out of date, so that an interruption does not hide it.

    Changed or deleted runs make every notebook out of date: any of them may show any run.
    """
    state, runs = _read_state(), finished_runs()
    stale = {step.notebook.stem for step in waiting}
    kept = {} if state["runs"] != runs else state["notebooks"]
    kept = {stem: stamp for stem, stamp in kept.items() if stem not in stale}
    write_json(_state_path(), {"notebooks": kept, "runs": runs})
    names = {path.name for path in every}
    for output in (runs_root() / "notebooks").glob("[0-9][0-9]_*.ipynb"):
        if output.name not in names:
            output.unlink()


def _execute(chosen: list[Step], steps: list[Step]) -> None:
    """Execute notebooks side by side, each with its share of the cores."""
    places = max(1, min(len(chosen), cores(), SIDE_BY_SIDE))
    executions = {}
    for step in chosen:
        label = f"[{steps.index(step) + 1}/{len(steps)}] {step.notebook.stem}"
        share = execute.shared_threads(places)
        made = execute.Execution(step.notebook, step.output, environment=share, label=label)
        executions[made] = step

    def finish(one: execute.Execution) -> None:
        one.raise_if_failed()
        step = executions[one]
        log.info("%s: %.0f s", one.label, one.seconds)
        stamps = {**_read_state()["notebooks"], step.notebook.stem: step.stamp}
        write_json(_state_path(), {"notebooks": stamps, "runs": finished_runs()})

    execute.run_side_by_side(executions, places, finish)


def _state_path() -> Path:
    return runs_root() / "notebooks" / "state.json"


def _read_state() -> dict:
    state = {"notebooks": {}, "runs": {}} | read_json(_state_path(), default={})
    return check_fields(state, {"notebooks": dict, "runs": dict}, str(_state_path()))
