"""Memory that a plan states: what it is made of, and how settings move it."""

import numpy as np
import pytest
import torch

from facelib.config import make_config
from facelib.data.datasets import open_records
from facelib.data.locate import drawn_labels
from facelib.training.learner import build_learner
from facelib.training.plan import memory_parts, plan


def parts(classes=1000, **settings):
    cfg = make_config(**{"global_batch": 64, "width": 4, "image_size": 16, **settings})
    return memory_parts(cfg, build_learner(cfg, classes), classes)


def test_weights_are_state_gradients_and_moments():
    # Catches: a copy that is forgotten: centres alone are 1000 × 128 × 4 bytes, three times in SGD.
    sgd, adam = parts()["weights"], parts(optimizer="adamw")["weights"]
    centres = 1000 * 128 * 4 / 2**20
    assert sgd > 3 * centres
    assert adam - sgd == pytest.approx(sgd / 3, rel=0.02)
    half = parts(sharded=True, processes=2)["weights"]
    assert sgd - half == pytest.approx(3 * centres / 2, rel=1e-6)


def test_activations_are_what_autograd_keeps_of_the_images_embedded_together():
    # Catches: the whole batch counted where chunks are embedded, a tensor counted twice.
    whole = parts()["activations"]
    assert parts(chunk=16)["activations"] == pytest.approx(whole / 4)
    assert parts(processes=2)["activations"] == pytest.approx(whole / 2)
    cfg = make_config(global_batch=64, width=4, image_size=16)
    learner, kept = build_learner(cfg, 10), {}
    own = {p.data_ptr() for p in learner.parameters()}

    def keep(tensor):
        kept[tensor.data_ptr()] = tensor
        return tensor

    images = torch.randn(64, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        learner.embed(images)
    held = sum(t.untyped_storage().nbytes() for p, t in kept.items() if p not in own) / 2**20
    assert whole == pytest.approx(held, rel=0.1)  # a few numbers a layer are counted an image


def test_logits_follow_the_batch_the_centres_and_the_blocks():
    # Catches: the matrix of a whole batch stated where blocks are held, a memory left out.
    assert parts()["logits"] == pytest.approx(4 * 64 * 1000 * 4 / 2**20)
    assert parts(centre_block=32)["logits"] == pytest.approx(2 * 32 * 32 * 4 / 2**20)
    assert parts(sampled_centres=100)["logits"] == pytest.approx(4 * 64 * 100 * 4 / 2**20)
    pairs = parts(loss="infonce")["logits"]
    assert pairs == pytest.approx(4 * 64 * 64 * 4 / 2**20)
    assert parts(loss="infonce", bank="queue", bank_slots=192)["logits"] == 4 * pairs
    assert parts(loss="infonce", loss_block=16)["logits"] == pytest.approx(2 * 256 * 4 / 2**20)


def test_a_plan_of_faces_that_are_not_drawn_draws_none(tmp_path, monkeypatch):
    # Catches: an estimate that first renders for hours.
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path))
    found = plan(make_config("rendered-r50", backbone="iresnet10", width=4, image_size=16))
    assert (found["images"], found["identities"]) == (9900 * 40, 9900)
    assert not list(tmp_path.iterdir())


def test_labels_of_an_embedded_set_are_those_of_its_file(planted_root, monkeypatch):
    # Catches: a plan of another order or number of people than will be drawn.
    monkeypatch.setenv("FACELIB_DATA", str(planted_root))
    cfg = make_config(
        data_identities=50, data_images=2, test_identities=20, data_size=32, data_seed=5
    )
    for one in (cfg, cfg.replace(subset="9x2")):
        assert np.array_equal(drawn_labels(one), open_records(one).labels)
    assert drawn_labels(cfg.replace(data_planted=12)) is None
