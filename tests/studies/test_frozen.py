"""Frozen models on benchmarks: plain and centred, cached, and refused in one line."""

import json
import time

import numpy as np
import pytest
import torch
from torch import nn

from facelib.__main__ import main
from facelib.errors import UserError
from facelib.formats.benchmarks import load_benchmark, save_benchmark
from facelib.formats.decode import decode, encode_jpeg
from facelib.models.foundation import load_foundation
from facelib.studies.frozen import evaluate_frozen, frozen_reports
from facelib.studies.source_a import NO_WEIGHTS, results_table
from tests.models.tiny_foundations import save_tiny
from tests.studies.test_results import toy_benchmark


@pytest.fixture
def bench(tmp_path):
    path = tmp_path / "lfw.bin"
    toy_benchmark(path)
    return path


class Offset(nn.Module):
    """Pixels plus a large common vector: a narrow cone of embeddings."""

    def __init__(self, offset=50.0):
        super().__init__()
        self.register_buffer("offset", torch.tensor(offset))
        self.seen = 0

    def forward(self, x):
        self.seen += len(x)
        return x.flatten(1) + self.offset


def test_centring_takes_out_what_all_embeddings_share(bench, tiny_records, runs_folder):
    # Mutation: subtracting the mean from one side only, or the mean of unit vectors.
    plain, centred = evaluate_frozen(Offset(), [bench], tiny_records, bootstrap=0, size=32)
    assert plain.scores("lfw").score.min() > 0.99
    assert centred.scores("lfw").score.min() < 0.5
    free, _ = evaluate_frozen(Offset(0.0), [bench], tiny_records, bootstrap=0, size=32)
    # The training mean is not exactly the offset, so the figures agree closely, not exactly.
    auc = [r.report["benchmarks"]["lfw"]["auc"] for r in (centred, free)]
    assert auc[0] == pytest.approx(auc[1], abs=0.03)
    assert centred.label.endswith(", centred") and not plain.label.endswith(", centred")


def test_embeddings_are_made_once_for_each_weights_and_data(bench, tiny_records, runs_folder):
    model = Offset()
    first = evaluate_frozen(model, [bench], tiny_records, bootstrap=0, size=32)
    seen = model.seen
    again = evaluate_frozen(model, [bench], tiny_records, bootstrap=0, size=32)
    assert model.seen == seen and again[1].report == first[1].report
    model.offset += 1
    evaluate_frozen(model, [bench], tiny_records, bootstrap=0, size=32)
    assert model.seen == 2 * seen  # other weights
    evaluate_frozen(model, [bench], tiny_records, bootstrap=0, size=16)
    assert model.seen == 3 * seen  # another input size


def test_without_training_images_there_is_no_centred_row(bench, runs_folder):
    results = evaluate_frozen(Offset(), [bench], bootstrap=0, size=32)
    assert [r.label for r in results] == ["offset"]
    with pytest.raises(UserError, match="different names"):
        evaluate_frozen(Offset(), [bench, bench], bootstrap=0)


def test_the_verb_evaluates_a_local_folder(bench, tiny_records, runs_folder, tmp_path, capsys):
    folder = save_tiny("dinov2-vit-b14", tmp_path / "weights")
    words = ["frozen", "dinov2-vit-b14", "--weights", str(folder), "--benchmarks", str(bench)]
    assert main([*words, "--bootstrap", "0", "--data", str(tiny_records), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["DINOv2 ViT-B/14, frozen", "DINOv2 ViT-B/14, frozen, centred"]
    assert main([*words, "--bootstrap", "0"]) == 0
    assert "--data DIR" in capsys.readouterr().out
    # What was evaluated here stands in the table of published rows; the others say why not.
    table = results_table(frozen_reports([bench]), "toy")["here strict"]
    accuracy = found["DINOv2 ViT-B/14, frozen"]["benchmarks"]["lfw"]["strict"]["accuracy"]
    assert table["DINOv2 ViT-B/14 frozen", "LFW"] == f"{100 * accuracy:.1f}"
    assert table["CLIP ViT-B/32 frozen", "LFW"] == NO_WEIGHTS


@pytest.mark.parametrize("name", ["clip-vit-b32", "dinov2-vit-b14", "generic-vit"])
def test_missing_weights_end_the_verb_with_one_line(name, runs_folder, tmp_path, monkeypatch,
                                                    capsys):  # fmt: skip
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path / "data"))
    start = time.monotonic()
    assert main(["frozen", name]) == 2
    assert time.monotonic() - start < 10
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and "weights not on this machine" in lines[0]
    assert not (tmp_path / "data").exists() and not runs_folder.exists()  # nothing half-written


@pytest.mark.parametrize("where", ["nowhere", "empty", "other"])
def test_wrong_folders_end_the_verb_with_one_line(where, runs_folder, tmp_path, capsys):
    folder = tmp_path / where
    if where == "empty":
        folder.mkdir()
    if where == "other":
        save_tiny("ijepa-vit-h14", folder)
    capsys.readouterr()
    assert main(["frozen", "dinov2-vit-b14", "--weights", str(folder)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and str(folder) in lines[0]
    assert not runs_folder.exists()


def test_random_weights_are_called_so(bench, runs_folder):
    torch.manual_seed(0)
    model = load_foundation("generic-vit", "scratch")
    (result,) = evaluate_frozen(model, [bench], bootstrap=0)
    assert result.label == "stand-in ViT, random weights"
    assert frozen_reports([bench]) == {}  # not a row of the published table
    assert np.isfinite(result.scores("lfw").score).all()


def test_benchmarks_of_two_sizes_are_refused(bench, runs_folder, tmp_path):
    # Catches: loose crops of 224 pixels shrunk to the tight ones' 112 before the model sees them.
    small, other = load_benchmark(bench), tmp_path / "large.bin"
    sides = [[small.images[i] for i in index] for index in (small.index1, small.index2)]
    larger = [[encode_jpeg(decode(image, 48)) for image in side] for side in sides]
    save_benchmark(other, *larger, small.same, fold=small.fold)
    with pytest.raises(UserError, match=r"several sizes \(lfw 32 px, large 48 px\)"):
        evaluate_frozen(Offset(), [bench, other], bootstrap=0)
