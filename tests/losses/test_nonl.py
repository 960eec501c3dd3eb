"""NONL: naive loops, the authors' own figures, closed form, gradients, precision, two ranks."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from facelib.losses.nonl import NONL, ROW, build
from tests.losses.two_ranks import CLASSES, DIM, compare_with_one_process

LABELS = torch.tensor([0, 2, 1, 2, 0, 3])
NEGATIVES = ("images", "centres", "both")


def table(rows, columns, start=0.0):
    """Numbers that anyone can make again."""
    i, j = torch.arange(rows, dtype=torch.float64)[:, None], torch.arange(columns)
    return torch.sin(start + 3 * i + 5 * j + i * j)


def example(negatives):
    """(loss with 4 centres in float64, its embeddings)."""
    loss = NONL(4, 4, 0.2, negatives=negatives).double()
    loss.weight.data = table(4, 4, 1.0)
    return loss, table(6, 4)


def naive_nonl(z, w, labels, tau, negatives):
    """The definition with loops, in float64 NumPy."""
    f = z / np.linalg.norm(z, axis=1, keepdims=True)
    w = w / np.linalg.norm(w, axis=1, keepdims=True)
    total = 0.0
    for i, y in enumerate(labels):
        below = 0.0
        if negatives != "centres":
            below += sum(math.exp(w[y] @ f[j] / tau) for j in range(len(f)) if labels[j] != y)
        if negatives != "images":
            below += sum(math.exp(w[k] @ f[i] / tau) for k in range(len(w)) if k != y)
        total += math.log(below) - w[y] @ f[i] / tau
    return total / len(labels)


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_loss_equals_the_definition_written_with_loops(negatives):
    # Catches: the target in the sum, images of the own identity in it, the variants swapped.
    loss, z = example(negatives)
    naive = naive_nonl(z.numpy(), loss.weight.detach().numpy(), LABELS.tolist(), 0.2, negatives)
    assert loss(z, LABELS)[0].item() == pytest.approx(naive, rel=1e-12)


# Figures of class NONL in losses.py of pakoromilas/nc_by_design at 4ee8435, given the unit vectors
# of the same tables: value, gradient at the first image and its norm over all, the same at W.
AUTHORS = {
    "images": (  # symmetric=True
        2.560218532793493,
        ([-0.82876712, -0.14779405, 0.42676955, 0.13908971], 2.4384172875726358),
        ([0.61893505, -0.06653962, 0.45663456, 0.28752012], 1.5249631092347251),
    ),
    "centres": (  # symmetric=False
        2.026390962564881,
        ([-0.82957193, -0.16766558, 0.5028743, 0.17345494], 2.2027614608178263),
        ([0.48619342, 0.03378817, 0.45110463, -0.17861377], 1.5460204559920683),
    ),
    "both": (  # bidirectional=True
        3.102040444071685,
        ([-0.82516524, -0.16669845, 0.50354708, 0.17544393], 2.2620430991723843),
        ([0.54757521, -0.0294345, 0.45586446, 0.04561638], 1.4003302279936019),
    ),
}


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_value_and_gradient_are_those_of_the_authors_code(negatives):
    # Catches: another reading of the paper.
    wanted, *gradients = AUTHORS[negatives]
    loss, z = example(negatives)
    value, _ = loss(z.requires_grad_(), LABELS)
    value.backward()
    assert value.item() == pytest.approx(wanted, rel=1e-12)
    for found, (first, norm) in zip((z.grad, loss.weight.grad), gradients):
        assert found[0].tolist() == pytest.approx(first, abs=1e-7)
        assert found.norm().item() == pytest.approx(norm, rel=1e-9)


@pytest.mark.parametrize(("negatives", "number"), [("images", 2), ("centres", 1), ("both", 3)])
def test_images_on_their_centres_at_right_angles_have_the_closed_form(negatives, number):
    # Catches: a wrong number of negatives: with n of them L = log n − 1/τ, below 0.
    loss = NONL(2, 2, 0.5, negatives=negatives)
    loss.weight.data = torch.eye(2)
    value, logs = loss(torch.eye(2).repeat_interleave(2, 0), torch.tensor([0, 0, 1, 1]))
    assert value.item() == pytest.approx(math.log(number) - 2)
    assert (logs["target_cosine"].item(), logs["negative_cosine"].item()) == (1, 0)


def test_a_batch_of_one_identity_has_attraction_only_and_finite_gradients():
    # Catches: log 0 of an empty sum, whose gradient is NaN.
    loss, z = example("images")
    value, logs = loss(z.requires_grad_(), torch.zeros(6, dtype=torch.int64))
    value.backward()
    assert value.item() == pytest.approx(-logs["target_cosine"].item() / 0.2)
    assert z.grad.isfinite().all()


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_gradient_passes_a_numeric_check(negatives):
    # Catches: detached columns or centres.
    loss, z = example(negatives)
    inputs = z.requires_grad_(), loss.weight
    assert torch.autograd.gradcheck(lambda x, _: loss(x, LABELS)[0], inputs)


def test_bf16_embeddings_give_a_finite_fp32_loss():
    # Catches: cosines divided by τ in half precision.
    value, logs = NONL(4, 4, 0.01, negatives="both")(table(6, 4).bfloat16(), LABELS)
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert all(v.dtype == torch.float32 and v.isfinite() for v in logs.values())


def two_rank_loss():
    return NONL(CLASSES, DIM, negatives="both")


def test_two_ranks_equal_one_process(tmp_path):
    # Catches: images of one rank only, labels in another order than the images.
    compare_with_one_process(two_rank_loss, pairs=False, folder=tmp_path)


def test_settings_reach_the_loss():
    # Catches: a loss built with defaults instead of the configuration's values.
    loss = build(SimpleNamespace(tau=0.3, gather=False, nonl_negatives="both"), 7, 5)
    assert (loss.tau, loss.gather, loss.negatives) == (0.3, False, "both")
    assert loss.weight.shape == (7, 5)
    assert set(ROW.settings) == {"nonl_negatives"}
