"""Checkpoints of runs with adapters: small, tied to their base weights, exact on resume."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from facelib.config import make_config
from facelib.data.feed import Feed
from facelib.errors import BadData
from facelib.models.foundation import load_foundation
from facelib.models.lora import load_adapters
from facelib.runs.folder import create_run, read_lines
from facelib.training.train import Trainer, make_accelerator, train
from facelib.training.trained import load_model
from tests.models.tiny_foundations import save_tiny


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A folder of tiny DINOv2 weights."""
    return save_tiny("dinov2-vit-b14", tmp_path_factory.mktemp("base"))


def tiny(records, base, **changes):
    settings = {
        "data": str(records), "benchmarks": "", "backbone": "dinov2-vit-b14", "init": str(base),
        "lora_rank": 2, "image_size": 16, "loss": "infonce", "global_batch": 16, "images_seen": 96,
        "val_fraction": 0.25, "log_every": 1, "threads": 1, **changes,
    }  # fmt: skip
    return make_config(**settings)


def checkpoint(run):
    return torch.load(run.path / "checkpoints" / "last.pt", weights_only=True)


def advance(trainer: Trainer, steps: int) -> None:
    trainer._set_mode()
    trainer.metrics.start(0, trainer.steps, trainer.cfg.global_batch)
    for images, labels in trainer.feed.batches(0, steps):
        trainer.train_step(images, labels)
    trainer.metrics.close()


@pytest.mark.parametrize("loss", ["infonce", "arcface"])
def test_three_steps_and_a_resume_equal_six_steps_bit_for_bit(
    tiny_records, runs_folder, base, loss
):
    # Catches: adapters, momentum or class centres not in the checkpoint, or drawn anew.
    whole = create_run(tiny(tiny_records, base, loss=loss, name="whole"))
    train(whole)
    halves = create_run(tiny(tiny_records, base, loss=loss, name="halves"))
    feed = Feed(halves.config, torch.device("cpu"))
    first = Trainer(halves, feed, make_accelerator(halves.config))
    advance(first, 3)
    first.save()
    train(halves)
    lines = read_lines(halves.path / "metrics.jsonl")
    assert [line["step"] for line in lines if "loss" in line] == [4, 5, 6]
    one, two = checkpoint(whole)["learner"], checkpoint(halves)["learner"]
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    moved = [key for key in one if "lora_B" in key and one[key].abs().max() > 0]
    assert len(moved) == 4


def test_a_run_with_adapters_keeps_only_what_trains(tiny_records, runs_folder, base):
    # Catches: 2.5 GB of frozen ViT-H in every checkpoint; an export that differs from the run.
    run = create_run(tiny(tiny_records, base, loss="arcface"))
    train(run)
    state = checkpoint(run)
    assert all("lora_" in k or k.startswith("criterion.") for k in state["learner"])
    assert "criterion.weight" in state["learner"]
    assert run.status["facts"]["trained_parameters"] < run.status["facts"]["parameters"] / 2
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    model, _ = load_model(run.path)
    alone = load_adapters(load_foundation("dinov2-vit-b14", str(base)), run.path / "adapters")
    assert torch.equal(model(x), alone(x))
    assert not torch.allclose(model(x), load_foundation("dinov2-vit-b14", str(base))(x))


def test_other_base_weights_are_refused(tiny_records, runs_folder, base, tmp_path):
    # Catches: adapters evaluated or resumed on weights that they were not trained on.
    folder = tmp_path / "weights"
    shutil.copytree(base, folder)
    run = create_run(tiny(tiny_records, folder))
    train(run)
    other = load_foundation("dinov2-vit-b14", str(folder))
    torch.nn.init.ones_(other.encoder.layernorm.bias)
    other.encoder.save_pretrained(folder)
    with pytest.raises(BadData, match="was trained on base weights .*, init= gives"):
        load_model(run.path)
    with pytest.raises(BadData, match="bring these base weights back, or start a new run"):
        train(run)


def test_a_checkpoint_of_other_adapters_names_the_first_difference(tiny_records, runs_folder, base):
    # Catches: half of the adapters left at zero without a word.
    run = create_run(tiny(tiny_records, base))
    train(run)
    settings = json.loads((run.path / "config.json").read_text()) | {"lora_targets": "all"}
    (run.path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(BadData, match="differ in the tensor 'backbone.*lora_A"):
        load_model(run.path)
