"""Pictures of accuracy against the number of negatives: a frame and an axes in, axes out."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from facelib.studies.negatives import FAMILIES
from facelib.studies.plots import axes_of, forest, label_axes

MARKS = "oHsD^vPX*"
TITLES = {"negatives": "negatives of an anchor", "effective_negatives": "effective negatives"}


def against(
    frame: pd.DataFrame,
    ax: Axes | None = None,
    x: str = "negatives",
    title: str = "",
    note: str = "",
    legend: bool = True,
) -> Axes:
    """Accuracy against `x`, a key of `TITLES`: one line per family, bars of the interval.

    Args:
        frame: of `negatives.against_negatives`, of one benchmark and length of the runs.
    """
    ax = axes_of(ax)
    colours = dict(zip(FAMILIES, sns.color_palette("colorblind", len(FAMILIES))))
    for (family, label), mark in zip(FAMILIES.items(), MARKS):
        part = frame[frame["family"] == family].sort_values(x)
        if part.empty:
            continue
        apart = 2 ** (0.08 * (list(FAMILIES).index(family) - len(FAMILIES) / 2))  # not on one spot
        bars = [(part["value"] - part[end]).abs().fillna(0) for end in ("lo", "hi")]
        style = {"marker": mark, "capsize": 3, "linewidth": 1.5, "color": colours[family]}
        ax.errorbar(part[x] * apart, part["value"], yerr=bars, label=label, **style)
    if legend:
        ax.legend(fontsize=8)
    return _over(ax, 2, title, note, TITLES[x])


def _over(ax: Axes, base: int, title: str, note: str, x: str) -> Axes:
    """Accuracy over the logarithm of `x`."""
    ax.set_xscale("log", base=base)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    return label_axes(ax, title, note, x, "accuracy, best threshold")


def by_steps(frame: pd.DataFrame, title: str, note: str) -> Axes:
    """Accuracy against the number of training steps, one line for each batch.

    Args:
        frame: of `negatives.against_negatives`, one benchmark, rows by batch of all lengths.
    """
    ax = axes_of(None)
    batches = frame["group"].str.rpartition("-")[2].astype(int)
    colours = sns.color_palette("viridis", batches.nunique())
    for (batch, part), colour in zip(frame.groupby(batches), colours):
        part = part.sort_values("images_seen")
        bars = [(part["value"] - part[end]).abs().fillna(0) for end in ("lo", "hi")]
        ax.errorbar(part["images_seen"] / batch, part["value"], yerr=bars, marker="o", capsize=3,
                    color=colour, label=f"batch of {batch:,}")  # fmt: skip
    ax.legend(loc="lower right")
    return _over(ax, 10, title, note, "training steps")


def differences(gaps: pd.DataFrame, title: str, note: str) -> Figure:
    """Corrected differences (`negatives.gap`, `claims.correct`) with their intervals."""
    rows = gaps.rename(columns={"difference": "value", "benchmark": "group"})
    rows["label"] = rows["comparison"].str.replace(" − ", "\n− ")  # one side a line
    ax = plt.subplots(figsize=(9, 0.8 + 0.75 * rows["label"].nunique()))[1]
    return forest(rows, ax, title, note, x="percentage points", reference=0).figure
