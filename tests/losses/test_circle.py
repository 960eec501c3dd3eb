"""Circle loss, between images and with centres: naive reference, limit, an independent library.

Precision and state of every loss: test_every_loss.py; ranks: test_distributed.py.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning.losses import CircleLoss

from facelib.config import make_config
from facelib.losses import build_loss
from facelib.losses.circle import Circle
from facelib.losses.circle_pairs import CirclePairs
from tests.losses.test_arcface import example as classified
from tests.losses.test_triplet import example


def naive_circle(positives, negatives, s, m):
    """Equation 6 for one anchor with loops."""
    pull = sum(math.exp(-s * max(1 + m - c, 0) * (c - (1 - m))) for c in positives)
    push = sum(math.exp(s * max(c + m, 0) * (c - m)) for c in negatives)
    return math.log(1 + push * pull)


@pytest.mark.parametrize(("s", "m"), [(8.0, 0.25), (30.0, 0.4)])
def test_pairs_equal_the_equation_written_with_loops(s, m):
    # Catches: weights swapped, a positive counted as its own, a product instead of sums.
    z, labels = example()
    cos = (F.normalize(z) @ F.normalize(z).T).tolist()
    rows, y = range(len(z)), labels.tolist()
    naive = np.mean([
        naive_circle([cos[i][j] for j in rows if j != i and y[j] == y[i]],
                     [cos[i][j] for j in rows if y[j] != y[i]], s, m)
        for i in rows
    ])  # fmt: skip
    assert CirclePairs(s, m)(z, labels)[0].item() == pytest.approx(naive)


def test_centres_equal_the_equation_written_with_loops():
    # Catches: the own centre among the negatives.
    z, labels = classified()
    loss = Circle(5, 6, 8.0, 0.25).double()
    cos = (F.normalize(z) @ F.normalize(loss.weight).T).tolist()
    naive = np.mean([
        naive_circle([row[y]], [c for j, c in enumerate(row) if j != y], 8.0, 0.25)
        for row, y in zip(cos, labels.tolist())
    ])  # fmt: skip
    assert loss(z, labels)[0].item() == pytest.approx(naive)


def test_one_positive_and_one_negative_have_the_closed_form_and_gradient():
    # Catches: weights in the graph. For constant α: dL/dc_n = σ(…)·s·α_n, dL/dc_p = −σ(…)·s·α_p.
    angles = torch.tensor([0.3, 1.2], dtype=torch.float64, requires_grad=True)
    s, m, (c_p, c_n) = 4.0, 0.25, angles.detach().cos().tolist()
    loss = Circle(2, 2, s, m).double()
    loss.weight.data = torch.stack([angles.detach().cos(), angles.detach().sin()], 1)
    z = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    loss(z, torch.tensor([0]))[0].backward()
    a_p, a_n = 1 + m - c_p, c_n + m
    slope = 1 / (1 + math.exp(-s * (a_n * (c_n - m) - a_p * (c_p - 1 + m))))
    # A centre at angle θ has ∂cos θ/∂centre = sin θ along its tangent (z is at angle 0).
    tangents = torch.stack([angles.sin(), -angles.cos()], 1).detach()
    found = (loss.weight.grad * tangents).sum(1).tolist()
    expected = [-slope * s * a_p * math.sin(0.3), slope * s * a_n * math.sin(1.2)]
    assert found == pytest.approx(expected)


def test_pairs_equal_pytorch_metric_learning_in_value_and_gradient():
    # Catches: an error that loss and naive reference share. It knows the form on pairs only, and
    # its mean leaves out anchors without loss; here every anchor has some.
    z, labels = example(seed=1)
    a, b = z.clone().requires_grad_(), z.clone().requires_grad_()
    value, expected = CirclePairs(8.0, 0.4)(a, labels)[0], CircleLoss(m=0.4, gamma=8)(b, labels)
    value.backward(), expected.backward()
    assert value.item() == pytest.approx(expected.item())
    assert torch.allclose(a.grad, b.grad, atol=1e-9)


def test_separated_identities_cost_next_to_nothing():
    # Catches: a positive pushed away. Positives at cosine 1, negatives at 0.
    z = torch.eye(4, dtype=torch.float64).repeat_interleave(2, 0)
    value, _ = CirclePairs(80.0, 0.4)(z, torch.arange(4).repeat_interleave(2))
    assert value.item() == pytest.approx(0, abs=1e-6)


def test_settings_reach_the_losses():
    # Catches: the table building a loss with defaults instead of the config's values.
    centres = build_loss(make_config(loss="circle", dim=16), 9)
    assert (centres.s, centres.m, centres.weight.shape) == (256, 0.25, (9, 16))
    pairs = build_loss(make_config(loss="circle_pairs", s=20.0, gather=False), 9)
    assert (pairs.s, pairs.m, pairs.gather) == (20, 0.4, False)
