"""Error rates as pictures: the axes, the points, what the discard curve orders by."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from facelib.metrics.scores import make_scores
from facelib.metrics.verification import tar_at_far
from facelib.studies.plots_errors import det, det_frame, discard, discard_frame, error_table

pytestmark = pytest.mark.usefixtures("themed")


@pytest.fixture(scope="module")
def result():
    """600 pairs of 40 images; the norm of an image says how high its genuine scores are."""
    rng = np.random.default_rng(0)
    norms = rng.uniform(1, 9, 40)
    sides = rng.integers(0, 40, (2, 600))
    same = np.arange(600) % 2 == 0
    likeness = 0.2 + 0.1 * norms[sides].min(0)
    score = np.clip(rng.normal(np.where(same, likeness, 0.1), 0.1), -1, 1)
    scores = make_scores(score, same, index1=sides[0], index2=sides[1])
    return SimpleNamespace(
        benchmarks=["lfw"],
        scores=lambda name: scores,
        title=lambda name: name,
        embeddings=lambda name: np.c_[norms, np.zeros(40)],
    )


def test_the_det_curve_reads_fnmr_at_fmr_as_the_table_does(result):
    # catches: axes swapped, TAR drawn for FNMR, a linear axis called a DET curve
    scores = result.scores("lfw")
    ax = det(pd.concat([det_frame(scores, "a"), det_frame(scores, "b")]))
    fmr, fnmr = ax.lines[0].get_data()
    for rate, tar in tar_at_far(scores.score, scores.same, (0.1, 0.01)).items():
        assert fnmr[fmr <= rate + 1e-12].min() == pytest.approx(1 - tar)
    tar = tar_at_far(scores.score, scores.same)[0.01]
    assert error_table(result).loc[("lfw", "1e-2"), "FNMR (%)"] == f"{100 * (1 - tar):.1f}"
    middle = ax.transData.transform([(0.5, 0.5), (0.1, 0.5), (0.9, 0.5)])[:, 0]
    assert middle[0] - middle[1] == pytest.approx(middle[2] - middle[0])  # normal deviates
    ax.figure.canvas.draw()
    assert "1 %" in [tick.get_text() for tick in ax.get_xticklabels()]


def test_scores_without_errors_or_with_few_impostors_give_a_picture_that_says_so():
    # Catches: a traceback in the notebook of somebody with a perfect model or a tiny benchmark.
    apart = make_scores(np.repeat([0.9, 0.1], 10), np.arange(20) < 10, np.arange(20) % 10)
    assert det_frame(apart, "a").empty
    assert "errors of both kinds" in det(det_frame(apart, "a")).texts[0].get_text()
    frame = discard_frame(SimpleNamespace(scores=lambda name: apart), "tiny")
    assert "too few impostor pairs" in discard(frame).texts[0].get_text()


def test_discarding_by_a_telling_norm_lowers_the_error(result):
    # catches: the norm of the better side, a threshold that moves with the discarded pairs
    frame = discard_frame(result, "lfw")
    assert frame["quality"].unique().tolist() == ["norm of the embedding"]
    left = frame.set_index(frame["discarded"].round(3))["fnmr"]
    assert left[0.5] < 0.6 * left[0.0]
    assert discard(frame).get_ylim()[0] == 0
