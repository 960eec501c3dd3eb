"""InfoNCE: naive reference, closed form, gradients, precision. Ranks: tests/test_distributed.py."""

import math

import numpy as np
import pytest
import torch

from facelib.losses.infonce import InfoNCE


def naive_infonce(z, tau):
    """The definition with loops, in float64 NumPy; images 2k and 2k+1 are partners."""
    f = z / np.linalg.norm(z, axis=1, keepdims=True)
    total = 0.0
    for i in range(len(f)):
        partner = i + 1 if i % 2 == 0 else i - 1
        below = sum(math.exp(f[i] @ f[j] / tau) for j in range(len(f)) if j != i)
        total -= math.log(math.exp(f[i] @ f[partner] / tau) / below)
    return total / len(f)


def example(pairs=4, dim=6, seed=0):
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(2 * pairs, dim, generator=g, dtype=torch.float64)
    return z, torch.arange(pairs).repeat_interleave(2)


@pytest.mark.parametrize("tau", [0.07, 0.5, 1 / 32])
def test_loss_equals_the_definition_written_with_loops(tau):
    # Catches: own image left in the sum, a wrong partner, τ multiplied instead of divided.
    z, labels = example()
    assert InfoNCE(tau)(z, labels)[0].item() == pytest.approx(naive_infonce(z.numpy(), tau))


def test_one_pair_has_no_negative_and_no_loss():
    # Catches: own image counted as a negative: the loss would be log 2 or more.
    z, labels = example(pairs=1)
    assert InfoNCE()(z, labels)[0].item() == pytest.approx(0, abs=1e-12)


def test_two_pairs_at_right_angles_have_the_closed_form():
    # Catches: a wrong number of negatives: log(1 + 2·e^{−1/τ}) holds for exactly two of them.
    z = torch.eye(2, dtype=torch.float64).repeat_interleave(2, 0)
    value, logs = InfoNCE(0.5)(z, torch.tensor([0, 0, 1, 1]))
    assert value.item() == pytest.approx(math.log(1 + 2 * math.exp(-2)))
    assert logs["positive_cosine"].item() == pytest.approx(1)
    assert logs["negative_cosine"].item() == pytest.approx(0, abs=1e-12)


def test_gradient_passes_a_numeric_check():
    # Catches: a detached column side, which halves the gradient.
    z, labels = example(seed=1)
    assert torch.autograd.gradcheck(lambda x: InfoNCE(0.3)(x, labels)[0], z.requires_grad_())


def test_bf16_embeddings_give_a_finite_fp32_loss():
    # Catches: similarities divided by τ in half precision.
    z, labels = example()
    value, _ = InfoNCE(0.01)(z.bfloat16().float(), labels)
    assert value.dtype == torch.float32
    assert value.isfinite()
