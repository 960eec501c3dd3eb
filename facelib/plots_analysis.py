"""Pictures of the embedding analysis: a frame and an axes in, the axes out (see `plots.py`)."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from facelib.evaluate.scores import Scores
from facelib.plots import GREY, _axes, _label

MARKS = {
    "isotropic": "x",
    "rotated": "+",
    "Gaussian": "s",
    "centre sim": "o",
    "nearest sample": "^",
}


def nulls(
    frame: pd.DataFrame,
    ax: Axes | None = None,
    title: str = "Similarity to the nearest centre, and its nulls",
    note: str = "",
) -> Axes:
    """A row for each loss and kind of centre; one mark for the figure and for each null.

    Args:
        frame: of `centres.null_table`, one benchmark: indexed by loss and centres, with the columns
            of `MARKS` (mean cosines).
    """
    ax = _axes(ax)
    rows = range(len(frame))
    ax.hlines(rows, frame["isotropic"], frame["nearest sample"], color="0.85", zorder=1)
    for colour, (column, mark) in zip(sns.color_palette("colorblind"), MARKS.items()):
        ax.plot(frame[column], rows, mark, color=colour, label=column, markersize=8, zorder=2)
    ax.set_yticks(rows, [f"{loss}, {centres}" for loss, centres in frame.index])
    ax.set_ylim(len(frame) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)
    return _label(ax, title, note, "mean cosine", "")


def cumulated_spectrum(
    frame: pd.DataFrame,
    ax: Axes | None = None,
    title: str = "Variance in the first directions",
    note: str = "",
) -> Axes:
    """Cumulated share of the variance over the number of principal directions, a line a `name`.

    Args:
        frame: dimension, share, name (`centres.spectrum_frame`).
    """
    ax = _axes(ax)
    sns.lineplot(frame, x="dimension", y="share", hue="name", ax=ax)
    ax.axhline(0.9, color=GREY, linestyle=":", linewidth=1)
    ax.set(xscale="log", ylim=(0, 1.02))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.get_legend().set_title(None)
    return _label(ax, title, note, "principal directions", "share of the variance")


def map_frame(scores: Scores, emb: np.ndarray, people: int = 8) -> pd.DataFrame:
    """First two principal components of the images of the `people` with most images.

    The components are those of these images; equal counts are resolved by the lower identity.

    Args:
        scores: with index1 and index2 into the U images, id1, id2, and yaws if known.
        emb: (U, d) unit embeddings.

    Returns:
        Frame with columns x, y, person, image (row of `emb`), yaw (degrees, NaN if unknown).
    """
    unknown = np.full(len(scores.same), np.nan)
    yaws = [unknown if yaw is None else yaw for yaw in (scores.yaw1, scores.yaw2)]
    frame = pd.DataFrame(
        {
            "image": np.r_[scores.index1, scores.index2],
            "person": np.r_[scores.id1, scores.id2],
            "yaw": np.concatenate(yaws),
        }
    ).drop_duplicates("image")
    chosen = frame["person"].value_counts(sort=False).sort_index()
    chosen = chosen.sort_values(ascending=False, kind="stable").index[:people]
    frame = frame[frame["person"].isin(chosen)].sort_values(["person", "image"])
    points = emb[frame["image"]]
    axes = np.linalg.svd(points - points.mean(0), full_matrices=False)[2][:2]
    x, y = axes @ (points - points.mean(0)).T
    return frame.assign(x=x, y=y).reset_index(drop=True)


def people_map(
    frame: pd.DataFrame, ax: Axes | None = None, title: str = "", note: str = ""
) -> Axes:
    """Images in two principal components: a colour a person; profiles (|yaw| ≥ 45°) as triangles.

    Args:
        frame: x, y, person, yaw in degrees or NaN (`map_frame`).
    """
    ax = _axes(ax)
    people = list(dict.fromkeys(frame["person"]))
    palette = dict(zip(people, sns.color_palette("colorblind", len(people))))
    turned = frame["yaw"].abs() >= 45
    for chosen, mark in ((~turned, "o"), (turned, "^")):
        part = frame[chosen]
        ax.scatter(part["x"], part["y"], c=part["person"].map(palette), marker=mark, s=28)
    ax.set_aspect("equal", adjustable="datalim")
    for person, colour in palette.items():
        ax.plot([], [], "o", color=colour, label=str(person))
    ax.legend(title="person", loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)
    return _label(ax, title, note, "component 1", "component 2")


def precision_recall(
    frame: pd.DataFrame,
    ax: Axes | None = None,
    title: str = "What goes wrong",
    note: str = "",
) -> Axes:
    """BCubed precision over recall of clusterings: a mark a method, a colour an embedding.

    Args:
        frame: precision, recall, method, embedding.
    """
    ax = _axes(ax)
    sns.scatterplot(
        frame, x="recall", y="precision", hue="embedding", style="method", s=90, ax=ax
    )  # fmt: skip
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, fontsize=9)
    return _label(ax, title, note, "BCubed recall (low: split people)",
                  "BCubed precision (low: merged)")  # fmt: skip
