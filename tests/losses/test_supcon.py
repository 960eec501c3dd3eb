"""SupCon and DCL: naive references, limits, an independent library.

Gradients, precision and state of every loss: test_every_loss.py; ranks: test_distributed.py.
"""

import math

import numpy as np
import pytest
import torch
from pytorch_metric_learning.losses import NTXentLoss, SupConLoss

from facelib.config import make_config
from facelib.losses import build_loss
from facelib.losses.dcl import DCL
from facelib.losses.infonce import InfoNCE
from facelib.losses.supcon import SupCon
from tests.losses.test_triplet import example


def naive(z, labels, tau, decoupled):
    """SupCon's eq. 2, or DCL's, with loops in float64 NumPy."""
    f = z / np.linalg.norm(z, axis=1, keepdims=True)
    rows, total = range(len(f)), 0.0
    for i in rows:
        partners = [j for j in rows if j != i and labels[j] == labels[i]]
        below = [j for j in rows if j != i and not (decoupled and labels[j] == labels[i])]
        denominator = sum(math.exp(f[i] @ f[j] / tau) for j in below)
        terms = [math.log(math.exp(f[i] @ f[p] / tau) / denominator) for p in partners]
        total -= sum(terms) / len(terms)
    return total / len(f)


@pytest.mark.parametrize("tau", [0.07, 0.5])
@pytest.mark.parametrize(("kind", "decoupled"), [(SupCon, False), (DCL, True)])
def test_loss_equals_the_equation_written_with_loops(kind, decoupled, tau):
    # Catches: own image in the sum, the mean inside the logarithm, positives left in DCL's sum.
    z, labels = example(images=3)
    expected = naive(z.numpy(), labels.tolist(), tau, decoupled)
    assert kind(tau)(z, labels)[0].item() == pytest.approx(expected)


def test_supcon_of_two_images_an_identity_is_infonce():
    # Catches: a factor or a column too many (methods: with 2 views they are equal).
    z, labels = example(images=2, seed=1)
    a, b = z.clone().requires_grad_(), z.clone().requires_grad_()
    value, expected = SupCon(0.1)(a, labels)[0], InfoNCE(0.1)(b, labels)[0]
    value.backward(), expected.backward()
    assert value.item() == pytest.approx(expected.item())
    assert torch.allclose(a.grad, b.grad, atol=1e-10)


def test_dcl_of_two_pairs_at_right_angles_has_the_closed_form():
    # Catches: the positive in the denominator: −1/τ + log 2 holds without it.
    z = torch.eye(2, dtype=torch.float64).repeat_interleave(2, 0)
    value, logs = DCL(0.5)(z, torch.tensor([0, 0, 1, 1]))
    assert value.item() == pytest.approx(-2 + math.log(2))
    assert logs["positive_cosine"].item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("mine", "theirs", "images"),
    [
        (SupCon(0.1), SupConLoss(0.1), 3),
        (InfoNCE(0.1), NTXentLoss(0.1), 2),  # beyond two images its positives are pairs, not images
    ],
    ids=["supcon", "infonce"],
)
def test_values_and_gradients_equal_pytorch_metric_learning(mine, theirs, images):
    # Catches: an error that loss and naive reference share. Its mean leaves out anchors without
    # loss; here every anchor has some.
    z, labels = example(images=images, seed=2)
    a, b = z.clone().requires_grad_(), z.clone().requires_grad_()
    value, expected = mine(a, labels)[0], theirs(b, labels)
    value.backward(), expected.backward()
    assert value.item() == pytest.approx(expected.item())
    assert torch.allclose(a.grad, b.grad, atol=1e-9)


def test_settings_reach_the_losses():
    # Catches: the table building a loss with defaults instead of the config's values.
    for name in ("supcon", "dcl"):
        loss = build_loss(make_config(loss=name, tau=0.2, gather=False), 9)
        assert (loss.tau, loss.gather) == (0.2, False)
