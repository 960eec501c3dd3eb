"""Center loss: naive steps, limits, gradients, precision, state."""

import numpy as np
import pytest
import torch

from facelib.config import make_config
from facelib.losses import build_loss
from facelib.losses.arcface import ArcFace
from facelib.losses.center import CenterLoss, CenterSoftmax
from tests.losses.test_arcface import example, naive_arcface


def naive_step(z, labels, centres, alpha):
    """(loss, new centres) of one step: equations 2 and 4 with loops, in float64 NumPy."""
    f = z / np.linalg.norm(z, axis=1, keepdims=True)
    loss = np.mean([((f[i] - centres[y]) ** 2).sum() for i, y in enumerate(labels)])
    moved = centres.copy()
    for k in range(len(centres)):
        own = [i for i, y in enumerate(labels) if y == k]
        moved[k] -= alpha * sum(centres[k] - f[i] for i in own) / (1 + len(own))
    return loss, moved


def test_loss_and_centres_equal_the_equations_written_with_loops_step_after_step():
    # Catches: centres moved before the loss, a division by n instead of 1 + n, stale centres.
    loss, centres = CenterLoss(5, 6, 0.5).double(), np.zeros((5, 6))
    for seed in range(4):
        z, labels = example(seed)
        naive, centres = naive_step(z.numpy(), labels.tolist(), centres, 0.5)
        assert loss(z, labels)[0].item() == pytest.approx(naive)
        assert np.allclose(loss.centres, centres)


def test_the_centres_stay_in_eval_mode_and_at_rate_zero():
    # Catches: a validation that moves the centres.
    z, labels = example()
    still, frozen = CenterLoss(5, 6).double().eval(), CenterLoss(5, 6, 0.0).double()
    for loss in (still, frozen):
        assert loss(z, labels)[0].item() == pytest.approx(1)  # unit vectors, centres at 0
        assert not loss.centres.any()


def test_weight_zero_without_margin_is_a_plain_softmax():
    # Catches: a control with a trace of the centre loss; the weight on the classifier.
    z, labels = example()
    arc = ArcFace(5, 6, 8.0, 0.0).double()
    naive = naive_arcface(z.numpy(), arc.weight.detach().numpy(), labels.tolist(), 8.0, 0.0)
    for weight, extra in ((0.0, 0.0), (0.5, 0.5)):
        joint = CenterSoftmax(arc, CenterLoss(5, 6).double(), weight)
        assert joint(z, labels)[0].item() == pytest.approx(naive + extra)


def test_gradient_passes_a_numeric_check_and_the_centres_carry_none():
    # Catches: centres in the graph; a loss detached from the embeddings.
    z, labels = example(3)
    loss = CenterLoss(5, 6).double().eval()
    loss.centres.normal_()
    assert torch.autograd.gradcheck(lambda x: loss(x, labels)[0], z.requires_grad_())
    assert not list(loss.parameters())


def test_bf16_embeddings_give_a_finite_fp32_loss_and_fp32_centres():
    # Catches: centres kept in half precision, where small moves round to nothing.
    z, labels = example()
    loss = CenterLoss(5, 6)
    value, _ = loss(z.bfloat16().float(), labels)
    assert (value.dtype, loss.centres.dtype) == (torch.float32, torch.float32)
    assert value.isfinite()


def test_settings_reach_the_loss():
    # Catches: the table building a loss with defaults instead of the config's values.
    cfg = make_config(loss="center", s=20.0, center_weight=0.3, center_alpha=0.1, dim=16)
    loss = build_loss(cfg, 9)
    assert (loss.weight, loss.center.alpha, loss.center.centres.shape) == (0.3, 0.1, (9, 16))
    assert (loss.classifier.s, loss.classifier.m) == (20, 0)
