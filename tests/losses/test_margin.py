"""CosFace, SphereFace, Sub-center ArcFace: naive references, limits, an independent library.

Gradients, precision and state of every loss: test_every_loss.py; ranks: test_distributed.py.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning import losses as others

from facelib.config import make_config
from facelib.losses import build_loss
from facelib.losses.arcface import ArcFace
from facelib.losses.cosface import CosFace
from facelib.losses.parts.margin import share_of_hard
from facelib.losses.sphereface import SphereFace
from facelib.losses.subcenter import SubCenterArcFace
from tests.losses.test_arcface import example


def naive_softmax(cosines, labels, s, target, negative=lambda cosine, t: cosine):
    """−mean log softmax with loops: `target(i, cosine)`, then `negative(cosine, t)` of each row."""
    total = 0.0
    for i, y in enumerate(labels):
        t = target(i, cosines[i][y])
        row = [s * (t if j == y else negative(c, t)) for j, c in enumerate(cosines[i])]
        total += math.log(sum(math.exp(v) for v in row)) - row[y]
    return total / len(labels)


def cosines_of(z, w):
    """Cosines as lists of Python floats."""
    return (F.normalize(z) @ F.normalize(w).T).tolist()


def psi(theta, m):
    """SphereFace's ψ, segment by segment."""
    k = 0
    while not k * math.pi / m <= theta <= (k + 1) * math.pi / m:
        k += 1
    return (-1) ** k * math.cos(m * theta) - 2 * k


@pytest.mark.parametrize("m", [0.0, 0.35])
def test_cosface_equals_the_equation_written_with_loops(m):
    # Catches: the margin on every class, or after the scale.
    z, labels = example()
    loss = CosFace(5, 6, 16.0, m).double()
    cosines = cosines_of(z, loss.weight.detach())
    naive = naive_softmax(cosines, labels.tolist(), 16.0, lambda i, c: c - m)
    assert loss(z, labels)[0].item() == pytest.approx(naive)


@pytest.mark.parametrize("m", [1.0, 1.7, 4.0])
def test_sphereface_equals_the_equation_written_with_loops(m):
    # Catches: a wrong segment k, a wrong sign; m = 1 is a plain softmax.
    z, labels = example()
    loss = SphereFace(5, 6, 16.0, m).double()
    cosines = cosines_of(z, loss.weight.detach())
    target = (lambda i, c: psi(math.acos(c), m)) if m > 1 else (lambda i, c: c)
    naive = naive_softmax(cosines, labels.tolist(), 16.0, target)
    assert loss(z, labels)[0].item() == pytest.approx(naive)


@pytest.mark.parametrize("m", [1.7, 3.0, 4.0])
def test_psi_falls_without_a_jump(m):
    # Catches: segments that do not meet: a jump would be a wall in the loss.
    theta = torch.linspace(1e-3, math.pi - 1e-3, 4001, dtype=torch.float64)
    steps = SphereFace(2, 2, m=m).margin(theta.cos()).diff()
    assert (steps < 1e-9).all()
    assert steps.abs().max() < 2 * m * math.pi / 4000


def test_subcenter_equals_the_equation_written_with_loops():
    # Catches: the nearest centre of another class, a mean instead of the nearest.
    z, labels = example()
    loss = SubCenterArcFace(5, 6, 16.0, 0.3, subcenters=3).double()
    every = cosines_of(z, loss.weight.detach())
    cosines = [[max(row[3 * j : 3 * j + 3]) for j in range(5)] for row in every]
    naive = naive_softmax(cosines, labels.tolist(), 16.0, lambda i, c: math.cos(math.acos(c) + 0.3))
    assert loss(z, labels)[0].item() == pytest.approx(naive)


def test_one_subcentre_is_arcface():
    # Catches: centres shared between classes.
    z, labels = example(1)
    one, arc = SubCenterArcFace(5, 6, 16.0, 0.3, subcenters=1), ArcFace(5, 6, 16.0, 0.3)
    arc.load_state_dict(one.state_dict())
    assert one.double()(z, labels)[0].item() == pytest.approx(arc.double()(z, labels)[0].item())


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (ArcFace(5, 6, 16.0, 0.3), others.ArcFaceLoss(5, 6, margin=math.degrees(0.3), scale=16)),
        (CosFace(5, 6, 16.0, 0.35), others.CosFaceLoss(5, 6, margin=0.35, scale=16)),
        # It takes whole m only and multiplies by ‖z‖ (the paper's form): z is handed over as unit.
        (SphereFace(5, 6, 16.0, 4.0), others.SphereFaceLoss(5, 6, margin=4, scale=16)),
        (
            SubCenterArcFace(5, 6, 16.0, 0.3, subcenters=3),
            others.SubCenterArcFaceLoss(
                num_classes=5, embedding_size=6, margin=math.degrees(0.3), scale=16, sub_centers=3
            ),
        ),
    ],
    ids=["arcface", "cosface", "sphereface", "subcenter"],
)
def test_values_and_gradients_equal_pytorch_metric_learning(mine, theirs):
    # Catches: an error that loss and naive reference share. Its margins are in degrees.
    z, labels = example(2)
    mine, theirs = mine.double(), theirs.double()
    theirs.W.data = mine.weight.detach().T.clone()
    a, b = z.clone().requires_grad_(), z.clone().requires_grad_()
    value, expected = mine(a, labels)[0], theirs(F.normalize(b), labels)
    value.backward(), expected.backward()
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    assert torch.allclose(a.grad, b.grad, atol=1e-6)
    assert torch.allclose(mine.weight.grad, theirs.W.grad.T, rtol=1e-5, atol=1e-6)


def test_settings_reach_the_losses():
    # Catches: the table building a loss with defaults instead of the config's values.
    cfg = make_config(loss="subcenter", s=20.0, subcenters=2, dim=16, gradient="straight_through")
    loss = build_loss(cfg, 9)
    assert (loss.s, loss.m, loss.gradient, loss.weight.shape) == (20, 0.5, cfg.gradient, (18, 16))
    for name, m in (("cosface", 0.35), ("sphereface", 1.7)):
        loss = build_loss(make_config(loss=name, s=20.0, dim=16), 9)
        assert (loss.s, loss.m, loss.weight.shape) == (20, m, (9, 16))


def test_the_share_of_hard_negatives_is_counted_without_the_labels():
    # Catches: the own class counted, a share of all columns, 0/0 where there is one class.
    hard = torch.tensor([[True, True, False], [True, False, False]])
    assert share_of_hard(hard, torch.tensor([0, 2])).item() == pytest.approx(2 / 4)
    assert share_of_hard(hard[:1, :2], torch.tensor([0])).item() == 1
    assert share_of_hard(hard[:, :1], torch.tensor([0, 0])).item() == 0
