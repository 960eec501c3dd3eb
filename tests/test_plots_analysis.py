"""Pictures of the embedding analysis: what is drawn is what the frame says."""

import io

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

mpl.use("Agg")
import matplotlib.pyplot as plt
from PIL import Image

from facelib import plots, plots_analysis
from facelib.pictures import chart


@pytest.fixture(autouse=True)
def themed():
    plots.set_theme()
    yield
    plt.close("all")


def test_each_null_is_drawn_in_the_row_of_its_loss():
    # Catches: rows upside down against their labels, a column under another's name.
    index = pd.MultiIndex.from_tuples([("A", "classifier"), ("B", "centroids")])
    values = np.arange(10).reshape(2, 5) / 10
    ax = plots_analysis.nulls(pd.DataFrame(values, index, list(plots_analysis.MARKS)))
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["A, classifier", "B, centroids"]
    drawn = {line.get_label(): line.get_xdata().tolist() for line in ax.lines}
    assert drawn["Gaussian"] == [0.2, 0.7]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]


def test_the_spectrum_has_a_line_a_run_and_ends_at_one():
    # Catches: runs joined to one line.
    frame = pd.DataFrame({"dimension": [1, 2] * 2, "share": [0.6, 1, 0.9, 1], "name": list("aabb")})
    ax = plots_analysis.cumulated_spectrum(frame, note="rendered faces")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    assert [line.get_ydata()[-1] for line in ax.lines[:2]] == [1, 1]


def test_profiles_are_triangles_and_unknown_yaws_are_dots():
    # Catches: the sign of the yaw, images of unknown yaw left out.
    frame = pd.DataFrame(
        {"x": range(4), "y": 0, "person": [1, 1, 2, 2], "yaw": [-60, 10, 45, None]}
    )
    ax = plots_analysis.people_map(frame)
    dots, triangles = (c.get_offsets()[:, 0].tolist() for c in ax.collections)
    assert (dots, triangles) == ([1, 3], [0, 2])


def test_a_chart_keeps_its_size_and_colours_in_fewer_bytes():
    # Catches: a palette that merges the lines of a plot, a figure that stays open.
    figure, ax = plt.subplots()
    for k in range(6):
        ax.plot([0, 1], [k, k], "x", markersize=6)  # few pixels each: the first to be merged
    whole = io.BytesIO()
    figure.savefig(whole, format="png")
    before = np.asarray(Image.open(whole).convert("RGB")).astype(int)
    small = chart(figure).data
    after = np.asarray(Image.open(io.BytesIO(small)).convert("RGB")).astype(int)
    assert len(small) < len(whole.getvalue()) / 2
    assert before.shape == after.shape
    assert np.abs(before - after).max() < 40
    assert not plt.get_fignums()


def test_precision_and_recall_have_a_mark_for_each_clustering():
    # Catches: axes exchanged.
    frame = pd.DataFrame(
        {"precision": [0.9, 0.5], "recall": [0.2, 0.7], "method": ["a", "b"], "embedding": "x"}
    )
    ax = plots_analysis.precision_recall(frame)
    points = np.concatenate([c.get_offsets() for c in ax.collections])
    assert points.tolist() == [[0.2, 0.9], [0.7, 0.5]]
