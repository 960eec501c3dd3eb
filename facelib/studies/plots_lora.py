"""Pictures of the LoRA chapter: frame + ax -> ax."""

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from facelib.studies.plots import axes_of, label_axes


def shift_map(
    frame: pd.DataFrame, ax: Axes | None = None, title: str = "", note: str = "", top: float = 0
) -> Axes:
    """Relative shift of each adapted layer: blocks down, layers across, percent in each field.

    Args:
        frame: rows of `models.lora.layer_shifts`: block, layer, relative.
        top: end of the colour scale, for several maps on one scale; 0: the largest value.
    """
    ax = axes_of(ax)
    layers = list(dict.fromkeys(frame["layer"]))
    table = 100 * frame.pivot(index="block", columns="layer", values="relative")[layers]
    sns.heatmap(
        table, ax=ax, annot=True, fmt=".0f", cmap="mako_r", vmin=0, vmax=100 * top or None,
        cbar=False, linewidths=1,
    )  # fmt: skip
    ax.tick_params(axis="y", rotation=0)
    return label_axes(ax, title, note, "", "block")
