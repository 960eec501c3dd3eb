"""Simulations with a known answer, ablation tables, and their pictures."""

import numpy as np
import pandas as pd
import pytest

from facelib.metrics.scores import make_scores
from facelib.studies import diagnostics, plots_cluster
from facelib.studies.plots import axes_of

pytestmark = pytest.mark.usefixtures("themed")


def test_at_the_paper_s_sizes_nine_in_ten_classes_have_no_feature():
    # Catches: a queue that is not full yet, a share of the slots instead of the classes.
    frame = diagnostics.simulate_queue(**diagnostics.PAPER)
    assert frame["share"].sum() == pytest.approx(1)
    assert frame["share"].iloc[:2].tolist() == pytest.approx([0.909, 0.087], abs=0.002)
    assert (frame["share"] - frame["binomial"]).abs().max() < 0.002
    assert (frame["size"] * frame["share"]).sum() * 85_742 == pytest.approx(8192)
    ax = plots_cluster.queue_sizes(frame)
    assert next(t.get_text() for t in ax.texts if "%" in t.get_text()) == "91 %"


def test_concentration_of_a_sparse_queue_says_when_a_class_was_seen():
    # Catches: ages off by one, φ of classes that were never seen, rings that age as well.
    sizes = {"classes": 3000, "slots": 320, "batch": 20, "steps": 300}
    frames = {
        "queue": diagnostics.simulate_concentration(**sizes),
        "ring": diagnostics.simulate_concentration(**sizes, ring=4),
    }
    table = diagnostics.fidelity(frames)
    queue, ring = table["queue"], table["ring"]
    assert queue["median φ, classes of the batch"] > 3 * queue["median φ, the others"]
    assert ring["median φ, classes of the batch"] == pytest.approx(
        ring["median φ, the others"], rel=0.2
    )
    key = "rank correlation of φ and spread"
    assert ring[key] > 0.7 > queue[key]
    assert frames["queue"]["age"].between(0, 299).all()
    assert 10 <= (frames["queue"]["age"] == 0).sum() <= 20
    ax = plots_cluster.concentration(frames["queue"], axes_of(None), "", "")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "seen before",
        "this batch",
    ]


def record():
    """Three repeats of ArcFace and of one row that is a point better, then worse, then better."""
    rows = [
        {"loss": loss, "seed": seed, "data_seed": seed, "benchmark": "lfw",
         "best.accuracy": 0.9 + (gain if loss != "arcface" else 0)}
        for seed, gain in enumerate((0.01, -0.01, 0.03))
        for loss in ("cluster-all", "arcface")
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_an_ablation_lists_the_baseline_first_and_pairs_repeats():
    # Catches: unpaired differences, rows in the order of the file, single repeats with an interval.
    table = diagnostics.ablation_table(record())
    assert table.index.to_list() == ["ArcFace", "cluster-guided"]
    assert table.loc["ArcFace", "LFW (rendered)"] == "90.0 [90.0, 90.0]"
    single = diagnostics.ablation_table(record().query("seed == 0"))
    assert single.loc["cluster-guided"].to_list() == ["91.0", 1]
    gaps = diagnostics.ablation_gaps(record())
    assert gaps[["label", "group"]].to_numpy().tolist() == [["cluster-guided", "LFW"]]
    assert gaps["value"].item() == pytest.approx(1.0)
    assert gaps["lo"].item() == pytest.approx(1 - 4.303 * 2 / 3**0.5, abs=1e-3)


def test_diagnostics_of_a_run_without_any_are_empty_and_its_colour_is_kept():
    # Catches: a picture that fails for plain ArcFace, one run in two colours.
    frame = pd.DataFrame(
        {"run": ["a"] * 3 + ["b"] * 3, "step": [1, 2, 3] * 2, "phi_q50": [np.nan] * 3 + [1, 2, 3]}
    )
    frame = frame.assign(**{f"phi_{q}": frame["phi_q50"] for q in ("q0", "q10", "q90", "q100")})
    second = plots_cluster.quantiles(frame, "phi", axes_of(None), "", "φ").lines[0]
    assert second.get_xydata().tolist() == [[1, 1], [2, 2], [3, 3]]
    drawn = plots_cluster.curves(frame, "phi_q50", axes_of(None), "").lines[0]
    assert drawn.get_color() == second.get_color()
    empty = frame[frame["run"] == "a"]
    assert not plots_cluster.curves(empty, "phi_q50", axes_of(None), "").lines
    assert not plots_cluster.quantiles(empty, "phi", axes_of(None), "", "φ").lines


def test_the_gap_in_a_title_is_that_of_the_means():
    # Catches: impostor and genuine swapped, medians.
    scores = make_scores(np.array([0.9, 0.5, 0.1, -0.1] * 10), np.tile([1, 1, 0, 0], 10) == 1)
    ax = plots_cluster.gap(scores, axes_of(None), "ArcFace", "")
    assert ax.get_title(loc="left") == "ArcFace: gap 0.700"
