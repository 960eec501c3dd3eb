"""Cases of what the study itself writes: run folders, results of sweeps, notebooks."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np

from tests.faults.cases import Case
from tests.faults.mutate import in_json

FIGURES = {
    "best": {"accuracy": 0.9}, "strict": {"accuracy": 0.8}, "rendered": True, "pairs": 4,
    "intervals": {"best.accuracy": [0.8, 1.0], "strict.accuracy": [0.7, 0.9]},
}  # fmt: skip


def runs(folder: Path) -> Iterator[Case]:
    """A finished run's four files, as `runs`, `follow` and the site read them."""
    from facelib.config import make_config
    from facelib.runner.pages import runs_page
    from facelib.runs.files import DATA_FILE, read_origin
    from facelib.runs.folder import compare_configs, create_run, load_run, tabulate, write_json
    from facelib.runs.launch import wait_and_follow
    from facelib.runs.progress import describe
    from facelib.training.metrics_log import MetricsLog

    run = create_run(make_config(), folder / "runs")
    write_json(run.path / "status.json", {
        "state": "done", "step": 3, "steps": 3, "message": "", "pid": 1, "pid_started": 1.5,
        "host": "a", "processes": 1, "facts": {}, "updated": 1.5,
    })  # fmt: skip
    tick = {"step": 1, "loss": 2.5, "lr": 0.1, "images_per_s": 9.0, "eta_s": 1.0,
            "peak_memory_mb": 9.0}  # fmt: skip
    (run.path / "metrics.jsonl").write_text((json.dumps(tick) + "\n") * 3)
    write_json(run.path / "eval.json", {"checkpoint": "a", "benchmarks": {"lfw": FIGURES}})

    def read(path: Path) -> None:
        tabulate().to_string()
        runs_page()
        found = load_run(path.parent)
        compare_configs([found, found])
        _ = found.state, describe(found), found.evaluation(), found.metrics(), repr(found)
        wait_and_follow(str(found.path))

    def cut(path: Path) -> None:
        log = MetricsLog(path.parent, main=False)
        log.main = True
        log.cut_after(2)

    for name in ("config.json", "status.json", "metrics.jsonl", "eval.json"):
        content = (run.path / name).read_bytes()
        yield Case(f"run: {name}", f"runs/{run.name}/{name}", content, read, in_json, 0.2)
    origin = {"data": {"train.rec": dict.fromkeys(DATA_FILE, "a")}, "code": "b"}
    yield Case("run: origin.json", f"runs/{run.name}/origin.json", json.dumps(origin).encode(),
               read_origin, in_json)  # fmt: skip
    content = (run.path / "metrics.jsonl").read_bytes()
    yield Case("run: metrics on resume", f"runs/{run.name}/metrics.jsonl", content, cut, in_json)


def results(folder: Path) -> Iterator[Case]:
    """Rows of sweeps, states of studies, kept figures and reports."""
    from facelib.config import make_config
    from facelib.evaluate.figure_cache import kept_figures
    from facelib.metrics.scores import make_scores
    from facelib.metrics.verification import verify_scores
    from facelib.runner import study
    from facelib.runner.sweep import Cell
    from facelib.studies import frozen, records

    scores = make_scores(np.linspace(-1, 1, 40), np.arange(40) % 2)
    kept_figures(folder / "k.json", scores, 0)
    yield Case("kept figures", "k.json", (folder / "k.json").read_bytes(),
               lambda path: kept_figures(path, scores, 0), in_json)  # fmt: skip
    facts = dict.fromkeys(("python", "packages", "machine", "cpu_count", "gpus", "commit"))

    def publish(path: Path) -> None:
        with patch.multiple(records, published_root=lambda: folder, environment=lambda: facts):
            records.publish_sweep(path, "published", "command")

    figures = verify_scores(scores, 0).to_dict() | {"rendered": True, "digest": "d"}
    row = {"run": "a", **make_config().to_dict(), "report": {"benchmarks": {"lfw": figures}}}
    yield Case("sweep: results.jsonl", "sweep/results.jsonl", (json.dumps(row) + "\n").encode(),
               publish, in_json)  # fmt: skip
    yield from _records(folder, row)
    cell = Cell({"seed": 1}, folder / "cell", "digest")
    for name, content in (("cell.json", {"digest": "digest", "values": {"seed": 1}}),
                          ("row.json", {"run": "a", "seed": 1})):  # fmt: skip
        yield Case(f"sweep: {name}", f"cell/{name}", json.dumps(content).encode(),
                   lambda path: (cell.is_done(), cell.row()), in_json)  # fmt: skip
    state = {"notebooks": {"01_a": "stamp"}, "runs": {}}
    step = study.Step(Path("01_a.ipynb"), "stamp")
    yield Case("study: state.json", "runs/notebooks/state.json", json.dumps(state).encode(),
               lambda path: study.is_current(step), in_json)  # fmt: skip
    report = {
        "model": "clip-vit-b32",
        "weights": "pretrained",
        "plain": {"benchmarks": {"lfw": figures}},
    }
    yield Case("frozen: report.json", "runs/frozen/a/report.json", json.dumps(report).encode(),
               lambda path: frozen.frozen_reports([folder / "b.bin"]), in_json)  # fmt: skip


def _records(folder: Path, row: dict) -> Iterator[Case]:
    """The two files of a published record, as the site reads them."""
    from facelib.runner import pages, sources
    from facelib.studies import records

    root, facts = folder / "records", {"python": "3", "packages": {"torch": "2"}, "machine": "m",
                                       "cpu_count": 2, "gpus": [], "commit": None}  # fmt: skip
    with patch.multiple(records, published_root=lambda: root, environment=lambda: facts):
        path = records.publish([row], "one", "command")

    def read(path: Path) -> None:
        with (patch.object(pages, "published_root", lambda: root),
              patch.object(sources, "published_root", lambda: root)):  # fmt: skip
            pages.record_pages()

    for name, inside in (("record.json", in_json), ("results.csv", None)):
        yield Case(f"record: {name}", f"records/one/{name}", (path / name).read_bytes(), read,
                   inside, 0.3)  # fmt: skip


def notebooks(folder: Path) -> Iterator[Case]:
    """A notebook with parameters and a picture, as sweep, study and site read it."""
    from facelib.runner import notebooks as tools
    from facelib.runner.site import make_safe
    from facelib.runner.study import Step, estimate

    png = base64.b64encode(_png()).decode()
    picture = {"output_type": "display_data", "metadata": {}, "data": {"image/png": png}}
    code = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": 1}
    cells = [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# 01 Title\n\nWhy? $x$"},
        {
            **code,
            "id": "b",
            "source": "seed: int = 1",
            "metadata": {"tags": ["parameters"]},
        },
        {**code, "id": "c", "source": "1", "outputs": [picture]},
    ]
    metadata = {"facelib": {"estimate": {"seconds": 1, "disk_mb": 1, "faces": 1, "runs": 1}}}
    content = json.dumps(
        {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    ).encode()

    def read(path: Path) -> None:
        tools.notebook_digest(path)
        tools.check_values(path, {"seed": "2"})
        estimate([Step(path, "stamp")])

    yield Case("notebook: sweep", "notebooks/01_a.ipynb", content, read, in_json, 0.3)
    yield Case("notebook: site", "executed/01_a.ipynb", content,
               lambda path: make_safe(tools.read_notebook(path)), in_json, 0.1)  # fmt: skip


def _png() -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (8, 8), (9, 90, 200)).save(out, "PNG")
    return out.getvalue()
