"""CoReFace: naive restatement, limits, gradients, precision. Ranks: tests/test_distributed.py."""

import math

import numpy as np
import pytest
import torch

from facelib.config import make_config
from facelib.losses import build_loss
from facelib.losses.arcface import ArcFace
from facelib.losses.coreface import CoReFace
from tests.losses.test_arcface import naive_arcface

LABELS = [0, 1, 1, 2, 0, 1]


def naive_contrastive(x1, x2, labels, mask, before, s):
    """(L_con, new margin) of one step with loops, in float64 NumPy; `before` is the last margin."""
    x1, x2 = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (x1, x2))
    rows = range(len(labels))
    gaps = []
    for i in rows:
        below = [x1[i] @ x2[j] for j in rows if labels[j] != labels[i]]
        if mask == "zero":
            below.append(0.0)  # masked columns, and the published code's own column
        gaps.append(x1[i] @ x2[i] - max(below))
    margin = 0.99 * sum(gaps) / len(gaps) + 0.01 * before
    total = 0.0
    for i in rows:
        above = math.exp(s * (x1[i] @ x2[i] - margin))
        below = 0.0
        for j in rows:
            if labels[j] != labels[i]:
                below += math.exp(s * (x1[i] @ x2[j]))
            elif j != i:
                below += 1.0 if mask == "zero" else 0.0
        total -= math.log(above / (above + below))
    return total / len(labels), margin


def build(mask="zero", weight=0.05, warmup=0.0, scale=8.0):
    torch.manual_seed(0)
    return CoReFace(ArcFace(3, 5, 8.0, 0.2), weight, mask, warmup, scale).double()


def example(seed=0):
    """Two views (12, 5) that are close to each other, and their labels."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(6, 5, generator=g, dtype=torch.float64)
    noise = torch.randn(12, 5, generator=g, dtype=torch.float64)
    return x.repeat(2, 1) + 0.3 * noise, torch.tensor(LABELS * 2)


@pytest.mark.parametrize("mask", ["zero", "clean"])
def test_loss_and_margin_equal_the_definition_written_with_loops_step_after_step(mask):
    # Catches: masks swapped, rows and columns swapped, a margin that forgets its last value.
    loss, margin = build(mask), 0.0
    w = loss.arcface.weight.detach().numpy()
    for seed in range(3):
        z, labels = example(seed)
        x1, x2 = z.numpy()[:6], z.numpy()[6:]
        contrastive, margin = naive_contrastive(x1, x2, LABELS, mask, margin, 8.0)
        arc = sum(0.5 * naive_arcface(x, w, LABELS, 8.0, 0.2) for x in (x1, x2))
        value, logs = loss(z, labels)
        assert logs["contrastive"].item() == pytest.approx(contrastive)
        assert loss.margin.item() == pytest.approx(margin)
        assert value.item() == pytest.approx(arc + 0.05 * contrastive)


def test_weight_zero_is_the_mean_of_two_arcface_terms():
    # Catches: a control that is trained with a trace of the contrastive term.
    z, labels = example()
    loss = build(weight=0.0)
    terms = [loss.arcface(x, labels[:6])[0] for x in z.chunk(2)]
    assert loss(z, labels)[0].item() == pytest.approx(torch.stack(terms).mean().item())


def test_the_contrastive_term_waits_for_the_end_of_the_warm_up():
    # Catches: a term that is on from the first step, or never.
    z, labels = example()
    loss = build(warmup=0.3)
    for progress, extra in ((0.0, 0.0), (0.29, 0.0), (0.3, 0.05), (1.0, 0.05)):
        loss.after_step(progress)
        value, logs = loss(z, labels)
        assert (value - logs["arcface"]).item() == pytest.approx(extra * logs["contrastive"].item())


def test_in_fp32_the_masks_agree_bit_for_bit_once_negatives_are_positive():
    # Catches: own images masked by a value that the softmax at scale 64 still sees.
    x, labels = example()
    found = []
    for centre in (3.0, 0.0):  # all images near one direction, as in training; or none
        z = (x + centre).float()
        for mask in ("zero", "clean"):
            loss = build(mask, weight=1.0, scale=64.0).float()
            found.append((loss(z, labels)[0].item(), loss.margin.item()))
    assert found[0] == found[1]
    assert found[2] != found[3]


def test_a_batch_of_one_identity_has_no_clean_negative_and_no_contrastive_loss():
    # Catches: an infinite margin where a row has no negative, which would never leave the buffer.
    z, _ = example()
    loss = build("clean")
    _, logs = loss(z, torch.zeros(12, dtype=torch.int64))
    assert logs["contrastive"].item() == pytest.approx(0, abs=1e-12)
    assert 0 < loss.margin.item() <= 2


@pytest.mark.parametrize("mask", ["zero", "clean"])
def test_gradient_passes_a_numeric_check(mask):
    # Catches: a detached view. In eval mode, because the margin of a training step is a constant
    # for the gradient but not for finite differences.
    z, labels = example(seed=1)
    loss = build(mask, weight=1.0).eval()
    loss.margin.fill_(0.4)
    assert torch.autograd.gradcheck(lambda x: loss(x, labels)[0], z.requires_grad_())


def test_the_margin_is_a_constant_for_the_gradient():
    # Catches: a margin in the graph, whose gradient pushes the hardest negative up.
    z, labels = example(seed=2)
    loss, z = build(weight=1.0), z.requires_grad_()
    (training,) = torch.autograd.grad(loss(z, labels)[0], z)
    (constant,) = torch.autograd.grad(loss.eval()(z, labels)[0], z)
    assert torch.allclose(training, constant, atol=1e-12)


def test_bf16_embeddings_give_a_finite_fp32_loss():
    # Catches: logits of 64 · cosine in half precision.
    z, labels = example()
    value, _ = CoReFace(ArcFace(3, 5), warmup=0.0)(z.bfloat16().float(), labels)
    assert value.dtype == torch.float32
    assert value.isfinite()


def test_settings_reach_the_loss():
    # Catches: the table building a loss with defaults instead of the config's values.
    cfg = make_config(
        loss="coreface", dropout=0.4, s=20.0, dim=16, coreface_weight=0.1, coreface_mask="clean",
        coreface_warmup=0.5, gather=False,
    )  # fmt: skip
    loss = build_loss(cfg, 9)
    assert (loss.weight, loss.masked, loss.warmup, loss.gather) == (0.1, -math.inf, 0.5, False)
    assert (loss.arcface.s, loss.arcface.weight.shape) == (20, (9, 16))
