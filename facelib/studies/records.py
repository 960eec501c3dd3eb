"""Small committed records under `runs/published/`: the source of every number in the README.

A record is a folder: `results.csv` (one row per run and benchmark), `record.json` (settings that
all runs share, command, machine, versions, commit, date). Intervals here are over independent
repeats (other weights, other image order, other rendered people), not over the test people of one
run.
"""

import datetime
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import expit, logit

from facelib.errors import UserError
from facelib.metrics.tables import percent
from facelib.paths import atomic_file, check_folder_name, published_root
from facelib.runs.files import read_record, read_sweep_rows
from facelib.runs.folder import environment, read_json, write_json
from facelib.safety.readers import reading
from facelib.studies.claims import correct
from facelib.studies.results import LABELS, method_of
from facelib.studies.source_a import BENCHMARKS

PROTOCOLS = {"best threshold": "best.accuracy", "strict": "strict.accuracy"}
FIGURES = ("best.accuracy", "strict.accuracy", "strict.tar", "strict.threshold", "auc", "eer")
SHARES = frozenset(FIGURES) - {"strict.threshold"}
INTERVALS = "variance over people"  # how lo and hi of a row were made
SETTINGS_OF_A_ROW = ("loss", "seed", "data_seed", "global_batch", "fill_border")


def publish(rows: list[dict], name: str, command: str, note: str = "") -> Path:
    """Write a record from sweep rows (`record_row`: config fields, `run`, `report`).

    Args:
        rows: one a run, with `report` (an eval.json) or `lines` (rows of another table, which may
            set `loss` anew). name: of the folder. command: what a reader types to make it again.
        note: what a reader must know beside the figures.
    """
    if not rows:
        raise UserError(f"nothing to publish as {name!r}: the sweep has no finished cells")
    folder = published_root() / check_folder_name(name, "record")
    skipped = {"report", "lines", "run", "name", "data", "benchmarks", "exclude", "real"}
    skipped |= set(SETTINGS_OF_A_ROW)
    known = {k: v for k, v in rows[0].items() if k not in skipped}
    shared = {k: v for k, v in known.items() if all(row.get(k) == v for row in rows)}
    other = [k for k in known if k not in shared]  # differs between runs: a column of its own
    frame = pd.DataFrame([line for row in rows for line in _lines(row, other)])
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / "results.csv") as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6f")
    facts, today = environment(), datetime.date.today().isoformat()
    content = {"name": name, "command": command, "note": note, "date": today, "runs": len(rows)}
    content |= {"intervals": INTERVALS, "shared_settings": shared}
    for key in ("python", "packages", "machine", "cpu_count", "gpus", "commit"):
        content[key] = facts[key]
    write_json(folder / "record.json", content)
    return folder


def publish_sweep(results: Path, name: str, command: str, note: str = "") -> Path:
    """`publish` the rows of a sweep's `results.jsonl`."""
    rows = read_sweep_rows(Path(results))
    with reading(results, "rows of a sweep", "run the sweep again"):
        for row in rows:
            _lines(row, [])
    return publish(rows, name, command, note)


def _lines(row: dict, other: list[str]) -> list[dict]:
    settings = {key: row[key] for key in SETTINGS_OF_A_ROW} | {"loss": method_of(row)}
    settings |= {key: row.get(key) for key in other}
    if "lines" in row:
        return [{"run": row["run"], **settings, **line} for line in row["lines"]]
    lines = []
    for benchmark, report in row["report"]["benchmarks"].items():
        line = {"run": row["run"], **settings, "benchmark": benchmark}
        line |= {"rendered": report["rendered"], "pairs": report["pairs"]}
        for figure in FIGURES:
            group, _, key = figure.partition(".")
            line[figure] = report[group][key] if key else report[group]
            interval = (report.get("intervals") or {}).get(figure) or (None, None)
            line |= {f"{figure}.lo": interval[0], f"{figure}.hi": interval[1]}
        lines.append(line)
    return lines


def load_record(name: str) -> tuple[pd.DataFrame, dict]:
    """(results.csv, record.json) of a published record; intervals of an old method are marked."""
    folder = published_root() / check_folder_name(name, "record")
    if not (folder / "results.csv").is_file():
        known = ", ".join(p.parent.name for p in published_root().glob("*/results.csv")) or "none"
        raise UserError(f"no published record {name!r}: there are {known}")
    frame, about = read_record(folder)
    if about.get("intervals") != INTERVALS:
        old = [c for c in frame if c.split(".")[-1] in ("lo", "hi")]
        frame = frame.rename(columns={c: f"{c} (identity bootstrap)" for c in old})
    return frame, about


def load_bench(name: str) -> dict:
    """A published benchmark: figures, seconds, machine, cores, date, commit."""
    path = published_root() / "bench" / f"{name}.json"
    if not path.is_file():
        known = ", ".join(p.stem for p in path.parent.glob("*.json")) or "none"
        raise UserError(f"no published benchmark {name!r}: there are {known}; make it: "
                        f"python tests/bench/run_all.py {name} --publish")  # fmt: skip
    return read_json(path)


def repeat_intervals(frame: pd.DataFrame, figure: str = "best.accuracy") -> pd.DataFrame:
    """Mean over repeats with its 95 % t interval (of shares on the logit scale), by loss.

    Args:
        frame: of a record; its column `loss` may hold keys of `results.LABELS` or any labels.

    Returns:
        Frame with label (benchmark), group (loss), value, lo, hi, repeats; fractions, not percent.
    """
    rows = []
    for (benchmark, loss), part in frame.groupby(["benchmark", "loss"], sort=False):
        mean, lo, hi = t_interval(part[figure].to_numpy(), figure in SHARES)
        rows.append({"label": BENCHMARKS.get(benchmark, benchmark), "group": LABELS.get(loss, loss),
                     "value": mean, "lo": lo, "hi": hi, "repeats": len(part)})  # fmt: skip
    order = list(dict.fromkeys(row["label"] for row in rows))
    return pd.DataFrame(sorted(rows, key=lambda row: order.index(row["label"])))


def repeat_differences(
    frame: pd.DataFrame, a: str, b: str, figure: str = "best.accuracy"
) -> pd.DataFrame:
    """Paired difference a − b over repeats (same seeds, same faces), in percentage points.

    lo and hi are a 95 % t interval of one comparison; `claims.correct` makes those of a family.
    """
    gap, rows = _gaps(frame, a, b, figure), []
    for benchmark in frame["benchmark"].unique():
        mean, lo, hi = t_interval(gap[benchmark].to_numpy())
        rows.append({"benchmark": BENCHMARKS.get(benchmark, benchmark),
                     "comparison": f"{LABELS.get(a, a)} − {LABELS.get(b, b)}", "difference": mean,
                     "lo": lo, "hi": hi, "repeats": len(gap[benchmark])})  # fmt: skip
    return pd.DataFrame(rows)


def protocol_gaps(
    frame: pd.DataFrame, pairs: Iterable[tuple[str, str]], figures: Mapping[str, str] = PROTOCOLS
) -> pd.DataFrame:
    """Differences of pairs (a, b) in several figures: one corrected family, a column protocol."""
    parts = [
        repeat_differences(frame, a, b, figure).assign(protocol=title)
        for a, b in pairs
        for title, figure in figures.items()
    ]
    return correct(pd.concat(parts))


def _gaps(frame: pd.DataFrame, a: str, b: str, figure: str) -> pd.Series:
    """Differences a − b of equal seeds and faces in points, indexed by benchmark first."""
    keys = ["benchmark", "seed", "data_seed"]
    sides = [frame[frame["loss"] == loss].set_index(keys)[figure] for loss in (a, b)]
    return (sides[0] - sides[1]).dropna() * 100


def repeat_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Text table: mean [95 % interval] in percent, both protocols, by benchmark and loss."""
    parts = {}
    for title, figure in {**PROTOCOLS, "AUC": "auc"}.items():
        found = repeat_intervals(frame, figure).set_index(["label", "group"])
        parts[title] = [percent(r.value, [r.lo, r.hi]) for r in found.itertuples()]
    parts["repeats"] = found["repeats"].to_list()
    return pd.DataFrame(parts, index=found.index.set_names(["benchmark (rendered)", "loss"]))


def t_interval(values: np.ndarray, share: bool = False) -> tuple[float, float, float]:
    """(mean, lo, hi) of independent repeats, 95 %; NaN limits for a single one.

    Args:
        share: made on the logit scale, so that no limit lies beyond 0 or 1. Repeats that are all
            0 or all 1 have no interval: they say nothing of their spread.
    """
    mean = float(values.mean())
    if len(values) < 2 or (share and not 0 < mean < 1):
        return mean, float("nan"), float("nan")
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    if not share:
        return mean, mean - float(half), mean + float(half)
    half = half / (mean * (1 - mean))
    return mean, *(float(expit(logit(mean) + x)) for x in (-half, half))


def pose_difference(frame: pd.DataFrame, figure: str = "best.accuracy") -> pd.DataFrame:
    """(ArcFace − InfoNCE on CFP-FP) − (the same on CFP-FF), paired over repeats, in points.

    What source A reports of InfoNCE is this difference: it falls behind on profile faces only.
    """
    gap = _gaps(frame, "arcface", "infonce", figure)
    values = (gap["cfp_fp"] - gap["cfp_ff"]).to_numpy()
    mean, lo, hi = t_interval(values)
    row = {"benchmark": "CFP-FP − CFP-FF", "comparison": "ArcFace − InfoNCE",
           "difference": mean, "lo": lo, "hi": hi, "repeats": len(values)}  # fmt: skip
    return pd.DataFrame([row])
