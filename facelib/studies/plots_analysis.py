"""Pictures of the embedding analysis: a frame and an axes in, the axes out (see `plots.py`)."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.ticker import PercentFormatter

from facelib.studies import plots

MARKS = {
    "isotropic": "x",
    "rotated": "+",
    "Gaussian": "s",
    "centre sim": "o",
    "nearest sample": "^",
}


def nulls(frame: pd.DataFrame, ax: Axes, note: str) -> Axes:
    """A row for each loss and kind of centre; one mark for the figure and for each null.

    Args:
        frame: of `centres.null_table`, one benchmark: indexed by loss and centres.
    """
    rows = range(len(frame))
    ax.hlines(rows, frame["isotropic"], frame["nearest sample"], color="0.85", zorder=1)
    for colour, (column, mark) in zip(sns.color_palette("colorblind"), MARKS.items()):
        ax.plot(frame[column], rows, mark, color=colour, label=column, markersize=8, zorder=2)
    plots.name_rows(ax, [f"{loss}, {centres}" for loss, centres in frame.index])
    ax.grid(axis="y", visible=False)
    plots.legend_outside(ax)
    title = "Similarity to the nearest centre, and its nulls"
    return plots.label_axes(ax, title, note, "mean cosine", "")


def cumulated_spectrum(frame: pd.DataFrame, note: str = "") -> Axes:
    """`centres.spectrum_frame`: share of the variance in the first principal directions."""
    ax = plots.axes_of(None)
    sns.lineplot(frame, x="dimension", y="share", hue="name", ax=ax)
    ax.axhline(0.9, color=plots.GREY, linestyle=":", linewidth=1)
    ax.set(xscale="log", ylim=(0, 1.02))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.get_legend().set_title(None)
    title = "Variance in the first directions"
    return plots.label_axes(ax, title, note, "principal directions", "share of the variance")


def face_map(
    frame: pd.DataFrame, faces: Sequence[np.ndarray], ax: Axes, title: str, note: str
) -> Axes:
    """The images `faces` (H, W, 3) uint8 at their places of `maps.map_frame`, framed by person."""
    people = list(dict.fromkeys(frame["person"]))
    palette = dict(zip(people, sns.color_palette("husl", len(people))))
    for row, face in zip(frame.itertuples(), faces, strict=True):
        box = OffsetImage(face, zoom=72 / ax.figure.dpi)
        style = {"edgecolor": palette[row.person], "linewidth": 2, "boxstyle": "square,pad=0"}
        ax.add_artist(AnnotationBbox(box, (row.x, row.y), pad=0, bboxprops=style))
    ax.scatter(frame["x"], frame["y"], s=0)  # the faces themselves do not set the limits
    ax.margins(0.06)
    ax.set(xticks=[], yticks=[])
    ax.grid(visible=False)
    return plots.label_axes(ax, title, note, "", "")


def paired_similarities(
    frame: pd.DataFrame, axes: Sequence[Axes], titles: Mapping[str, str], note: str = ""
) -> None:
    """Histograms of `strangers.similarity_frame`, an axes for each run of `titles`, one scale."""
    kinds = list(dict.fromkeys(frame["kind"]))
    palette = dict(zip(kinds, (plots.GENUINE, plots.IMPOSTOR)))
    edges = np.histogram_bin_edges(frame["cosine"], 50)
    for ax, (run, title) in zip(axes, titles.items()):
        part = frame[frame["run"] == run]
        for kind, colour in palette.items():
            values = part.loc[part["kind"] == kind, "cosine"]
            ax.hist(values, edges, density=True, alpha=0.5, color=colour, label=kind)
            ax.axvline(values.mean(), color=colour, linestyle="--", linewidth=1.5)
        plots.label_axes(ax, title, note, "cosine", "density")
        ax.legend(loc="upper left")
    limit = max(ax.get_ylim()[1] for ax in axes)
    for ax in axes:
        ax.set_ylim(0, limit)


def precision_recall(frame: pd.DataFrame, ax: Axes, note: str) -> Axes:
    """BCubed precision over recall of clusterings, by columns method and embedding."""
    sns.scatterplot(frame, x="recall", y="precision", hue="embedding", style="method", s=90, ax=ax)
    plots.legend_outside(ax, fontsize=9)
    x, y = "BCubed recall (low: split people)", "BCubed precision (low: merged)"
    return plots.label_axes(ax, "What goes wrong", note, x, y)


def shift_map(frame: pd.DataFrame, ax: Axes, title: str, note: str, top: float) -> Axes:
    """Relative shift of each adapted layer (`models.lora.layer_shifts`), percent in each field.

    Args:
        top: end of the colour scale, for several maps on one scale; 0: the largest value.
    """
    layers = list(dict.fromkeys(frame["layer"]))
    table = 100 * frame.pivot(index="block", columns="layer", values="relative")[layers]
    style = {"fmt": ".0f", "cmap": "mako_r", "cbar": False, "linewidths": 1}
    sns.heatmap(table, ax=ax, annot=True, vmin=0, vmax=100 * top or None, **style)
    ax.tick_params(axis="y", rotation=0)
    return plots.label_axes(ax, title, note, "", "block")
