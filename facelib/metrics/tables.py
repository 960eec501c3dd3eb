"""Figures as tables for people: percentages with 95 % intervals, both protocols side by side."""

import pandas as pd

BENCHMARKS = {
    "lfw": "LFW",
    "cfp_ff": "CFP-FF",
    "cfp_fp": "CFP-FP",
    "agedb_30": "AgeDB-30",
    "calfw": "CALFW",
    "cplfw": "CPLFW",
}


def benchmark_name(file: str, rendered: bool = False) -> str:
    """The name of a benchmark for readers, from its file's name; rendered faces are called so."""
    return BENCHMARKS.get(file, file) + (" (rendered)" if rendered else "")


def percent(value: float | None, interval: list[float] | None = None) -> str:
    """`93.2 [92.4, 94.0]`; "not estimable" for None."""
    if value is None:
        return "not estimable"
    if not interval:
        return f"{100 * value:.1f}"
    return with_interval(100 * value, 100 * interval[0], 100 * interval[1], ".1f")


def with_interval(value: float, lo: float, hi: float, form: str = "+.1f", unit: str = "") -> str:
    """`+0.6 [-0.5, +1.6]`: a figure, here a difference in points, with its 95 % interval."""
    return f"{value:{form}}{unit} [{lo:{form}}, {hi:{form}}]"


def accuracies(figures: dict) -> tuple[str, str]:
    """Accuracy by the best threshold and by the strict protocol, of a benchmark in eval.json."""
    known = figures.get("intervals") or {}
    protocols = ("best", "strict")
    return tuple(percent(figures[p]["accuracy"], known.get(f"{p}.accuracy")) for p in protocols)


def figures_table(report: dict) -> pd.DataFrame:
    """One row per benchmark of an eval.json: both protocols, TAR@FAR, AUC and EER, in percent.

    The strict threshold hangs on very few impostor pairs: its mean and spread over the folds stand
    beside the accuracy. Rendered faces are called so in the name of the row.
    """
    rows = {}
    for name, figures in report["benchmarks"].items():
        intervals = figures.get("intervals") or {}
        strict, (best_accuracy, strict_accuracy) = figures["strict"], accuracies(figures)
        rows[benchmark_name(name, figures.get("rendered", False))] = {
            "pairs": figures["pairs"],
            "best-threshold acc.": best_accuracy,
            "strict acc.": strict_accuracy,
            "strict TAR": percent(strict["tar"], intervals.get("strict.tar")),
            "strict threshold": f"{strict['threshold']:.3f} ± {strict['threshold_std']:.3f}",
            "TAR@FAR=1e-3": percent(figures["tar_at_far"].get("1e-3")),
            "AUC": percent(figures["auc"], intervals.get("auc")),
            "EER": percent(figures["eer"], intervals.get("eer")),
        }
    return pd.DataFrame(rows).T.rename_axis("benchmark")


def operating_table(benchmarks: dict[str, dict[str, dict]]) -> pd.DataFrame:
    """FNMR at FMR (ISO/IEC 19795-1), one row per benchmark and rate, of `operating_points` each.

    "FMR to expect" is the 95 % interval of what new people will see at that threshold.
    """
    rows = {}
    for name, points in benchmarks.items():
        for rate, point in points.items():
            lo, hi = point["expected"] or (None, None)
            known = point["threshold"] is not None
            rows[name, rate] = {
                "threshold": f"{point['threshold']:.3f}" if known else "not estimable",
                "FMR to expect": f"{lo:.1e} to {hi:.1e}" if known else "not estimable",
                "FNMR (%)": percent(point["fnmr"]),
            }
    return pd.DataFrame(rows).T.rename_axis(["benchmark", "FMR"])


def warning_lines(report: dict) -> str:
    """The warnings of an eval.json, or of one benchmark's figures in that form, below its table."""
    lines = [f"warning: {text}\n" for text in report.get("warnings", ())]
    for name, figures in report["benchmarks"].items():
        lines += [f"warning: {name}: {text}\n" for text in figures.get("warnings", ())]
    return "".join(lines)


def markdown_table(frame: pd.DataFrame) -> str:
    """A frame of texts as a Markdown table. Cells are taken as Markdown."""
    rows = [list(frame.columns), ["---"] * len(frame.columns), *frame.astype(str).to_numpy()]
    return "\n".join("|" + "|".join(row) + "|" for row in rows)
