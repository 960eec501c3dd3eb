"""The README's picture: rendered faces beside the main result, for light and dark pages."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from facelib.config import Config
from facelib.data.locate import picture_faces
from facelib.studies.pictures import chart
from facelib.studies.records import repeat_intervals

PAGES = {"light": ("#ffffff", "#1f2328"), "dark": ("#0d1117", "#e6edf3")}  # page, ink
FIGURES = {"best threshold": "best.accuracy", "strict (1 false match in 1,000)": "strict.accuracy"}
MARKS = "osD"  # told apart without colour


def write_pictures(frame: pd.DataFrame, folder: Path) -> None:
    """Write `result-light.png` and `result-dark.png` of a record of repeats."""
    faces = picture_faces(Config(), identities=4, yaws=(0, 35, -70))
    for page, colours in PAGES.items():
        picture = chart(draw(frame, faces, *colours), colours=128)
        (folder / f"result-{page}.png").write_bytes(picture.data)


def draw(frame: pd.DataFrame, faces: np.ndarray, page: str, ink: str) -> Figure:
    """Faces on the left; then one panel per protocol, one mark with its interval per loss."""
    style = dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), ink)
    style |= {"figure.facecolor": page, "axes.facecolor": page, "axes.edgecolor": ink}
    with plt.rc_context(style | {"figure.constrained_layout.use": True, "font.size": 11}):
        figure, axes = plt.subplots(
            1, 3, figsize=(11, 4), dpi=100, gridspec_kw={"width_ratios": (0.8, 1, 1)}
        )
        axes[0].imshow(faces)
        axes[0].set_title("Rendered people: no real face", loc="left")
        axes[0].axis("off")
        for ax, (title, name) in zip(axes[1:], FIGURES.items(), strict=True):
            _panel(ax, repeat_intervals(frame, name), title, ink)
        axes[1].legend(frameon=False, loc="lower left")
    return figure


def _panel(ax: Axes, table: pd.DataFrame, title: str, ink: str) -> None:
    colours = sns.color_palette("colorblind")
    benchmarks = list(dict.fromkeys(table["label"]))
    for k, (loss, part) in enumerate(table.groupby("group", sort=False)):
        x = [benchmarks.index(label) + (k - 1) * 0.22 for label in part["label"]]
        value, lo, hi = (100 * part[name].to_numpy() for name in ("value", "lo", "hi"))
        ax.errorbar(x, value, (value - lo, hi - value), fmt=MARKS[k], color=colours[k], label=loss,
                    capsize=4, markersize=7, linewidth=2)  # fmt: skip
    ax.set_xticks(range(len(benchmarks)), benchmarks)
    ax.set_title(title, loc="left")
    ax.set_ylabel("accuracy (%), 95 % interval")
    ax.grid(axis="y", color=ink, alpha=0.2)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
