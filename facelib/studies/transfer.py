"""Do rendered faces predict real ones? Rank correlation of accuracies over trained networks.

Networks were trained on rendered faces alone; benchmarks of real faces are files that a reader has.
A correlation over runs counts networks of one loss as independent; that over losses takes the mean
of each loss first, and has few points.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from facelib.errors import UserError
from facelib.evaluate.embed import evaluate_run
from facelib.metrics.tables import with_interval
from facelib.paths import runs_root
from facelib.runs.folder import Run, load_run
from facelib.studies.claims import correct
from facelib.studies.records import PROTOCOLS
from facelib.studies.results import LABELS, evaluate, floors, method_of

FLOORS = ("raw pixels", "random network")
UNITS = {"run": "runs", "loss": "losses"}  # what a point of a correlation is
VARIANCE = 1.06  # of Spearman's rank correlation on Fisher's scale, times n - 3 (Fieller 1957)


def trained_on_rendered() -> list[Run]:
    """Finished runs of the runs folder that were trained on rendered faces."""
    runs = [load_run(path.parent) for path in sorted(runs_root().glob("*/config.json"))]
    return [run for run in runs if run.config.data == "rendered" and run.state == "done"]


def measure(paths: Sequence[str | Path]) -> list[dict]:
    """Figures of all such runs and of the two floors, on their own benchmarks and on `paths`.

    Returns:
        One row per network and benchmark: run, loss (a key of `LABELS` or a floor), benchmark,
        rendered, best.accuracy, strict.accuracy, auc; fractions.
    """
    runs, paths = trained_on_rendered(), [Path(path) for path in paths]
    if not runs:
        raise UserError("no finished run on rendered faces: run 02_arcface and others first")
    rows = []
    for run in runs:
        evaluate(run)
        rows += _rows(run.name, method_of(run.config.to_dict()), evaluate_run(run, paths, 0))
    plain = next((run for run in runs if run.config.loss == "arcface"), runs[0]).config
    own = [*plain.benchmarks.split(","), *map(str, paths)]
    for name, result in floors(plain.replace(benchmarks=",".join(own))).items():
        rows += _rows(result.folder.name, name, result.report)
    return rows


def _rows(run: str, loss: str, report: dict) -> list[dict]:
    return [
        {
            "run": run,
            "loss": loss,
            "benchmark": name,
            "rendered": bool(figures.get("rendered")),
            "best.accuracy": figures["best"]["accuracy"],
            "strict.accuracy": figures["strict"]["accuracy"],
            "auc": figures["auc"],
        }
        for name, figures in report["benchmarks"].items()
    ]


def correlations(frame: pd.DataFrame) -> pd.DataFrame:
    """Spearman's rank correlation of rendered and real accuracy, corrected as one family.

    Args:
        frame: of `measure`. A real benchmark is compared with the rendered one whose name its own
            ends in or contains: cfp_ff for real_cfp_ff_filled.

    Returns:
        One row per real benchmark, protocol and unit: rendered, real, protocol, over (runs or
        losses), repeats (how many), rank correlation, lo, hi (95 %, Fisher's scale, corrected by
        Holm), significant, smallest.
    """
    trained, rows = frame[~frame["loss"].isin(FLOORS)], []
    for real, own in _partners(frame).items():
        for protocol, figure in PROTOCOLS.items():
            for over, units in UNITS.items():
                table = trained.pivot_table(index=over, columns="benchmark", values=figure)
                pair = table[[own, real]].dropna()
                rows.append({"rendered": own, "real": real, "protocol": protocol,
                             "over": units,
                             **rank_correlation(pair[own], pair[real], units)})  # fmt: skip
    return corrected_ranks(rows)


def corrected_ranks(rows: list[dict]) -> pd.DataFrame:
    """Rows of `rank_correlation` as one corrected family, limits on the scale of correlations."""
    found = correct(pd.DataFrame(rows), "z")
    found[["lo", "hi", "smallest"]] = np.tanh(found[["lo", "hi", "smallest"]])
    return found.drop(columns=["z", "alone", "p"])


def rank_text(row: dict) -> str:
    """`+0.61 [+0.19, +0.84]`, with what would have been shown where 0 is not left out."""
    told = with_interval(row["rank correlation"], row["lo"], row["hi"], "+.2f")
    return told if row["significant"] else f"{told} (n.s., ≥{row['smallest']:.2f})"


def rank_correlation(a: pd.Series, b: pd.Series, units: str) -> dict:
    """Spearman's, as a row for `claims.correct`: repeats (how many), z, lo and hi of z (Fisher)."""
    n = len(a)
    if n < 5:
        raise UserError(f"{n} {units}: a rank correlation wants 5 or more")
    rho = float(stats.spearmanr(a, b).statistic)
    z = float(np.arctanh(np.clip(rho, -0.999, 0.999)))
    half = stats.t.ppf(0.975, n - 1) * np.sqrt(VARIANCE / (n - 3))
    return {"repeats": n, "rank correlation": rho, "z": z, "lo": z - half, "hi": z + half}


def _partners(frame: pd.DataFrame) -> dict[str, str]:
    """Real benchmark -> the rendered one that it is compared with."""
    rendered = frame.groupby("benchmark")["rendered"].all()
    own = [name for name, is_rendered in rendered.items() if is_rendered]
    found = {}
    for real in rendered.index[~rendered]:
        fits = [name for name in own if name.rpartition("_")[2] in real.split("_")]
        found |= {real: fits[0]} if len(fits) == 1 else {}
    if not found:
        names = ", ".join(rendered.index[~rendered])
        raise UserError(f"none of {names} has the name of a rendered one in its own; call the file "
                        "as real_ff.bin, for cfp_ff")  # fmt: skip
    return found


def accuracy_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy in percent by loss and benchmark, floors last; `networks` counts the runs."""
    table = 100 * frame.pivot_table(index="loss", columns="benchmark", values="best.accuracy")
    table.insert(0, "networks", frame.groupby("loss")["run"].nunique())
    order = sorted(table.index, key=lambda loss: (loss in FLOORS, -table.loc[loss].iloc[1:].mean()))
    return table.loc[order].rename(index=lambda loss: LABELS.get(loss, loss)).round(1)


def sentences(frame: pd.DataFrame) -> list[str]:
    """The answer in words: is the order on rendered faces that on real ones?"""
    found, lines = correlations(frame), []
    for row in found.to_dict("records"):
        lines.append(
            f"{row['rendered']} (rendered) and {row['real']} (real), {row['protocol']}, over "
            f"{row['repeats']} {row['over']}: {rank_text(row)}"
        )
    yes = int((found["significant"] & (found["rank correlation"] > 0)).sum())
    note = (
        "(95 % intervals on Fisher's scale, corrected by Holm for all of them; n.s., ≥x: the "
        "interval includes 0, a correlation of x would have been found with a power of 80 %)"
    )
    return [f"{yes} of {len(found)} rank correlations are shown to be above 0 {note}", *lines]
