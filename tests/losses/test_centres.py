"""Sums over centres that are normalised inside the block, against autograd on the matrix."""

import pytest
import torch
import torch.nn.functional as F

from facelib.losses.scale.centres import sums_over_centres


def example() -> tuple:
    g = torch.Generator().manual_seed(0)
    x = F.normalize(torch.randn(6, 5, generator=g, dtype=torch.float64))
    w = 3 * torch.randn(9, 5, generator=g, dtype=torch.float64)
    ids, labels = torch.arange(9) + 10, torch.tensor([10, 18, 13, 13, 99, 15])
    place = torch.tensor([0, 8, 3, 3, -1, 5])  # 99 is on another shard
    return x, w, ids, labels, place


@pytest.mark.parametrize("block", [1, 4, 9, 64])
def test_values_and_gradients_equal_the_matrix(block: int):
    # Catches: the norm's part of the gradient left out, own centres in the sum, a gradient that a
    # later block overwrites, images of another shard.
    x, w, ids, labels, place = example()
    sides = []
    for by_blocks in (False, True):
        a, b = x.clone().requires_grad_(), w.clone().requires_grad_()
        if by_blocks:
            ell, own, highest = sums_over_centres(a, b, ids, labels, place, 8.0, block)
        else:
            cos = a @ F.normalize(b).T
            others = cos.masked_fill(labels[:, None] == ids, -torch.inf)
            ell, highest = (8 * others).logsumexp(1), others.amax(1)
            own = torch.where(place >= 0, cos.gather(1, place.clamp(0)[:, None])[:, 0], 0)
        (ell.square().sum() + (own * torch.arange(1, 7)).sum()).backward()
        sides.append((ell.detach(), own.detach(), highest.detach(), a.grad, b.grad))
    for one, other in zip(*sides):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-12)


def test_an_image_without_other_centres_has_no_sum_and_no_gradient():
    x, w, ids, labels, place = (part[:1].clone() for part in example())
    x.requires_grad_(), w.requires_grad_()
    ell, own, highest = sums_over_centres(x, w, ids, labels, place, 8.0, 4)
    assert ell.isinf() and highest.isinf() and own.isfinite()
    (torch.logaddexp(ell, own) - own).sum().backward()
    assert x.grad.abs().max() == 0 and w.grad.abs().max() == 0
