"""Optimisers, number of steps and learning rate, against their definitions."""

import math
from types import SimpleNamespace

import pytest
import torch

from facelib.config import make_config
from facelib.training.schedule import build_optimizer, learning_rate, total_steps


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_the_optimiser_has_the_settings_of_the_run(name: str):
    # Mutation: a setting that is not handed on; another optimiser; fused on a CPU.
    own = {"momentum": 0.7} if name == "sgd" else {}
    cfg = make_config(optimizer=name, lr=0.03, weight_decay=0.002, **own)
    weight = torch.nn.Parameter(torch.zeros(2))
    optimiser = build_optimizer(cfg, [weight])
    group = optimiser.param_groups[0]
    assert type(optimiser).__name__.lower() == name and group["params"] == [weight]
    assert (group["lr"], group["weight_decay"]) == (0.03, 0.002)
    assert group.get("momentum", 0.7) == 0.7 and not group["fused"]


@pytest.mark.parametrize("devices", [("cuda", "cuda"), ("cuda", "cpu")])
@pytest.mark.parametrize("fused", [True, False])
def test_fused_kernels_are_asked_for_where_all_parameters_are_on_cuda(monkeypatch, fused, devices):
    # Mutation: fused although the run says no, or where one parameter is elsewhere (an error).
    monkeypatch.setattr(torch.optim, "SGD", lambda parameters, **settings: settings)
    parameters = [SimpleNamespace(device=torch.device(name)) for name in devices]
    settings = build_optimizer(make_config(optimizer="sgd", fused=fused), parameters)
    assert settings.get("fused") == (True if fused and "cpu" not in devices else None)


def test_the_length_is_in_images_or_in_epochs_and_at_least_one_step():
    images = make_config(images_seen=1000, global_batch=64, epochs=0.0)
    assert total_steps(images, 9) == 16
    assert total_steps(images.replace(images_seen=3), 9) == 1
    epochs = images.replace(images_seen=0, epochs=2.5)
    assert total_steps(epochs, 9) == round(22.5) and total_steps(epochs, 0) == 1


def test_the_rate_rises_linearly_and_falls_as_a_cosine():
    # Mutation: warm-up from 0, a cosine that starts at step 0 or ends above 0.
    cfg = make_config(lr=0.2, warmup=0.15, schedule="cosine")
    rates = [learning_rate(cfg, step, 30) for step in range(31)]  # warm-up of 4.5 steps
    assert rates[:5] == pytest.approx([0.04, 0.08, 0.12, 0.16, 0.2])
    for step in (5, 12, 29, 30):
        share = (step - 4.5) / 25.5
        assert rates[step] == pytest.approx(0.1 * (1 + math.cos(math.pi * share)), abs=1e-12)
    assert learning_rate(cfg.replace(warmup=1.0), 30, 30) == pytest.approx(0.2)
    assert learning_rate(cfg.replace(warmup=0.0), 1, 1) == pytest.approx(0)  # also of one step


def test_each_drop_takes_a_tenth():
    cfg = make_config(lr=1.0, warmup=0.0, schedule="steps", drops="0.5,0.8")
    rates = [learning_rate(cfg, step, 10) for step in (0, 4, 5, 7, 8, 9)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize(
    ("preset", "theirs"),
    [
        ("ms1m-lora-dinov2", [0.0002, 0.0004, 0.0006, 0.0008, 0.001, 0.001, 0.000975528,
                              0.000904508, 0.000793893, 0.000654508, 0.0005, 0.000345492,
                              0.000206107, 0.000095492, 0.000024472]),
        ("ms1m-lora-ijepa", [0.0002, 0.0004, 0.0006, 0.0008, 0.001]),
    ],
)  # fmt: skip
def test_source_a_s_lora_warms_up_as_its_code(preset, theirs):
    # Catches: half of its warm-up, 15 epochs for I-JEPA. `theirs`, a rate for each epoch, is of
    # cosine_lr in enazari/ArcFace-vs-InfoNCE 0499ac3 train.py, with the numbers of its settings
    # files; here the rate moves at each step, and meets theirs at the end of a warm-up epoch and
    # at the start of a later one.
    cfg, each = make_config(preset), 100
    assert cfg.epochs == len(theirs)
    steps = [each * e + (each - 1 if e < 5 else 0) for e in range(len(theirs))]
    rates = [learning_rate(cfg, step, each * len(theirs)) for step in steps]
    assert rates == pytest.approx(theirs, abs=1e-9)
