"""Pictures: what is drawn is what the frame says; nothing is cut off or overlaps."""

import numpy as np
import pandas as pd
import pytest

from facelib.metrics.scores import make_scores
from facelib.metrics.verification import verify_scores
from facelib.studies import plots

pytestmark = pytest.mark.usefixtures("themed")


@pytest.fixture(scope="module")
def scores():
    rng = np.random.default_rng(0)
    same = np.arange(600) % 2 == 0
    score = np.clip(rng.normal(np.where(same, 0.5, 0.1), 0.1), -1, 1)
    yaw2 = rng.uniform(-90, 90, 600)
    sides = rng.integers(0, 40, (2, 600))
    return make_scores(score, same, yaw1=np.zeros(600), yaw2=yaw2, index1=sides[0], index2=sides[1])


def tints(count=40):
    """Images of one brightness each, so that a picture shows which image it is."""
    return [np.full((8, 8, 3), 6 * i, np.uint8) for i in range(count)]


def test_titles_notes_and_legends_stay_inside_the_picture(scores):
    # catches: constrained layout switched off, a note drawn over the title
    frame = plots.score_frame(scores)
    ax = plots.score_histograms(
        frame, plots.axes_of(None), {"strict": 0.41}, "Scores", plots.note_for(True, "x")
    )
    ax.figure.canvas.draw()
    inside = ax.figure.bbox
    note = next(t for t in ax.texts if t.get_text() == "rendered faces; x")
    boxes = [t.get_window_extent() for t in (ax._left_title, note, ax.xaxis.label, ax.yaxis.label)]
    assert all(inside.contains(*b.min) and inside.contains(*b.max) for b in boxes)
    assert boxes[0].y0 >= boxes[1].y1 - 1
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [
        "genuine", "impostor", "strict 0.410",
    ]  # fmt: skip


def test_each_kind_of_pair_keeps_its_colour(scores):
    # catches: legend handles swapped, hue order taken from the data
    frame = plots.score_frame(scores)
    for part in (frame, frame[::-1]):
        ax = plots.score_histograms(part, plots.axes_of(None), {}, "", "")
        colours = [h.get_facecolor()[:3] for h in ax.get_legend().legend_handles]
        assert colours == [plots.GENUINE, plots.IMPOSTOR]
        means = {}
        for patch in ax.collections:
            corners = patch.get_paths()[0].vertices
            means[tuple(patch.get_facecolor()[0][:3])] = corners[corners[:, 1].argmax(), 0]
        assert means[plots.GENUINE] > means[plots.IMPOSTOR]


def test_the_strict_spread_shows_each_fold_and_the_interval(scores):
    # catches: the mean drawn instead of the folds, random jitter that changes committed pictures
    report = verify_scores(scores, bootstrap=50).to_dict()
    plain = verify_scores(scores).to_dict()
    ax = plots.strict_threshold_spread({"a": report, "b": plain})
    wanted = [row["threshold"] for row in report["strict"]["folds"]]
    assert ax.lines[0].get_xdata().tolist() == wanted
    low, high = ax.collections[0].get_segments()[0][:, 0]
    assert [low, high] == report["intervals"]["strict.threshold"]


def test_training_curves_leave_out_lines_without_the_figure():
    # catches: gaps from the validation lines, runs joined into one line
    rows = [{"step": i, "loss": 1 / i, "run": r} for r in "ab" for i in range(1, 30)]
    rows += [{"step": 15, "val_auc": 0.8, "run": "a"}]
    frame = pd.DataFrame(rows)
    lines = [line for line in plots.training_curves(frame).lines if len(line.get_xdata())]
    assert [len(line.get_xdata()) for line in lines] == [29, 29]
    ax = plots.training_curves(frame, y="val_auc")
    assert ax.lines[0].get_ydata().tolist() == [0.8] and ax.get_ylabel() == "validation AUC"


def test_the_forest_keeps_the_order_of_the_frame():
    # catches: rows upside down or sorted, intervals of another row
    frame = pd.DataFrame(
        {"label": list("zay"), "value": [1.0, 2, 3], "lo": [0.5, 1, np.nan], "hi": [2.0, 3, np.nan]}
    )
    ax = plots.forest(frame, reference=0)
    assert [t.get_text() for t in ax.get_yticklabels()] == list("zay")
    assert ax.yaxis_inverted()
    assert ax.lines[0].get_xydata().tolist() == [[1, 0], [2, 1], [3, 2]]
    assert ax.collections[0].get_segments()[1].tolist() == [[1, 1], [3, 1]]


def test_pose_bins_count_genuine_pairs_only_and_hold_their_interval(scores):
    # catches: impostors in the TAR, signed yaw differences, pairs lost beyond the last edge
    frame = plots.pose_frame(scores, scores.score >= 0.5)
    turn = np.abs(scores.yaw2)
    near = scores.same & (turn < 15)
    assert frame["tar"][0] == pytest.approx((scores.score[near] >= 0.5).mean())
    assert frame["pairs"].sum() == scores.same.sum()
    assert ((frame["lo"] < frame["tar"]) & (frame["tar"] < frame["hi"])).all()
    ax = plots.pose_curve(frame)
    assert [t.get_text() for t in ax.get_xticklabels()] == plots.YAW_NAMES


def test_the_hardest_pairs_are_taken_once_each():
    # catches: easiest instead of hardest, a pair listed as (a, b) and (b, a) shown twice
    score = np.r_[0.9, 0.1, 0.1, 0.3, 0.2, 0.8, 0.8, 0.7]
    same = np.arange(8) < 4
    first, second = np.array([[0, 2, 3, 4, 5, 6, 7, 8], [1, 3, 2, 5, 6, 7, 6, 9]])
    scores = make_scores(score, same, np.arange(8) % 2, index1=first, index2=second)
    assert plots.hardest(scores, True, 2).tolist() == [1, 3]
    assert plots.hardest(scores, False, 9).tolist() == [5, 7, 4]


def test_hard_pairs_show_both_images_and_the_cosine(scores):
    # catches: images of another pair, the second side repeated, a title of another row
    figure = plots.hard_pairs(tints(), scores, k=3, note=plots.RENDERED)
    axes = [ax for part in figure.subfigs for ax in part.axes]
    rows = [*plots.hardest(scores, True, 3), *plots.hardest(scores, False, 3)]
    assert len(axes) == 6
    for ax, row in zip(axes, rows):
        shown = ax.images[0].get_array()
        assert shown[0, 0, 0] == 6 * scores.index1[row]
        assert shown[0, -1, 0] == 6 * scores.index2[row]
        assert ax.get_title().startswith(f"cos {scores.score[row]:.2f}, Δyaw")


def test_an_image_grid_fills_rows_and_hides_empty_cells():
    # catches: a crash on a short last row, axes ticks around faces
    figure = plots.image_grid(tints(5), [str(i) for i in range(5)], columns=3, title="t")
    shown = [ax for ax in figure.axes if ax.images]
    assert [ax.get_title() for ax in shown] == list("01234")
    assert not any(ax.axison for ax in figure.axes)
