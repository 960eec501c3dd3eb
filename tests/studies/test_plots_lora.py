"""Pictures of the LoRA chapter: what is drawn is what the frame says."""

import matplotlib as mpl
import pandas as pd

mpl.use("Agg")

from facelib.studies import plots_lora


def test_the_map_has_blocks_down_and_layers_across_in_percent():
    # Catches: a transposed map, layers in alphabetical order, shares shown as percent.
    rows = [(0, "fc2", 0.10), (0, "fc1", 0.20), (1, "fc2", 0.30), (1, "fc1", 0.40)]
    ax = plots_lora.shift_map(pd.DataFrame(rows, columns=["block", "layer", "relative"]))
    assert [text.get_text() for text in ax.texts if text.get_text()] == ["10", "20", "30", "40"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["fc2", "fc1"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["0", "1"]
