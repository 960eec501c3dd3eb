"""Pictures of accuracy against the number of negatives: a frame and an axes in, axes out."""

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, PercentFormatter

from facelib.studies.negatives import FAMILIES
from facelib.studies.plots import axes_of, label_axes

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
    """Accuracy against `x`, a key of `TITLES`: one line a family, bars of the interval.

    Args:
        frame: of `negatives.against_negatives`, of one benchmark and length of the runs.
    """
    ax = axes_of(ax)
    colours = dict(zip(FAMILIES, sns.color_palette("colorblind", len(FAMILIES))))
    for (family, label), mark in zip(FAMILIES.items(), MARKS):
        part = frame[frame["family"] == family].sort_values(x)
        if part.empty:
            continue
        bars = [(part["value"] - part[end]).abs().fillna(0) for end in ("lo", "hi")]
        style = {"marker": mark, "capsize": 3, "linewidth": 1.5, "color": colours[family]}
        ax.errorbar(part[x], part["value"], yerr=bars, label=label, **style)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    if legend:
        ax.legend(fontsize=8)
    return label_axes(ax, title, note, TITLES[x], "accuracy, best threshold")
