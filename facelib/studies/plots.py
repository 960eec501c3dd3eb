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

from facelib.formats.decode import decode, resize
from facelib.metrics.geometry import mean_interval
from facelib.metrics.scores import Scores
from facelib.metrics.tables import benchmark_name

RENDERED = "rendered faces"
GREY = "0.35"
GENUINE, IMPOSTOR = sns.color_palette("colorblind")[:2]
NAMES = {"lr": "learning rate", "val_loss": "validation loss", "val_auc": "validation AUC"}
YAW_BINS = (0, 15, 30, 45, 60, 75, 90)
YAW_NAMES = [f"{left:g}–{right:g}" for left, right in pairwise(YAW_BINS)]


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


def name_rows(ax: Axes, names: Sequence[str]) -> None:
    """Names of the rows 0, 1, … of a picture, from the top down."""
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)


def legend_outside(ax: Axes, **style) -> None:
    """The legend right of the axes."""
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, **style)


def score_frame(scores: Scores) -> pd.DataFrame:
    """One row per pair: score, kind ("genuine" or "impostor")."""
    kind = np.where(scores.same, "genuine", "impostor")
    return pd.DataFrame({"score": scores.score, "kind": kind})


def score_histograms(
    frame: pd.DataFrame, ax: Axes, thresholds: dict[str, float], title: str, note: str
) -> Axes:
    """Histograms of `score` by `kind`; `thresholds` maps a label to a cosine, drawn as a line."""
    palette = {"genuine": GENUINE, "impostor": IMPOSTOR}
    sns.histplot(
        frame, x="score", hue="kind", hue_order=list(palette), palette=palette,
        bins=60, element="step", stat="density", common_norm=False, ax=ax,
    )  # fmt: skip
    handles, labels = list(ax.get_legend().legend_handles), list(palette)
    for style, (name, value) in zip(("--", ":", "-."), thresholds.items()):
        handles.append(ax.axvline(value, color="0.15", linestyle=style, linewidth=1.5))
        labels.append(f"{name} {value:.3f}")
    ax.legend(handles, labels)
    return label_axes(ax, title, note, "cosine", "density")


def strict_threshold_spread(reports: dict[str, dict]) -> Axes:
    """Strict thresholds of the folds of each report (`Report.to_dict()`), by its name."""
    ax = axes_of(None)
    for row, report in enumerate(reports.values()):
        lo, hi = (report.get("intervals") or {}).get("strict.threshold") or (np.nan, np.nan)
        ax.hlines(row, lo, hi, color="0.3", linewidth=2)
        folds = [fold["threshold"] for fold in report["strict"]["folds"]]
        apart = row + np.linspace(-0.15, 0.15, len(folds))  # equal thresholds are the usual case
        ax.plot(folds, apart, "o", color=GENUINE, alpha=0.7, zorder=3)
    name_rows(ax, [benchmark_name(name) for name in reports])
    note = "dots: folds; line: 95 % interval over identities"
    return label_axes(ax, "Spread of the strict threshold", note, "cosine threshold", "")


def training_curves(
    frame: pd.DataFrame, ax: Axes | None = None, y: str = "loss", title: str = ""
) -> Axes:
    """One column of metrics.jsonl over the steps, a line for each `run` if the frame names runs.

    Rows without `y` are left out: validation lines hold no `loss`, training lines no `val_loss`.
    """
    ax = axes_of(ax)
    known = frame.dropna(subset=["step", y])
    runs = known["run"].nunique() if "run" in known else 1
    marker = "o" if len(known) <= 15 * runs else None
    hue = "run" if runs > 1 else None
    sns.lineplot(known, x="step", y=y, hue=hue, marker=marker, errorbar=None, ax=ax)
    if runs > 1:
        ax.get_legend().set_title(None)
    name = NAMES.get(y, y)
    return label_axes(ax, title or name, "", "step", name)


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
    labels = list(dict.fromkeys(frame["label"]))
    groups = list(dict.fromkeys(frame["group"])) if "group" in frame else [None]
    if ax is None:
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
    name_rows(ax, labels)
    ax.grid(axis="y", visible=False)
    if len(groups) > 1 or "published" in frame:
        legend_outside(ax)
    return label_axes(ax, title, note, x, "")


def yaw_bins(scores: Scores) -> np.ndarray:
    """Which of `YAW_NAMES` (P,) the |Δyaw| of each pair is in; the last takes all beyond it."""
    return np.digitize(np.abs(scores.yaw1 - scores.yaw2), YAW_BINS[1:-1])


def pose_frame(scores: Scores, accepted: np.ndarray, name: str = "") -> pd.DataFrame:
    """TAR by |Δyaw| at one threshold: bin, middle, tar, lo, hi (over people), pairs, name.

    Args:
        scores: with yaw1 and yaw2, degrees. Bins without genuine pairs are left out.
        accepted: (P,) bool, for example `scores.score >= threshold`.
    """
    place, rows = yaw_bins(scores), []
    for b, edges in enumerate(pairwise(YAW_BINS)):
        chosen = scores.same & (place == b)
        if pairs := int(chosen.sum()):
            person = np.arange(pairs) if scores.id1 is None else scores.id1[chosen]
            tar, lo, hi = mean_interval(accepted[chosen], person)
            rows.append({"bin": YAW_NAMES[b], "middle": sum(edges) / 2, "tar": tar,
                         "lo": lo, "hi": hi, "pairs": pairs, "name": name})  # fmt: skip
    return pd.DataFrame(rows)


def pose_curve(
    frame: pd.DataFrame, ax: Axes | None = None, title: str = "", note: str = ""
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
    title = title or "TAR against pose difference"
    return label_axes(ax, title, note, "|Δyaw|, degrees", "true accept rate")


def head(figure, *texts: str, **style) -> None:
    """The texts that are not empty as the heading of a figure, at its left."""
    if text := ": ".join(t for t in texts if t):
        figure.suptitle(text, **{"fontsize": 11, "x": 0.01, "ha": "left"} | style)


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
    _fill_grid(figure, images, titles, columns)
    head(figure, title, note)
    return figure


def _fill_grid(figure, images, titles, columns: int) -> None:
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
    images: Sequence[bytes | np.ndarray], scores: Scores, k: int = 5, note: str = ""
) -> Figure:
    """The k genuine pairs with the lowest and the k impostor pairs with the highest cosine.

    Args:
        images: unique images of the benchmark, encoded or (H, W, 3) uint8 RGB.
        scores: with index1 and index2 into `images`; yaw1 and yaw2 are shown where known.
    """
    figure = plt.figure(figsize=(2.3 * k, 3.5 + 0.3 * bool(note)))
    kinds = ((True, "Genuine, lowest cosine"), (False, "Impostor, highest cosine"))
    for part, (kind, heading) in zip(figure.subfigures(2, 1), kinds):
        draw_pairs(part, images, scores, hardest(scores, kind, k), 112, k)
        head(part, heading, fontweight="bold")
    head(figure, note)
    return figure


def draw_pairs(figure, images, scores: Scores, rows, size: int, columns: int, stars=None) -> None:
    """Both pictures of each pair side by side, `size` pixels high, under cosine and yaws."""
    pairs, titles = [], []
    for row, star in zip(rows, stars or [""] * len(rows)):
        a, b = (images[i] for i in (scores.index1[row], scores.index2[row]))
        a, b = (resize(i, size) if isinstance(i, np.ndarray) else decode(i, size) for i in (a, b))
        pairs.append(np.hstack([a, np.full((size, 4, 3), 255, np.uint8), b]))
        title = f"cos {round(scores.score[row], 2) + 0.0:.2f}"  # + 0.0: no "-0.00"
        if scores.yaw1 is not None and scores.yaw2 is not None:
            title += f", Δyaw {abs(scores.yaw1[row] - scores.yaw2[row]):.0f}°"
        titles.append(title + star)
    _fill_grid(figure, pairs, titles, columns)
