"""Pictures of cluster-guided training: a frame and an axes in, the axes out (see `plots.py`)."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from facelib.metrics.geometry import similarity_gap
from facelib.metrics.scores import Scores
from facelib.studies.plots import GREY, axes_of, label_axes, score_frame, score_histograms

SIZES = {f"queue_{number}": str(number) for number in range(3)} | {
    "queue_3_4": "3–4", "queue_5_8": "5–8", "queue_9_up": "9+"
}  # fmt: skip


def queue_sizes(frame: pd.DataFrame, note: str = "") -> Axes:
    """`diagnostics.simulate_queue`: share of classes by |Q_k|, above each bar; dots: by chance."""
    ax = axes_of(None)
    ax.bar(frame["size"], frame["share"], color=sns.color_palette("colorblind")[0], width=0.7)
    ax.plot(frame["size"], frame["binomial"], "o", color=GREY, label="binomial", markersize=5)
    for size, share in zip(frame["size"], frame["share"]):
        text = f"{100 * share:.2g} %" if share >= 1e-4 else f"{share:.0e}"
        ax.annotate(text, (size, share), (0, 6), textcoords="offset points", ha="center", size=9)
    ax.set(yscale="log", xticks=frame["size"])
    ax.set_ylim(top=4)
    ax.legend()
    return label_axes(ax, "Stored features a class", note, "|Q_k|", "share of the classes")


def _colours(metrics: pd.DataFrame) -> dict:
    """A run has the same colour in every picture of these metrics."""
    runs = list(dict.fromkeys(metrics["run"]))
    name = "colorblind" if len(runs) <= 10 else "husl"
    return dict(zip(runs, sns.color_palette(name, len(runs))))


def run_queue_sizes(metrics: pd.DataFrame, ax: Axes) -> Axes:
    """Bars of the share of classes by |Q_k| at the last log tick, a colour a run."""
    last = metrics.dropna(subset=["queue_0"]).groupby("run", sort=False).tail(1)
    long = last.rename(columns=SIZES).melt("run", [*SIZES.values()], "size", "share")
    palette = _colours(metrics)
    order = [run for run in palette if run in set(last["run"])]
    sns.barplot(long, x="size", y="share", hue="run", hue_order=order, palette=palette, ax=ax)
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set(ylim=(0, 1.45), yticks=np.linspace(0, 1, 6))  # room for the legend
    if len(last):
        ax.get_legend().set_title(None)
    title = "Stored features a class, end of the run"
    return label_axes(ax, title, "", "|Q_k|", "share of the classes")


def quantiles(metrics: pd.DataFrame, name: str, ax: Axes, title: str, y: str) -> Axes:
    """Quantiles over classes of a diagnostic ("phi" or "margin") over the steps, a colour a run."""
    known, palette = metrics.dropna(subset=[f"{name}_q50"]), _colours(metrics)
    for run, part in known.groupby("run", sort=False):
        colour = palette[run]
        ax.plot(part["step"], part[f"{name}_q50"], color=colour, label=run)
        low, high = part[f"{name}_q10"], part[f"{name}_q90"]
        ax.fill_between(part["step"], low, high, color=colour, alpha=0.25, linewidth=0)
        for extreme in ("q0", "q100"):
            ax.plot(part["step"], part[f"{name}_{extreme}"], ":", color=colour, linewidth=1)
    if len(known):
        ax.legend()
    note = "line: median class; band: 10 to 90 %; dotted: extremes"
    return label_axes(ax, title, note, "step", y or name)


def curves(metrics: pd.DataFrame, name: str, ax: Axes, title: str) -> Axes:
    """One diagnostic over the steps; a run has the same colour in every such picture."""
    for run, colour in _colours(metrics).items():
        part = metrics[metrics["run"] == run].dropna(subset=[name])
        if len(part):
            ax.plot(part["step"], part[name], color=colour, label=run)
    ax.set_ylim(bottom=0)
    if ax.lines:
        ax.legend(fontsize=9)
    return label_axes(ax, title, "", "step", "")


def concentration(frame: pd.DataFrame, ax: Axes, title: str, note: str) -> Axes:
    """`diagnostics.simulate_concentration`: φ of classes over their true spread.

    Colours: in the last batch, or not; at most 1,500 classes of either.
    """
    kinds = {"seen before": frame["age"] > 0, "this batch": frame["age"] == 0}
    for (name, chosen), colour in zip(kinds.items(), sns.color_palette("colorblind")):
        part = frame[chosen]
        part = part.iloc[np.linspace(0, len(part) - 1, min(1500, len(part))).astype(int)]
        ax.plot(part["spread"], part["phi"], ".", color=colour, label=name, markersize=4, alpha=0.6)
    ax.set_ylim(bottom=0)
    ax.legend(title="last image", markerscale=2)
    return label_axes(ax, title, note, "spread σ of the class", "φ")


def gap(scores: Scores, ax: Axes, title: str, note: str) -> Axes:
    """Histograms of positive and negative pairs with their means; the title ends with the gap."""
    positive, negative, difference = similarity_gap(scores.score, scores.same)
    means = {"mean genuine": positive, "mean impostor": negative}
    title = f"{title}: gap {difference:.3f}"
    ax = score_histograms(score_frame(scores), ax, means, title, note)
    ax.set_ylim(top=1.7 * ax.get_ylim()[1])  # room for the legend
    legend = ax.get_legend()
    texts = [text.get_text() for text in legend.get_texts()]
    ax.legend(list(legend.legend_handles), texts, fontsize=9, loc="upper left")
    return ax
