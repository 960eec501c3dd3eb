"""The audit as a command and as frames, on a tiny planted set and a tiny trained run."""

import json

import numpy as np
import pandas as pd
import pytest

from facelib.__main__ import main
from facelib.config import make_config
from facelib.data.checks import score_signals
from facelib.data.datasets import FaceRecords
from facelib.data.locate import train_folder
from facelib.launch import launch
from facelib.overlap import TrainingSet, audit, summary

TINY = {"data_planted": 12, "data_identities": 50, "data_images": 2, "test_identities": 20}
TINY |= {"data_size": 32, "data_seed": 5}
SETTINGS = [f"{key}={value}" for key, value in TINY.items()]
NETWORK = {"width": 4, "image_size": 16, "dim": 8, "global_batch": 16, "images_seen": 160}


@pytest.fixture(scope="module")
def tiny(planted_root, tmp_path_factory):
    """(training folder, a run trained on it), both roots set."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACELIB_DATA", str(planted_root))
        patch.setenv("FACELIB_RUNS", str(tmp_path_factory.mktemp("runs")))
        cfg = make_config(**TINY, **NETWORK, threads=1)
        yield train_folder(cfg), launch(cfg).path


def test_each_signal_finds_what_only_it_can_find(tiny):
    # Catches: a signal that is not joined, ids and labels exchanged, names of other people.
    folder, run = tiny
    truth = pd.read_csv(folder / "planted.csv")
    found = audit(TrainingSet(folder), folder / "lfw.bin", run=run)
    scored = score_signals(found.candidates, list(zip(truth["id"], truth["label"])))
    assert scored.loc["names", "right"] == (truth["name"] == "match").sum() == 6
    copies = pd.read_csv(folder / "copies.csv")
    exact = copies.loc[copies["kind"] == "exact", "record"]
    used = exact.isin(found.images.loc[found.images["bits"] == 0, "row"] + 1)
    assert len(exact) == 4 and used.sum() == 0  # they are copies of cfp_ff's pictures
    again = copies.loc[copies["kind"] == "brighter", "record"]
    assert again.isin(found.images["row"] + 1).sum() >= 3
    row = found.people.loc[truth.loc[0, "id"]]
    assert row["by_name"] and row["label"] == 50
    assert row["train_name"].replace("_", " ") == row["bench_name"]
    assert found.people["similarity"].notna().all() and len(found.people) == 20
    assert summary([found]).loc["lfw", "names"] == 7  # six, and one stranger's namesake


def test_the_sums_of_a_run_are_kept_and_cover_every_image(tiny, monkeypatch):
    # Catches: validation people left out, halves that overlap, embedded again each time.
    folder, run = tiny
    train = TrainingSet(folder)
    halves = train.halves(run)
    assert halves.shape == (2, 62, 8)
    assert (np.linalg.norm(halves, axis=2) > 0).all()
    monkeypatch.setattr(TrainingSet, "_sums", lambda *_: 1 / 0)
    np.testing.assert_array_equal(train.halves(run), halves)


def test_the_command_prints_a_table_and_writes_a_list_that_training_takes(tiny, tmp_path, capsys):
    # Catches: labels of the benchmark in the list, a list that leaves nobody out.
    folder, _ = tiny
    out = tmp_path / "exclude.txt"
    line = ["overlap", "--train", "rendered", "--set", *SETTINGS, "--benchmark", "lfw", "cfp_ff"]
    assert main([*line, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "not searched" in printed and f"exclude={out}" in printed
    assert main([*line, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    labels = set(FaceRecords(folder, 32, exclude=report["labels"]).names)
    kept = FaceRecords(folder, 32, exclude=out)
    assert set(kept.names) == labels and kept.classes == 62 - len(report["labels"]) < 62
    assert report["benchmarks"]["lfw"]["people_by_embeddings"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--benchmark", "lfw"], "give --train FOLDER"),
        (["--train", "/nowhere", "--benchmark", "lfw"], "no train.rec in /nowhere"),
        (["--train", "rendered", "--benchmark", "nothing"], "benchmark 'nothing': no such file"),
        (["--train", "rendered", "--benchmark", "lfw", "--names", "/no.txt"], "no file /no.txt"),
        (["--train", "rendered", "--benchmark", "lfw", "--run", "no"], "run 'no': matching"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(tiny, tmp_path, capsys, arguments, message):
    # Catches: a traceback, or a list written before the check.
    out = tmp_path / "exclude.txt"
    assert main(["overlap", *arguments, "--set", *SETTINGS, "--out", str(out)]) == 2
    assert message in capsys.readouterr().err and not out.exists()
