"""Pictures of the embedding analysis: what is drawn is what the frame says."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.offsetbox import AnnotationBbox
from PIL import Image

from facelib.studies import plots_analysis
from facelib.studies.pictures import chart
from facelib.studies.plots import axes_of

pytestmark = pytest.mark.usefixtures("themed")


def test_each_null_is_drawn_in_the_row_of_its_loss():
    # Catches: rows upside down against their labels, a column under another's name.
    index = pd.MultiIndex.from_tuples([("A", "classifier"), ("B", "centroids")])
    values = np.arange(10).reshape(2, 5) / 10
    ax = plots_analysis.nulls(
        pd.DataFrame(values, index, list(plots_analysis.MARKS)), axes_of(None), ""
    )
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


def test_every_face_of_the_map_has_its_place_and_the_colour_of_its_person():
    # Catches: faces in another order than the places, a colour a picture.
    frame = pd.DataFrame({"x": [0.0, 1, 2], "y": [5.0, 6, 7], "person": [8, 8, 9]})
    faces = [np.full((4, 4, 3), v, np.uint8) for v in (10, 20, 30)]
    ax = plots_analysis.face_map(frame, faces, axes_of(None), "", "")
    boxes = [a for a in ax.artists if isinstance(a, AnnotationBbox)]
    assert [b.xy for b in boxes] == [(0, 5), (1, 6), (2, 7)]
    assert [int(b.offsetbox.get_data().max()) for b in boxes] == [10, 20, 30]
    edges = [b.patch.get_edgecolor() for b in boxes]
    assert edges[0] == edges[1] != edges[2]
    with pytest.raises(ValueError, match="zip"):
        plots_analysis.face_map(frame, faces[:2], axes_of(None), "", "")


def test_two_runs_have_one_scale_and_the_mean_of_each_kind():
    # Catches: each panel on a scale of its own, the mean of the other run.
    kinds = ["own pairs", "nearest other"]
    rows = [("a", k, c) for k in kinds for c in (0.1, 0.2)] + [("b", k, 0.9) for k in kinds]
    frame = pd.DataFrame(rows, columns=["run", "kind", "cosine"])
    axes = plt.subplots(1, 2)[1]
    plots_analysis.paired_similarities(frame, axes, {"a": "A", "b": "B"})
    assert axes[0].get_ylim() == axes[1].get_ylim()
    assert [ax.lines[0].get_xdata()[0] for ax in axes] == pytest.approx([0.15, 0.9])
    assert [ax.get_title(loc="left") for ax in axes] == ["A", "B"]


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
    ax = plots_analysis.precision_recall(frame, axes_of(None), "")
    points = np.concatenate([c.get_offsets() for c in ax.collections])
    assert points.tolist() == [[0.2, 0.9], [0.7, 0.5]]


def test_the_map_has_blocks_down_and_layers_across_in_percent():
    # Catches: a transposed map, layers in alphabetical order, shares shown as percent.
    rows = [(0, "fc2", 0.10), (0, "fc1", 0.20), (1, "fc2", 0.30), (1, "fc1", 0.40)]
    ax = plots_analysis.shift_map(
        pd.DataFrame(rows, columns=["block", "layer", "relative"]), axes_of(None), "", "", 0.4
    )
    assert [text.get_text() for text in ax.texts if text.get_text()] == ["10", "20", "30", "40"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["fc2", "fc1"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["0", "1"]
