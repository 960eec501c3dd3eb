"""ArcFace: naive reference, limit, gradients, precision. Two ranks: tests/test_distributed.py."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from facelib.losses.arcface import ArcFace


def naive_arcface(z, w, labels, s, m):
    """Equation 3 with loops and angles, in float64 NumPy."""
    total = 0.0
    for i, y in enumerate(labels):
        logits = []
        for j in range(len(w)):
            cosine = z[i] @ w[j] / np.linalg.norm(z[i]) / np.linalg.norm(w[j])
            if j == y:
                theta = math.acos(cosine)
                inside = theta + m < math.pi
                cosine = math.cos(theta + m) if inside else cosine - m * math.sin(math.pi - m)
            logits.append(s * cosine)
        total += math.log(sum(math.exp(v) for v in logits)) - logits[y]
    return total / len(labels)


def example(seed=0, batch=8, classes=5, dim=6):
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(batch, dim, generator=g, dtype=torch.float64)
    return z, torch.randint(classes, (batch,), generator=g)


@pytest.mark.parametrize(("s", "m"), [(32.0, 0.2), (64.0, 0.5), (16.0, 1.5)])
def test_loss_equals_the_equation_written_with_loops(s, m):
    # Catches: margin on the wrong class, scale before the margin, a sum instead of a mean.
    z, labels = example()
    loss = ArcFace(5, 6, s, m).double()
    value, _ = loss(z, labels)
    naive = naive_arcface(z.numpy(), loss.weight.detach().numpy(), labels.tolist(), s, m)
    assert value.item() == pytest.approx(naive, rel=1e-9)


def test_angles_beyond_pi_minus_m_take_the_hard_branch():
    # Catches: the branch left out, or compared with the wrong bound: t must keep falling with θ.
    loss = ArcFace(2, 2, m=0.5)
    theta = torch.linspace(0.01, math.pi - 0.01, 500, dtype=torch.float64)
    t = loss.margin(theta.cos())
    assert (t.diff() < 0).all()
    last = theta[-1].cos() - 0.5 * math.sin(math.pi - 0.5)
    assert t[-1].item() == pytest.approx(last.item(), rel=1e-9)


def test_no_margin_is_a_plain_softmax_over_cosines():
    # Catches: a margin that acts at m=0.
    z, labels = example(1)
    loss = ArcFace(5, 6, 20.0, 0.0).double()
    plain = F.cross_entropy(20 * F.normalize(z) @ F.normalize(loss.weight).T, labels)
    assert loss(z, labels)[0].item() == pytest.approx(plain.item(), rel=1e-6)


def test_exact_gradient_passes_a_numeric_check():
    # Catches: a detach, or a wrong derivative, anywhere between z and the loss.
    z, labels = example(2)
    loss = ArcFace(5, 6, 8.0, 0.3).double()
    assert torch.autograd.gradcheck(lambda x: loss(x, labels)[0], z.requires_grad_())


def test_straight_through_gradient_lacks_the_factor_of_the_margin():
    # Catches: variants swapped. Same value; exact gradient of t = sin(θ+m)/sin θ times the other.
    theta = torch.tensor([0.4, 1.2, 2.0], dtype=torch.float64)
    slopes = {}
    for gradient in ("exact", "straight_through"):
        cosine = theta.cos().requires_grad_()
        t = ArcFace(2, 2, m=0.3, gradient=gradient).margin(cosine)
        assert torch.allclose(t, (theta + 0.3).cos(), atol=1e-12)
        slopes[gradient] = torch.autograd.grad(t.sum(), cosine)[0]
    assert torch.allclose(slopes["straight_through"], torch.ones(3, dtype=torch.float64))
    assert torch.allclose(slopes["exact"], (theta + 0.3).sin() / theta.sin(), atol=1e-9)


def test_bf16_embeddings_give_a_finite_fp32_loss():
    # Catches: margin arithmetic in half precision.
    z, labels = example(3)
    value, logs = ArcFace(5, 6)(z.bfloat16(), labels)
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert all(v.dtype == torch.float32 for v in logs.values())


def test_an_embedding_on_its_centre_has_finite_gradients():
    # Catches: the unclamped square root, whose slope is infinite at cos θ = ±1.
    loss = ArcFace(2, 3)
    z = torch.cat([loss.weight[:1], -loss.weight[:1]]).detach().requires_grad_()
    loss(z, torch.tensor([0, 0]))[0].backward()
    assert z.grad.isfinite().all()
    assert loss.weight.grad.isfinite().all()
