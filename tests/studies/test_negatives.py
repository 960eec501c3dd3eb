"""Rows of the batch-size question: matched numbers, costs, tables and pictures of a record."""

import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from facelib.config import make_config
from facelib.errors import UserError
from facelib.limits import bank_negatives, negative_centres, negatives_per_anchor
from facelib.paths import published_root
from facelib.runs.launch import launch
from facelib.studies import negatives as study
from facelib.studies import plots_negatives
from facelib.studies.records import load_bench
from tests.training.test_train import tiny


@pytest.mark.parametrize("row", ["batch-256", "queue-256", "cross_batch-256", "centres-256"])
def test_rows_of_one_n_have_as_many_negatives(row):
    # Catches: the batch's own columns counted twice, a queue that leaves out the batch.
    cfg = study.row_config(row, make_config(loss="infonce"))
    if row.startswith("centres"):
        assert negative_centres(cfg, 2000) == 254
    else:
        assert negatives_per_anchor(cfg) + bank_negatives(cfg, 2000) == 254


def test_the_ladder_changes_one_thing_a_step():
    # Catches: a row that differs in more than its step says, so that the step explains nothing.
    base = make_config(loss="infonce")
    configs = [study.row_config(row, base) for row in study.LADDER]
    steps = [set(b.changes_from(a)) - {"name"} for a, b in pairwise(configs)]
    assert steps == [{"bank"}, {"bank_centre"}, {"loss", "bank", "bank_centre", "m", "s"},
                     {"s"}, {"m"}]  # fmt: skip
    assert configs[3].s == pytest.approx(1 / base.tau, rel=1e-4)
    assert configs[-1] == make_config(loss="arcface")


def test_the_smallest_batch_is_the_run_of_notebook_03():
    # Catches: a run that is trained again under another name.
    base = make_config(loss="infonce")
    assert study.row_config("batch-64", base).run_name == base.run_name
    rates = [study.row_config(f"batch-{n}", base).lr for n in (64, 256, 1024, 4096)]
    assert rates == pytest.approx([0.1, 0.2, 0.4, 0.4])


def test_fresh_negatives_leave_steps_and_rate_as_they_are():
    # Catches: fewer steps for more negatives, a larger rate, a gradient of all images.
    base = make_config(loss="infonce")
    fresh = study.row_config("fresh-1024", base)
    assert (fresh.global_batch, fresh.anchors, fresh.chunk, fresh.lr) == (1024, 64, 64, 0.1)
    assert fresh.images_seen / fresh.global_batch == base.images_seen / base.global_batch
    # Sixteen forward passes at a third each, and one step of 64.
    assert study.compute(fresh.to_dict()) == pytest.approx(base.images_seen * (16 / 3 + 1))


@pytest.mark.parametrize(("row", "message"), [
    ("bath-64", "row 'bath-64': allowed are batch-256"),
    ("batch", "wanted a family and a number"),
    ("identity-5", "wanted a family and a number"),
    ("queue-64", "a batch of 64 has 64 columns or more; use queue-128"),
])  # fmt: skip
def test_a_wrong_row_is_one_clear_error(row, message):
    # Catches: a traceback, or a queue of no slots.
    with pytest.raises(UserError, match=message):
        study.row_config(row, make_config(loss="infonce"))


def test_a_momentum_encoder_and_chunks_cost_a_third_each():
    # Catches: rows called equal in compute that are not.
    settings = {"bank": "queue", "chunk": 0, "images_seen": 90_000}
    assert study.compute(settings) == pytest.approx(120_000)
    assert study.compute({**settings, "bank": "none", "chunk": 8}) == pytest.approx(120_000)


@pytest.mark.slow
def test_figures_of_a_run_come_from_its_metrics(tiny_records, runs_folder):
    # Catches: the count of a batch for a row with a memory, the first ticks instead of the last.
    run = launch(tiny(tiny_records, loss="infonce", bank="cross_batch", bank_slots=40,
                      images_seen=160))  # fmt: skip
    found = study.measured(run)
    assert 14 + 30 < found["negatives"] <= 54  # 40 stored, fewer of other identities
    assert 1 < found["effective_negatives"] < found["negatives"]
    arc = study.measured(launch(tiny(tiny_records, sampled_centres=17)))
    assert arc["negatives"] == 16


def record(extra=()):
    """Three repeats of all rows at two lengths; accuracies grow by a point a row."""
    rows = ["batch-64", "batch-1024", "batch-4096", "queue-4096", "centres-64", "centres-all"]
    assert set(extra).isdisjoint(rows)
    rows += extra
    lines = []
    for images in (1000, 4000):
        for row in rows:
            for repeat in range(3):
                for benchmark in ("cfp_ff", "cfp_fp"):
                    value = 0.8 + 0.01 * rows.index(row) + 0.1 * repeat + (images > 1000) / 20
                    lines.append({"run": row, "row": row, "seed": repeat, "data_seed": repeat,
                                  "benchmark": benchmark, "best.accuracy": value,
                                  "images_seen": images, "negatives": 62, "compute": images,
                                  "stranger_cosine": 0.1,
                                  "effective_negatives": 5.0 + rows.index(row)})  # fmt: skip
    return pd.DataFrame(lines)


@pytest.fixture
def published(tmp_path, monkeypatch):
    monkeypatch.setattr("facelib.studies.records.published_root", lambda: tmp_path)
    folder = tmp_path / "made"
    folder.mkdir()
    record().to_csv(folder / "results.csv", index=False)
    about = json.loads((published_root() / "rendered-negatives" / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps(about))
    return study.record_frame("made")[0]


def test_differences_are_paired_by_repeat_and_length(published):
    # Catches: means of unpaired repeats (their spread is ten points), lengths mixed.
    gaps = study.gap(published, "batch-4096", "batch-64")
    assert np.allclose(gaps["difference"], 2)
    longer = study.gap(published, "batch-4096", "batch-1024", (4000, 1000))
    assert np.allclose(longer["difference"], 6)
    lines = study.sentences(published)
    assert lines[0].startswith("More negatives helped") and "N = 4,096, +3.0" in lines[0]
    assert "CFP-FP +2.0 [+2.0, +2.0]" in lines[1] and "+6.0" in lines[2]


def test_the_verdict_follows_the_intervals(published):
    # Catches: a gain claimed from means alone, a loss that is not counted.
    worse = published.copy()
    worse.loc[worse["row"] != "batch-64", "best.accuracy"] -= 0.1
    line = study.verdict(worse)
    assert line.startswith("More negatives did not help: none of")
    gaps = worse[(worse["images_seen"] == 1000) & worse["family"].isin(["batch", "queue"])]
    assert f"and {gaps['row'].nunique() - 1} reduced it" in line


def test_the_ladder_is_told_step_by_step():
    # Catches: steps in another order, a difference with its sign turned.
    frame = record(extra=["identity", "mean", "softmax", "scaled"])
    line = study.ladder_line(frame)
    assert "last feature of each identity +6.0" in line
    assert line.endswith("ArcFace, sampled centres: all -4.0 [-4.0, -4.0]")
    assert (
        line.index("running mean") < line.index("InfoNCE's scale") < line.index("ArcFace's scale")
    )


def test_what_is_left_of_the_answer(published):
    # Catches: the effective number of another row.
    lines = study.sentences(published)
    assert lines[-2].startswith("effective negatives: 5.0 of 62 in a batch of 64, 7.0")


def test_the_table_has_a_line_a_row_and_length(published):
    # Catches: lengths averaged together, rows in alphabetical order.
    table = study.text_table(published)
    assert len(table) == 12
    assert table.index[0] == ("InfoNCE, larger batch, N = 64", 1000)
    assert table.index[2] == ("InfoNCE, larger batch, N = 1,024", 1000)
    assert (table["repeats"] == 3).all()


def test_the_picture_shows_each_family_once(published, themed):
    # Catches: benchmarks or lengths joined into one line.
    found = study.against_negatives(published)
    part = found[(found["label"] == "CFP-FP") & (found["images_seen"] == 1000)]
    ax = plots_negatives.against(part, x="effective_negatives", title="t", note="n")
    labels = ax.get_legend_handles_labels()[1]
    assert labels == [study.FAMILIES[f] for f in ("batch", "queue", "centres")]
    assert ax.get_xscale() == "log"


def test_an_unknown_benchmark_names_the_command(tmp_path, monkeypatch):
    # Catches: a traceback in the notebook on a clone without records.
    monkeypatch.setattr("facelib.studies.records.published_root", lambda: tmp_path)
    with pytest.raises(UserError, match="run_all.py cost --publish"):
        load_bench("cost")


def test_rows_of_large_presets_can_be_made():
    # Catches: settings of InfoNCE that an ArcFace row refuses, chunks as large as the share of a
    # process, columns of one process called those of the joint batch.
    base = make_config("ms1m-infonce", loss="infonce")
    assert not base.gather and base.processes == 2
    larger = study.row_config("chunks-5800", base)
    assert (larger.chunk, larger.gather, larger.global_batch) == (1450, True, 5800)
    assert negatives_per_anchor(study.row_config("batch-5800", base)) == 5798
    huge = make_config("ms1m-infonce-32k", loss="infonce")
    assert study.row_config("batch-32768", huge).chunk == huge.chunk == 512
    assert study.row_config("batch-1024", huge).chunk == 0
    for row in ("softmax", "scaled", "centres-65536", "centres-all"):
        assert study.row_config(row, huge).loss_block == 0
