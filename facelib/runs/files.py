"""The small files of a run folder: read, checked, or one line that says which is damaged.

config.json     `facelib.config.Config`        metrics.jsonl   one object a log tick
status.json     state, pid, step               eval.json       figures of each benchmark
origin.json     digests of data and code
"""

import json
from pathlib import Path

from facelib.digests import check_stamps
from facelib.errors import BadData
from facelib.paths import atomic_file, named_run
from facelib.safety.readers import (
    check_fields,
    kind_of,
    read_arrays,
    read_object,
    read_object_lines,
    reading,
)

AGAIN = "move it away and run again"
STATES = ("new", "starting", "running", "stopped", "failed", "done")
NUMBER = (int, float)
STATUS = {
    "state": str, "message": str, "host": str, "pid": int, "pid_started": NUMBER, "step": int,
    "steps": int, "processes": int, "facts": dict, "updated": NUMBER,
    "resumable": bool, "skip_bad": bool,
}  # fmt: skip
DATA_FILE = ("path", "digest")
TICK = dict.fromkeys(("loss", "lr", "images_per_s", "eta_s", "peak_memory_mb"), NUMBER)
VALIDATION = dict.fromkeys(("val_auc", "val_loss"), NUMBER)
ROW = {
    "run": str, "loss": str, "seed": int, "data_seed": int, "global_batch": int,
    "fill_border": str, "report": dict, "lines": list,
}  # fmt: skip
RECORD = {
    "name": str, "command": str, "note": str, "date": str, "runs": int, "python": str,
    "packages": dict, "machine": str, "cpu_count": int, "commit": (str, type(None)),
    "shared_settings": dict, "intervals": str,
}  # fmt: skip
FIGURES = {
    "strict": dict, "best": dict, "intervals": (dict, type(None)), "digest": str, "file": str,
    "rendered": bool, "pairs": int,
}  # fmt: skip


def read_status(path: Path) -> dict:
    """status.json; state "new" where it is absent."""
    found = read_object(path, AGAIN, default={"state": "new", "step": 0})
    check_fields(found, STATUS, str(path), AGAIN)
    if found.get("state") not in STATES:
        raise BadData(
            f"{path}: state {kind_of(found.get('state'))}, wanted one of {', '.join(STATES)}; "
            f"{AGAIN}"
        )
    return found


def write_json(path: Path, content: dict) -> None:
    """JSON, atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def read_origin(path: Path) -> dict:
    """origin.json; empty where it is absent."""
    found = read_object(path, AGAIN, default={})
    check_fields(found, {"data": dict, "code": str}, str(path), AGAIN)
    for name, entry in found.get("data", {}).items():
        if not isinstance(entry, dict) or not {str} == {type(entry.get(k)) for k in DATA_FILE}:
            raise BadData(f"{path}: data file {name[:60]!r} has no path or digest; {AGAIN}")
    return found


def read_metrics(path: Path) -> list[dict]:
    """metrics.jsonl; a line of the loss has all that progress shows."""
    if not path.exists():
        return []
    rows = read_object_lines(path, AGAIN)
    for number, row in enumerate(rows, start=1):
        where = f"{path}: row {number}"
        check_fields(row, {"step": int, **TICK, **VALIDATION}, where, AGAIN)
        wanted = ("step", *TICK) if "loss" in row else ("step",)
        if missing := [name for name in wanted if name not in row and name != "lr"]:
            raise BadData(f"{where} has no `{missing[0]}`; {AGAIN}")
    return rows


def read_evaluation(path: Path, again: str = AGAIN) -> dict | None:
    """eval.json; None where it is absent."""
    found = read_object(path, again, default=None)
    if found is None:
        return None
    check_evaluation(found, path, again)
    check_stamps(found, None, path, again)
    return found


def read_sweep_rows(path: Path) -> list[dict]:
    """results.jsonl of a sweep: rows of finished cells, each with its settings and figures."""
    again = "run the sweep again"
    rows = [row for row in read_object_lines(path, again) if {"report", "lines"} & set(row)]
    for number, row in enumerate(rows, start=1):
        where = f"{path}: row {number}"
        check_fields(row, ROW, where, again)
        if missing := [name for name in ROW if name not in row and name not in ("report", "lines")]:
            raise BadData(f"{where} has no `{missing[0]}`; {again}")
        check_evaluation(row.get("report", {"benchmarks": {}}), where, again)
    if not rows:
        raise BadData(f"{path}: nothing to publish: the sweep has no finished cells; {again}")
    return rows


def check_evaluation(found: dict, path: Path | str, again: str = AGAIN) -> None:
    """BadData where this is no content of an eval.json."""
    benchmarks = found.get("benchmarks")
    if not isinstance(benchmarks, dict) or not isinstance(found.get("checkpoint", ""), str):
        raise BadData(f"{path}: no `benchmarks`, or an odd `checkpoint`: no figures; {again}")
    for name, figures in benchmarks.items():
        where = f"{path}: benchmark {name[:60]!r}"
        if not isinstance(figures, dict):
            raise BadData(f"{where} is {kind_of(figures)}, wanted an object; {again}")
        check_fields(figures, FIGURES, where, again)
        for figure, ends in (figures.get("intervals") or {}).items():
            if not _is_interval(ends):
                raise BadData(
                    f"{where}: the interval of `{figure[:60]}` is no [low, high]; {again}"
                )
        for protocol in ("strict", "best"):
            accuracy = figures.get(protocol, {}).get("accuracy")
            if isinstance(accuracy, bool) or not isinstance(accuracy, NUMBER):
                raise BadData(
                    f"{where}: `{protocol}.accuracy` is {kind_of(accuracy)}, wanted a number;"
                    f" {again}"
                )


def read_record(folder: Path):
    """(results.csv as a frame, record.json) of a published record."""
    import pandas as pd

    again = "bring it back from the repository, or publish it again"
    about = read_object(folder / "record.json", again)
    check_fields(about, RECORD, str(folder / "record.json"), again)
    if missing := sorted(set(RECORD) - {"note", "intervals"} - set(about)):
        raise BadData(f"{folder / 'record.json'}: no `{missing[0]}`; {again}")
    with reading(folder / "results.csv", "a table of results", again):
        return pd.read_csv(folder / "results.csv"), about


def kept_embeddings(folder: Path, name: str, figures: dict):
    """Embeddings (U, d) of a benchmark's images, from which its figures in eval.json come.

    Raises:
        BadData: they are gone, altered, or of another checkpoint or benchmark.
    """
    path = folder / "embeddings" / f"{name}.npz"
    again = f"evaluate again: python -m facelib eval {named_run(folder)} --force"
    found = read_arrays(path, "embeddings", again, needed=("emb",))
    check_stamps(found, figures.get("embeddings") or None, path, again)
    return found["emb"]


def _is_interval(ends: object) -> bool:
    """Two numbers, or null where an interval is not estimable."""
    if ends is None:
        return True
    if not isinstance(ends, list) or len(ends) != 2:
        return False
    return all(isinstance(end, NUMBER) and not isinstance(end, bool) for end in ends)
