"""NTCE: naive loops, the authors' own figures, closed form, gradients, precision, two ranks."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from facelib.losses.ntce import NTCE, ROW, build
from tests.losses.two_ranks import CLASSES, DIM, compare_with_one_process

LABELS = torch.tensor([0, 2, 1, 2, 0, 3])


def table(rows, columns, start=0.0):
    """Numbers that anyone can make again."""
    i, j = torch.arange(rows, dtype=torch.float64)[:, None], torch.arange(columns)
    return torch.sin(start + 3 * i + 5 * j + i * j)


def example(**settings):
    """(loss with 4 centres in float64, its embeddings)."""
    loss = NTCE(4, 4, 0.2, **settings).double()
    loss.weight.data = table(4, 4, 1.0)
    return loss, table(6, 4)


def naive_ntce(z, w, labels, tau, drop_own_identity):
    """The definition with loops, in float64 NumPy."""
    f = z / np.linalg.norm(z, axis=1, keepdims=True)
    w = w / np.linalg.norm(w, axis=1, keepdims=True)
    total = 0.0
    for i, y in enumerate(labels):
        below = 0.0
        for j in range(len(f)):
            if j == i or labels[j] != y or not drop_own_identity:
                below += math.exp(w[y] @ f[j] / tau)
        total -= math.log(math.exp(w[y] @ f[i] / tau) / below)
    return total / len(labels)


@pytest.mark.parametrize("mask", ["none", "identity"])
def test_loss_equals_the_definition_written_with_loops(mask):
    # Catches: images as anchors, the classes in the sum, a masked own image.
    loss, z = example(mask=mask)
    naive = naive_ntce(
        z.numpy(), loss.weight.detach().numpy(), LABELS.tolist(), 0.2, mask == "identity"
    )
    assert loss(z, LABELS)[0].item() == pytest.approx(naive, rel=1e-12)


def test_value_and_gradient_are_those_of_the_authors_code():
    # Figures of class NTCE in losses.py of pakoromilas/nc_by_design at 4ee8435, given the unit
    # vectors of the same tables. Catches: another reading of the paper.
    loss, z = example()
    value, _ = loss(z.requires_grad_(), LABELS)
    value.backward()
    assert value.item() == pytest.approx(3.0525795478155735, rel=1e-12)
    first = [-0.5996568, -0.12345237, 0.21634036, -0.00105761]
    assert z.grad[0].tolist() == pytest.approx(first, abs=1e-7)
    assert z.grad.norm().item() == pytest.approx(1.7753408677874822, rel=1e-9)
    first = [0.4311454, -0.2075918, 0.36447431, 0.19565586]
    assert loss.weight.grad[0].tolist() == pytest.approx(first, abs=1e-7)
    assert loss.weight.grad.norm().item() == pytest.approx(1.3573785763067372, rel=1e-9)


def test_images_on_their_centres_at_right_angles_have_the_closed_form():
    # Catches: a wrong number of negatives; an identity's second image is one of them, but for
    # mask="identity".
    z, labels = torch.eye(2).repeat_interleave(2, 0), torch.tensor([0, 0, 1, 1])
    for mask, same in (("none", 1), ("identity", 0)):
        loss = NTCE(2, 2, 0.5, mask=mask)
        loss.weight.data = torch.eye(2)
        value, logs = loss(z, labels)
        assert value.item() == pytest.approx(math.log(1 + same + 2 * math.exp(-2)))
        assert (logs["target_cosine"].item(), logs["negative_cosine"].item()) == (1, 0)


@pytest.mark.parametrize("mask", ["none", "identity"])
def test_gradient_passes_a_numeric_check(mask):
    # Catches: detached columns or centres.
    loss, z = example(mask=mask)
    inputs = z.requires_grad_(), loss.weight
    assert torch.autograd.gradcheck(lambda x, _: loss(x, LABELS)[0], inputs)


def test_bf16_embeddings_give_a_finite_fp32_loss():
    # Catches: cosines divided by τ in half precision.
    value, logs = NTCE(4, 4, 0.01)(table(6, 4).bfloat16(), LABELS)
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert all(v.dtype == torch.float32 and v.isfinite() for v in logs.values())


def two_rank_loss():
    return NTCE(CLASSES, DIM, mask="identity")


def test_two_ranks_equal_one_process(tmp_path):
    # Catches: images of one rank only, a wrong own column.
    compare_with_one_process(two_rank_loss, pairs=False, folder=tmp_path)


def test_settings_reach_the_loss():
    # Catches: a loss built with defaults instead of the configuration's values.
    loss = build(SimpleNamespace(tau=0.3, gather=False, ntce_mask="identity"), 7, 5)
    assert (loss.tau, loss.gather, loss.mask) == (0.3, False, "identity")
    assert loss.weight.shape == (7, 5)
    assert set(ROW.settings) == {"ntce_mask"}
