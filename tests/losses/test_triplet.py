"""Triplet loss: naive reference, limits, gradients, precision, an independent implementation."""

import numpy as np
import pytest
import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.reducers import MeanReducer

from facelib.config import make_config
from facelib.losses import build_loss
from facelib.losses.triplet import Triplet


def naive_triplets(z, labels):
    """Semi-hard triplets (a, p, n) and squared distances, with loops in float64 NumPy."""
    f = z / np.linalg.norm(z, axis=1, keepdims=True)
    d = ((f[:, None] - f[None]) ** 2).sum(2)
    triplets = []
    for a in range(len(f)):
        others = [n for n in range(len(f)) if labels[n] != labels[a]]
        for p in range(len(f)):
            if p == a or labels[p] != labels[a]:
                continue
            farther = [n for n in others if d[a, n] > d[a, p]]
            pick, among = (np.argmin, farther) if farther else (np.argmax, others)
            n = among[pick(d[a, among])]
            triplets.append((a, p, n))
    return triplets, d


def example(identities=4, images=3, dim=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(identities * images, dim, generator=g, dtype=torch.float64)
    return z, torch.arange(identities).repeat_interleave(images)


@pytest.mark.parametrize("m", [0.0, 0.2, 1.5])
def test_loss_equals_the_definition_written_with_loops(m):
    # Catches: distances instead of their squares, a negative nearer than the positive, a sum.
    z, labels = example()
    triplets, d = naive_triplets(z.numpy(), labels.tolist())
    naive = np.mean([max(d[a, p] - d[a, n] + m, 0) for a, p, n in triplets])
    assert Triplet(m)(z, labels)[0].item() == pytest.approx(naive)


def test_values_and_gradients_equal_pytorch_metric_learning_on_the_same_triplets():
    # Catches: an error shared by loss and naive reference. Its own semi-hard miner keeps every
    # negative inside the margin; here each pair has one, so the triplets are handed over.
    z, labels = example(seed=1)
    triplets, _ = naive_triplets(z.numpy(), labels.tolist())
    mine, theirs = z.clone().requires_grad_(), z.clone().requires_grad_()
    value, _ = Triplet(0.2)(mine, labels)
    distance = LpDistance(normalize_embeddings=True, p=2, power=2)
    other = TripletMarginLoss(margin=0.2, distance=distance, reducer=MeanReducer())
    expected = other(theirs, labels, tuple(torch.tensor(triplets).T))
    value.backward(), expected.backward()
    assert value.item() == pytest.approx(expected.item())
    assert torch.allclose(mine.grad, theirs.grad, atol=1e-9)


def test_far_identities_cost_nothing_and_equal_embeddings_cost_the_margin():
    # Catches: a margin left out, or a loss that never ends.
    far = torch.eye(2, dtype=torch.float64).repeat_interleave(2, 0)
    labels = torch.tensor([0, 0, 1, 1])
    value, logs = Triplet(0.5)(far, labels)
    assert (value.item(), logs["active_triplets"].item()) == (0, 0)
    assert Triplet(0.5)(torch.ones(4, 3), labels)[0].item() == pytest.approx(0.5)


def test_a_pair_without_a_farther_negative_takes_the_farthest():
    # Catches: hard pairs dropped: 0° and 90° are one person, others stand at 30° and 60°.
    angles = torch.tensor([0.0, 90.0, 30.0, 60.0], dtype=torch.float64).deg2rad()
    z = torch.stack([angles.cos(), angles.sin()], 1)
    value, logs = Triplet(0.2)(z, torch.tensor([0, 0, 1, 2]))
    assert value.item() == pytest.approx(2 - (2 - 2 * np.cos(np.pi / 3)) + 0.2)
    assert logs["semi_hard_triplets"].item() == 0


def test_gradient_passes_a_numeric_check():
    # Catches: a detached side of the distances.
    z, labels = example(seed=2)
    assert torch.autograd.gradcheck(lambda x: Triplet(0.5)(x, labels)[0], z.requires_grad_())


def test_bf16_embeddings_give_a_finite_fp32_loss():
    # Catches: small differences of squared distances lost in half precision.
    z, labels = example()
    value, logs = Triplet()(z.bfloat16().float(), labels)
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert all(v.dtype == torch.float32 for v in logs.values())


def test_settings_reach_the_loss():
    # Catches: the table building a loss with defaults instead of the config's values.
    loss = build_loss(make_config(loss="triplet", m=0.4, gather=False), 9)
    assert (loss.m, loss.gather) == (0.4, False)
