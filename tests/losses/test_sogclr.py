"""SogCLR: naive loops, the authors' own figures, limits, gradients, precision, two ranks."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from facelib.errors import UserError
from facelib.losses.sogclr import ROW, SogCLR, build
from tests.losses.two_ranks import CLASSES, compare_with_one_process

# Two batches of the same three identities, in another order.
BATCHES = ([0, 4, 2], [2, 0, 4])


def table(rows, columns, start=0.0):
    """Numbers that anyone can make again."""
    i, j = torch.arange(rows, dtype=torch.float64)[:, None], torch.arange(columns)
    return torch.sin(start + 3 * i + 5 * j + i * j)


def batch(step):
    return table(6, 4, step), torch.tensor(BATCHES[step]).repeat_interleave(2)


def naive_sogclr(z, labels, u, tau, gamma):
    """Value of a training batch with loops; u {identity: running mean} is moved."""
    f = z / np.linalg.norm(z, axis=1, keepdims=True)
    total, new = 0.0, {}
    for i, y in enumerate(labels):
        others = [math.exp(f[i] @ f[j] / tau) for j in range(len(f)) if labels[j] != y]
        g = sum(others) / len(others)
        mean = (1 - gamma) * u[y] + gamma * g if y in u else g
        new.setdefault(y, []).append(mean)
        total += math.log(mean) - f[i] @ f[i ^ 1] / tau
    u.update({y: sum(means) / 2 for y, means in new.items()})
    return total / len(f)


@pytest.mark.parametrize("gamma", [0.9, 0.3, 1.0])
def test_loss_and_state_equal_the_definition_written_with_loops(gamma):
    # Catches: γ and 1 − γ swapped, the positive in the mean, a mean that starts at 0, one view's u.
    loss, u = SogCLR(5, 0.2, gamma).double(), {}
    for step in (0, 1, 1, 0):
        z, labels = batch(step)
        naive = naive_sogclr(z.numpy(), labels.tolist(), u, 0.2, gamma)
        assert loss(z, labels)[0].item() == pytest.approx(naive, rel=1e-12)
        assert loss.log_u[list(u)].exp().tolist() == pytest.approx(list(u.values()), rel=1e-12)
    assert loss.log_u[[1, 3]].tolist() == [-math.inf, -math.inf]


# Figures of `dynamic_contrastive_loss` in sogclr/builder.py of Optimization-AI/SogCLR at ef289b5
# (T=0.2, gamma=0.9, views = even and odd rows, index = identity): of each batch the gradient at the
# first image, its norm over all, and u of the identities in the batch's order.
AUTHORS = (
    ([0.0865443, -0.0461939, -0.20927389, -0.24319364], 1.218464391077947,
     [28.866806449087903, 31.439966921959556, 10.773234641657465]),
    ([0.36660865, 0.34017489, 0.13685647, 0.26601041], 1.591109048976921,
     [3.5859224696794794, 4.4436272183149335, 4.842755508974292]),
)  # fmt: skip


def test_gradient_and_state_are_those_of_the_authors_code():
    # Their loss is 2τ times ours (a sum over views, and τ·log): so are its gradients.
    # Catches: the gradient of log u with γ in it; u updated after its use, or kept for each view.
    loss = SogCLR(5, 0.2, 0.9).double()
    for step, (first, norm, means) in enumerate(AUTHORS):
        z, labels = batch(step)
        value, _ = loss(z.requires_grad_(), labels)
        (gradient,) = torch.autograd.grad(2 * 0.2 * value, z)
        assert gradient[0].tolist() == pytest.approx(first, abs=1e-7)
        assert gradient.norm().item() == pytest.approx(norm, rel=1e-9)
        assert loss.log_u[labels[::2]].exp().tolist() == pytest.approx(means, rel=1e-9)


def test_two_pairs_at_right_angles_have_the_closed_form():
    # Catches: a sum in place of the mean: its logarithm would add log 2.
    z = torch.eye(2, dtype=torch.float64).repeat_interleave(2, 0)
    value, logs = SogCLR(2, 0.5)(z, torch.tensor([0, 0, 1, 1]))
    assert value.item() == pytest.approx(-2)
    assert (logs["positive_cosine"].item(), logs["negative_cosine"].item()) == (1, 0)


def test_negatives_weigh_what_they_are_of_the_remembered_mean():
    # Catches: a running mean that changes the value only. With a u of 10 times the batch's mean the
    # negatives push a tenth (γ near 0); the pull of the positive stays.
    z, labels = batch(0)
    z.requires_grad_()
    f = torch.nn.functional.normalize(z).unflatten(0, (3, 2))
    (pull,) = torch.autograd.grad(-f.prod(1).sum() / 3 / 0.2, z)
    pushes = []
    for larger in (1, 10):
        loss = SogCLR(5, 0.2, 1e-9).double()
        loss(z, labels)  # the first sight: u = g of each image, then their mean
        loss.log_u.fill_(math.log(30.0 * larger))
        pushes.append(torch.autograd.grad(loss(z, labels)[0], z)[0] - pull)
    assert torch.allclose(pushes[0], 10 * pushes[1], rtol=1e-6)


def test_gradient_passes_a_numeric_check_where_the_batch_is_all():
    # Catches: a detached column side. γ = 1 or eval mode: u is the batch's mean, L an exact loss.
    z, labels = batch(0)
    z.requires_grad_()
    alone, still = SogCLR(5, 0.2, 1.0).double(), SogCLR(5, 0.2, 0.9).double().eval()
    assert torch.autograd.gradcheck(lambda x: alone(x, labels)[0], z)
    assert torch.autograd.gradcheck(lambda x: still(x, labels)[0], z)


def test_eval_mode_needs_no_known_identity_and_moves_no_state():
    # Catches: labels of held-out people, which are no rows of u.
    z, labels = batch(0)
    loss = SogCLR(5).double().eval()
    loss(z, labels + 1000)
    assert (loss.log_u == -math.inf).all()


def test_bf16_embeddings_give_a_finite_fp32_loss():
    # Catches: e^{cos/τ} itself, which overflows at τ = 0.01, in the loss or in the state.
    z, labels = batch(0)
    loss = SogCLR(5, 0.01)
    for _ in range(2):
        value, logs = loss(z.bfloat16().float(), labels)
        assert value.dtype == loss.log_u.dtype == torch.float32
        assert value.isfinite()
        assert all(v.dtype == torch.float32 and v.isfinite() for v in logs.values())


def test_a_batch_of_one_identity_is_refused():
    # Catches: the logarithm of an empty mean.
    with pytest.raises(UserError, match="no negatives"):
        SogCLR(5)(torch.ones(2, 4), torch.zeros(2, dtype=torch.int64))


def two_rank_loss():
    return SogCLR(CLASSES, 0.2, 0.6)


def test_two_ranks_equal_one_process(tmp_path):
    # Catches: negatives or running means of one rank only.
    compare_with_one_process(two_rank_loss, pairs=True, folder=tmp_path)


def test_settings_reach_the_loss():
    # Catches: a loss built with defaults instead of the configuration's values.
    loss = build(SimpleNamespace(tau=0.3, gather=False, sogclr_gamma=0.5), 7, 5)
    assert (loss.tau, loss.gamma, loss.gather, len(loss.log_u)) == (0.3, 0.5, False, 7)
    assert set(ROW.settings) == {"sogclr_gamma"}
