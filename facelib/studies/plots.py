"""Pictures of the study: a frame and an axes in, the axes out; grids of images give a figure.

Every function takes `note`, a small line under the title: what the faces are, how many pairs, what
the bars mean. For rendered faces pass `RENDERED` (or `note_for(rendered, ...)`).
"""

from collections.abc import Sequence
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from scipy.stats import binomtest

from facelib.formats.decode import decode, resize
from facelib.metrics.scores import Scores

RENDERED = "rendered faces"
GREY = "0.35"
GENUINE, IMPOSTOR = sns.color_palette("colorblind")[0], sns.color_palette("colorblind")[1]
NAMES = {
    "lr": "learning rate",
    "images_per_s": "images/s",
    "images": "images seen",
    "val_loss": "validation loss",
    "val_auc": "validation AUC",
}
YAW_BINS = (0, 15, 30, 45, 60, 75, 90)


def set_theme() -> None:
    """One look for all notebooks: 80 dpi, readable type, colours that colour-blind people tell.

    Tables show up to 100 rows.
    """
    pd.set_option("display.max_rows", 100)
    sns.set_theme(
        style="whitegrid",
        palette="colorblind",
        rc={
            "figure.dpi": 80,
            "savefig.dpi": 80,
            "figure.constrained_layout.use": True,
            "axes.titlesize": 12,
            "axes.titleweight": "bold",
            "axes.edgecolor": "0.6",
        },
    )


def note_for(rendered: bool, *facts: str) -> str:
    """Note of a picture: "rendered faces" where they are, then the facts."""
    return "; ".join(([RENDERED] if rendered else []) + [f for f in facts if f])


def label_axes(ax: Axes, title: str, note: str, x: str, y: str) -> Axes:
    """Title, note below it and names of both axes."""
    ax.set_title(title, loc="left", pad=20 if note else 6)
    if note:
        ax.text(0, 1.015, note, transform=ax.transAxes, fontsize=9, color=GREY, va="bottom")
    ax.set(xlabel=x, ylabel=y)
    return ax


def axes_of(ax: Axes | None) -> Axes:
    """The axes that are given, or new ones."""
    return plt.subplots(figsize=(6.4, 4))[1] if ax is None else ax


def score_frame(scores: Scores) -> pd.DataFrame:
    """One row a pair: score, kind ("genuine" or "impostor"), fold."""
    kind = np.where(scores.same, "genuine", "impostor")
    return pd.DataFrame(
        {"score": scores.score, "kind": kind, "fold": scores.fold_labels[scores.fold]}
    )


def score_histograms(
    frame: pd.DataFrame,
    ax: Axes | None = None,
    thresholds: dict[str, float] | None = None,
    title: str = "Scores of genuine and impostor pairs",
    note: str = "",
) -> Axes:
    """Histograms of `score` by `kind`; `thresholds` maps a label to a cosine, drawn as a line."""
    ax = axes_of(ax)
    palette = {"genuine": GENUINE, "impostor": IMPOSTOR}
    sns.histplot(
        frame, x="score", hue="kind", hue_order=list(palette), palette=palette,
        bins=60, element="step", stat="density", common_norm=False, ax=ax,
    )  # fmt: skip
    kinds = ax.get_legend()
    handles, labels = list(kinds.legend_handles), list(palette)
    for style, (name, value) in zip(("--", ":", "-."), (thresholds or {}).items()):
        handles.append(ax.axvline(value, color="0.15", linestyle=style, linewidth=1.5))
        labels.append(f"{name} {value:.3f}")
    ax.legend(handles, labels)
    return label_axes(ax, title, note, "cosine", "density")


def strict_threshold_frame(reports: dict[str, dict]) -> pd.DataFrame:
    """One row a fold of each report (`Report.to_dict()`): name, threshold, and lo, hi if known."""
    rows = []
    for name, report in reports.items():
        interval = (report.get("intervals") or {}).get("strict.threshold") or (np.nan, np.nan)
        for fold in report["strict"]["folds"]:
            row = {"name": name, "fold": fold["fold"], "threshold": fold["threshold"]}
            rows.append(row | dict(zip(("lo", "hi"), interval)))
    return pd.DataFrame(rows)


def strict_threshold_spread(
    frame: pd.DataFrame,
    ax: Axes | None = None,
    title: str = "Spread of the strict threshold",
    note: str = "dots: folds; line: 95 % interval over identities",
) -> Axes:
    """Thresholds of the folds of each `name`; the interval `lo..hi` as a line under them."""
    ax = axes_of(ax)
    names = list(dict.fromkeys(frame["name"]))
    for row, name in enumerate(names):
        part = frame[frame["name"] == name]
        ax.hlines(row, part["lo"].iloc[0], part["hi"].iloc[0], color="0.3", linewidth=2)
        apart = row + np.linspace(-0.15, 0.15, len(part))  # equal thresholds are the usual case
        ax.plot(part["threshold"], apart, "o", color=GENUINE, alpha=0.7, zorder=3)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    return label_axes(ax, title, note, "cosine threshold", "")


def training_curves(
    frame: pd.DataFrame,
    ax: Axes | None = None,
    y: str = "loss",
    x: str = "step",
    title: str = "",
    note: str = "",
) -> Axes:
    """One column of metrics.jsonl over another, a line for each `run` if the frame names runs.

    Rows without `y` are left out: validation lines hold no `loss`, training lines no `val_loss`.
    """
    ax = axes_of(ax)
    known = frame.dropna(subset=[x, y])
    runs = known["run"].nunique() if "run" in known else 1
    marker = "o" if len(known) <= 15 * runs else None
    sns.lineplot(
        known, x=x, y=y, hue="run" if runs > 1 else None, marker=marker, errorbar=None, ax=ax
    )
    if runs > 1:
        ax.get_legend().set_title(None)
    label, heading = NAMES.get(y, y), title or NAMES.get(y, y)
    return label_axes(ax, heading, note, NAMES.get(x, x), label)


def forest(
    frame: pd.DataFrame,
    ax: Axes | None = None,
    title: str = "",
    note: str = "bars: 95 % interval over identities",
    x: str = "accuracy",
    reference: float | None = None,
) -> Axes:
    """Dots with intervals, one row for each `label`, top to bottom; colours by `group` if there.

    Args:
        frame: label, value, lo, hi (NaN where unknown); optional group, published.
        reference: a vertical line, for example 0 for differences.
    """
    fresh = ax is None
    labels = list(dict.fromkeys(frame["label"]))
    groups = list(dict.fromkeys(frame["group"])) if "group" in frame else [None]
    if fresh:
        ax = plt.subplots(figsize=(6.4, 1.4 + 0.32 * len(labels) * max(1, 0.7 * len(groups))))[1]
    palette = sns.color_palette("colorblind", len(groups))
    for g, group in enumerate(groups):
        part = frame if group is None else frame[frame["group"] == group]
        rows = np.array([labels.index(label) for label in part["label"]])
        rows = rows + (g - (len(groups) - 1) / 2) * 0.6 / len(groups)
        ax.hlines(rows, part["lo"], part["hi"], color=palette[g], linewidth=2)
        ax.plot(part["value"], rows, "o", color=palette[g], label=group)
        if "published" in part:
            label = "published" if group == groups[-1] else None
            ax.plot(part["published"], rows, "x", color="0.2", label=label)
    if reference is not None:
        ax.axvline(reference, color="0.3", linestyle="--", linewidth=1)
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    if len(groups) > 1 or "published" in frame:
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)
    return label_axes(ax, title, note, x, "")


def pose_frame(
    scores: Scores, accepted: np.ndarray, bins: Sequence[float] = YAW_BINS, name: str = ""
) -> pd.DataFrame:
    """TAR by |Δyaw| at one global threshold: middle, tar, lo, hi (exact binomial), pairs, name.

    Args:
        scores: with yaw1 and yaw2, degrees.
        accepted: (P,) bool, for example `scores.score >= threshold`.
        bins: edges in degrees; the last bin takes everything beyond it. Empty bins are left out.
    """
    turn = np.abs(scores.yaw1 - scores.yaw2)
    place = np.digitize(turn, np.asarray(bins)[1:-1])
    rows = []
    for b, (left, right) in enumerate(pairwise(bins)):
        chosen = scores.same & (place == b)
        if chosen.any():
            passed, pairs = int(accepted[chosen].sum()), int(chosen.sum())
            lo, hi = binomtest(passed, pairs).proportion_ci()
            row = {
                "bin": f"{left:g}–{right:g}",
                "middle": (left + right) / 2,
                "tar": passed / pairs,
            }
            rows.append(row | {"lo": lo, "hi": hi, "pairs": pairs, "name": name})
    return pd.DataFrame(rows)


def pose_curve(
    frame: pd.DataFrame,
    ax: Axes | None = None,
    title: str = "TAR against pose difference",
    note: str = "bars: 95 % binomial interval",
) -> Axes:
    """TAR of genuine pairs over the bins of |Δyaw|, one line for each `name`."""
    ax = axes_of(ax)
    names = list(dict.fromkeys(frame["name"]))
    for i, name in enumerate(names):
        part = frame[frame["name"] == name]
        bars = np.abs(part[["lo", "hi"]].to_numpy().T - part["tar"].to_numpy())
        at = part["middle"] + (i - (len(names) - 1) / 2) * 1.2  # so that bars stay apart
        ax.errorbar(at, part["tar"], bars, marker="o", capsize=3, label=name)
    ticks = frame.drop_duplicates("middle").sort_values("middle")
    ax.set_xticks(ticks["middle"], ticks["bin"])
    ax.set_ylim(0, 1.03)
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    if len(names) > 1:
        ax.legend()
    return label_axes(ax, title, note, "|Δyaw|, degrees", "true accept rate")


def image_grid(
    images: Sequence[np.ndarray],
    titles: Sequence[str] | None = None,
    columns: int = 8,
    title: str = "",
    note: str = "",
) -> Figure:
    """Images (H, W, 3) uint8 RGB in rows of `columns`, each with its title."""
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    wide = max(image.shape[1] / image.shape[0] for image in images)
    height = rows * (1.1 + (0.25 if titles else 0)) + (0.5 if title else 0)
    figure = plt.figure(figsize=(columns * 1.1 * wide, height))
    fill_grid(figure, images, titles, columns)
    if title or note:
        figure.suptitle(": ".join(t for t in (title, note) if t), fontsize=11, x=0.01, ha="left")
    return figure


def fill_grid(figure, images, titles, columns: int) -> None:
    """Pictures with their titles in rows of `columns`; what is left over stays empty."""
    rows = -(-len(images) // columns)
    for i, ax in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        ax.set_axis_off()
        if i < len(images):
            ax.imshow(images[i])
            if titles:
                ax.set_title(titles[i], fontsize=9, fontweight="normal", pad=2)


def hardest(scores: Scores, kind: bool, k: int) -> np.ndarray:
    """Rows of the k hardest pairs: lowest genuine (kind True) or highest impostor cosines.

    A pair that the protocol lists twice, as (a, b) and (b, a), is taken once.
    """
    rows = np.flatnonzero(scores.same == kind)
    rows = rows[np.argsort(scores.score[rows] * (1 if kind else -1), kind="stable")]
    if scores.index1 is None:
        return rows[:k]
    sides = np.sort(np.c_[scores.index1[rows], scores.index2[rows]], axis=1)
    _, first = np.unique(sides, axis=0, return_index=True)
    return rows[np.sort(first)[:k]]


def hard_pairs(
    images: Sequence[bytes | np.ndarray],
    scores: Scores,
    k: int = 5,
    size: int = 112,
    title: str = "",
    note: str = "",
) -> Figure:
    """The k genuine pairs with the lowest and the k impostor pairs with the highest cosine.

    Args:
        images: unique images of the benchmark, encoded or (H, W, 3) uint8 RGB.
        scores: with index1 and index2 into `images`; yaw1 and yaw2 are shown where known.
        size: side of each image in the picture, pixels.
    """
    figure = plt.figure(figsize=(2.3 * k, 3.5 + 0.3 * bool(title or note)))
    parts = figure.subfigures(2, 1)
    kinds = ((True, "Genuine, lowest cosine"), (False, "Impostor, highest cosine"))
    for part, (kind, heading) in zip(parts, kinds):
        rows = hardest(scores, kind, k)
        pairs = [place_side_by_side(images, scores, row, size) for row in rows]
        fill_grid(part, pairs, [pair_title(scores, row) for row in rows], k)
        part.suptitle(heading, fontsize=11, fontweight="bold", x=0.01, ha="left")
    if title or note:
        figure.suptitle(": ".join(t for t in (title, note) if t), fontsize=11, x=0.01, ha="left")
    return figure


def place_side_by_side(images, scores: Scores, row: int, size: int) -> np.ndarray:
    """Both pictures of a pair, size pixels high."""
    sides = [_picture(images[i], size) for i in (scores.index1[row], scores.index2[row])]
    return np.hstack([sides[0], np.full((size, 4, 3), 255, np.uint8), sides[1]])


def _picture(image: bytes | np.ndarray, size: int) -> np.ndarray:
    return resize(image, size) if isinstance(image, np.ndarray) else decode(image, size)


def pair_title(scores: Scores, row: int) -> str:
    """Cosine of a pair, and its yaws where they are known."""
    text = f"cos {round(scores.score[row], 2) + 0.0:.2f}"  # + 0.0: no "-0.00"
    if scores.yaw1 is not None and scores.yaw2 is not None:
        text += f", Δyaw {abs(scores.yaw1[row] - scores.yaw2[row]):.0f}°"
    return text
