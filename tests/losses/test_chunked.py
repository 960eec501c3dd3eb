"""Losses by blocks equal the whole matrix and a slow restatement. Ranks: test_distributed.py."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from facelib.config import make_config
from facelib.losses import build_loss
from facelib.losses.parts.banks import ANCHORS
from facelib.losses.scale.chunked import log_sum_exp_of_others, mean_cosines
from tests.losses.configs import WITH_BLOCKS, config_of

BLOCKS = [1, 3, 7, 64]  # of 16 rows: single rows, a short last block twice, one block


def example(seed=0, dtype=torch.float64):
    """z (16, 6): images 4 and 5 are equal; in seed 0 so are 1 and 9, a tie for the nearest."""
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(16, 6, generator=g, dtype=torch.float64)
    z[5] = z[4]
    z[9] = z[9] if seed else z[1]
    return z.to(dtype)


def build(name, block, **changes):
    torch.manual_seed(0)
    size = {"images_per_identity": 4} if name in ("supcon", "dcl") else {}
    start = {"coreface_warmup": 0.0, "coreface_weight": 1.0, "dropout": 0.4}
    cfg = config_of(name, dim=6, s=8.0, loss_block=block, **start, **size, **changes)
    labels = torch.arange(16) // (size.get("images_per_identity", 2))
    labels = labels[:8].repeat(2) if name == "coreface" else labels
    return build_loss(cfg, 8).double(), labels


def value_and_gradient(loss, z, labels):
    z = z.clone().requires_grad_()
    value, logs = loss(z, labels)
    value.backward()
    return value.detach(), logs, z.grad


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("scale", [14.3, 32.0])
def test_half_of_a_symmetric_matrix_is_enough(block: int, scale: float):
    # Catches: the diagonal block counted twice, columns' gradients left out, an image without
    # others (all of one id in row 0 to 15 but one), a maximum over one half only.
    for ids in (torch.arange(16) // 2, torch.zeros(16, dtype=torch.long), torch.arange(16) % 3):
        sides = []
        for twin in (False, True):  # a copy of the rows takes the general way
            f = F.normalize(example(1)).requires_grad_()
            ell, highest = log_sum_exp_of_others(
                f, f.clone() if twin else f, ids, ids, scale, block
            )
            torch.where(ell > -math.inf, ell, 0).square().sum().backward()
            sides.append((ell.detach(), highest, f.grad))
        for one, other in zip(*sides):
            assert torch.allclose(one, other, rtol=1e-10, atol=1e-10)


CASES = [(n, {}) for n in WITH_BLOCKS] + [("coreface", {"coreface_mask": "clean"})]


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize(("name", "changes"), CASES)
def test_blocks_equal_the_whole_matrix(name, changes, block):
    # Catches: a maximum that is not carried on, an uneven last block, the own column in the sum,
    # same identities that are not masked, figures of the log taken from another set.
    whole, labels = build(name, 0, **changes)
    blocks, _ = build(name, block, **changes)
    for seed in range(3):  # CoReFace's margin follows from step to step
        expected, logs, wanted = value_and_gradient(whole, example(seed), labels)
        value, found, gradient = value_and_gradient(blocks, example(seed), labels)
        assert abs(value - expected) < 1e-10 * max(1, abs(expected))
        assert (gradient - wanted).abs().max() < 1e-10 * wanted.abs().max()
        assert found.keys() == logs.keys()
        for key, figure in logs.items():
            if seed == 0 and key == "train_accuracy":
                continue  # a tie: either is right
            assert found[key].item() == pytest.approx(figure.item(), rel=1e-9, abs=1e-12), key


def slow(a, b, row_ids, column_ids, scale):
    """(ℓ, ∂Σℓ/∂a, ∂Σℓ/∂b) with loops in float64 NumPy."""
    ell, d_a, d_b = np.full(len(a), -np.inf), np.zeros_like(a), np.zeros_like(b)
    for i in range(len(a)):
        others = [j for j in range(len(b)) if column_ids[j] != row_ids[i]]
        if not others:
            continue
        logits = [scale * (a[i] @ b[j]) for j in others]
        top = max(logits)
        ell[i] = top + math.log(sum(math.exp(x - top) for x in logits))
        for j, logit in zip(others, logits):
            p = math.exp(logit - ell[i])
            d_a[i] += scale * p * b[j]
            d_b[j] += scale * p * a[i]
    return ell, d_a, d_b


@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("scale", [0.1, 14.0, 1000.0])
def test_the_sum_equals_a_slow_restatement_for_any_temperature(scale, dtype, near):
    # Catches: e^{1000} in the sum, a scale that is missing in the gradient, rows for columns. Fewer
    # rows than columns is what a rank sees.
    a, b = F.normalize(example(1))[:5], F.normalize(example(2))
    row_ids, column_ids = torch.tensor([0, 1, 1, 9, 2]), torch.arange(16) // 4
    expected = slow(a.numpy(), b.numpy(), row_ids.tolist(), column_ids.tolist(), scale)
    rows, columns = (x.to(dtype).requires_grad_() for x in (a, b))
    ell, highest = log_sum_exp_of_others(rows, columns, row_ids, column_ids, scale, 3)
    ell.sum().backward()
    for found, wanted in zip((ell, rows.grad, columns.grad), expected):
        wanted = torch.from_numpy(wanted)
        assert (found.detach() - wanted).abs().max() < near * max(1, wanted.abs().max())
    cosines = (a @ b.T).masked_fill(row_ids[:, None] == column_ids, -math.inf)
    assert torch.allclose(highest.double(), cosines.amax(1), atol=near)


def test_a_row_without_others_has_no_gradient_and_spoils_no_other():
    # Catches: e^{−∞ + ∞}: one NaN row makes the gradient of all columns NaN.
    rows, columns = F.normalize(example()).requires_grad_(), F.normalize(example(1))
    ids = torch.zeros(16, dtype=torch.int64)
    row_ids = ids.clone()
    row_ids[3] = 1  # the only row with columns of another id
    ell, highest = log_sum_exp_of_others(rows, columns, row_ids, ids, 10.0, 5)
    assert ell.isfinite().tolist() == highest.isfinite().tolist() == [i == 3 for i in range(16)]
    torch.logaddexp(ell, torch.zeros_like(ell)).sum().backward()
    assert rows.grad.isfinite().all()
    assert (rows.grad.norm(dim=1) > 0).tolist() == [i == 3 for i in range(16)]


@pytest.mark.parametrize("name", ["infonce", "coreface"])
def test_one_identity_has_no_negative_and_no_loss_by_blocks_either(name):
    # Catches: NaN where the sum of negatives is empty (a batch of one pair, a clean mask).
    loss, _ = build(name, 2, **({"coreface_mask": "clean"} if name == "coreface" else {}))
    z = example()[[0, 1, 0, 1]] if name == "coreface" else example()[:2]
    value, logs, gradient = value_and_gradient(loss, z, torch.zeros(len(z), dtype=torch.int64))
    assert logs.get("contrastive", value).item() == pytest.approx(0, abs=1e-12)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", WITH_BLOCKS)
def test_gradient_passes_a_numeric_check(name):
    # Catches: an error that whole matrix and blocks share (CoReFace's margin stands in eval mode).
    loss, labels = build(name, 5)
    z = example(3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss.eval()(x, labels)[0], z)


@pytest.mark.parametrize("name", WITH_BLOCKS)
def test_fp32_agrees_with_fp64(name):
    # Catches: sums whose rounding grows with the number of blocks.
    loss, labels = build(name, 3)
    expected, _, wanted = value_and_gradient(loss, example(), labels)
    value, _, gradient = value_and_gradient(build(name, 3)[0].float(), example().float(), labels)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    assert (gradient - wanted).norm() < 1e-5 * wanted.norm()


def test_mean_cosines_need_no_matrix():
    # Catches: the own image counted as a partner, other identities divided by a wrong number.
    f = F.normalize(example())
    ids = torch.arange(16) // 4
    positive, negative = mean_cosines(f, f, torch.arange(16), ids)
    cos, same = f @ f.T, ids[:, None] == ids
    assert torch.allclose(positive, ((cos * same).sum(1) - 1) / 3)
    assert torch.allclose(negative, (cos * ~same).sum(1) / 12)


def test_blocks_never_hold_the_matrix():
    # Catches: a (B, C) tensor anywhere in forward or backward. Counted by the largest tensor made.
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        seen = 0

        def __torch_dispatch__(self, function, types, arguments=(), named=None):
            found = function(*arguments, **(named or {}))
            if isinstance(found, torch.Tensor):
                self.seen = max(self.seen, found.numel())
            return found

    g = torch.Generator().manual_seed(0)
    z, labels = torch.randn(256, 8, generator=g), torch.arange(256) // 2
    for name in ("infonce", "supcon", "dcl"):
        loss = build_loss(make_config(loss=name, loss_block=32, images_per_identity=0
                                              if name == "infonce" else 2), 1)  # fmt: skip
        with Largest() as largest:
            value_and_gradient(loss, z, labels)
        counted = ANCHORS * 256 if name == "infonce" else 0  # the effective number, of a few rows
        assert largest.seen <= max(256 * 8, 32 * 32, counted)
