"""The campaign of kills in small, and that it sees what it looks for."""

import copy
import json
import subprocess
import sys

import pytest

from facelib.paths import REPO
from tests.faults.kill import HOW, LOSSES, SELECTS, Case, differences, summary
from tests.faults.trees import Tree, make_records, result

RECORD = REPO / "runs" / "published" / "kills"


@pytest.mark.slow
def test_three_killed_trainings_end_as_if_nobody_had_killed_them():
    # Catches: state that a checkpoint leaves out, steps told twice, processes left behind.
    line = [sys.executable, "-m", "tests.faults.kill", "--kills", "3", "--starts", "fork"]
    done = subprocess.run(line, cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["kills"] == 3


def test_another_weight_or_a_step_twice_is_a_fault():
    # Catches: a campaign that finds nothing as it compares nothing.
    whole = {"run": {"weights": {"last.pt": ["digest", 2, None]}, "metrics": [{"step": 1}]}}
    assert differences(copy.deepcopy(whole), whole) == []
    other = copy.deepcopy(whole)
    other["run"]["weights"]["last.pt"][0] = "another"
    assert differences(other, whole) == ["another result"]
    twice = copy.deepcopy(whole)
    twice["run"]["metrics"] *= 2
    assert differences(twice, whole) == ["another result", "duplicate rows"]


def test_a_process_of_a_tree_that_its_root_leaves_is_found_and_killed(tmp_path, monkeypatch):
    # Catches: orphans in a session of their own, which are nobody's children.
    code = "import subprocess, sys; subprocess.Popen([sys.executable, '-c',\
        'import time; time.sleep(60)'], start_new_session=True)"
    monkeypatch.setattr("tests.faults.trees.command", lambda *_: [sys.executable, "-c", code])
    tree = Tree("train", tmp_path, None)
    assert tree.wait(20) and tree.code == 0
    assert len(tree.clear(0.2)) == 1
    assert tree.clear(5) == []


def test_a_result_is_weights_and_metrics_of_each_run(tmp_path):
    # Catches: an empty result, which equals every other.
    from facelib.runs.folder import create_run
    from facelib.training.train import train

    cfg = Case("fork", "infonce", "val_auc").config(make_records(tmp_path / "records"))
    run = create_run(cfg.replace(images_seen=64), tmp_path / "runs")
    train(run)
    found = result(tmp_path / "runs")[run.name]
    assert set(found["weights"]) == {"last.pt", "best.pt"}
    assert [row["step"] for row in found["metrics"] if "loss" in row] == [1, 2, 3, 4]


def test_the_record_covers_losses_selects_signals_and_starts():
    # Catches: a committed summary that is not that of its kills, or a campaign that left kinds out.
    import csv

    rows = list(csv.DictReader((RECORD / "kills.csv").open()))
    kept = json.loads((RECORD / "summary.json").read_text())
    assert kept == summary(rows)
    assert set(kept["signal"]) == {"SIGKILL", "SIGTERM", "SIGINT"}
    assert set(kept["loss"]) == set(LOSSES) and set(kept["select"]) == set(SELECTS)
    assert set(HOW) <= set(kept["start"]) <= {*HOW, *(f"long {how}" for how in HOW)}
