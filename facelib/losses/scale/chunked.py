r"""Contrastive sums without the matrix of all cosines: by blocks, with an online log-sum-exp.

    ℓ_i = log Σ_{j: id_j ≠ id_i} e^{s·a_i·b_j}
    ∂ℓ_i/∂a_i = s·Σ_j p_ij·b_j,  ∂ℓ_i/∂b_j = s·p_ij·a_i,  p_ij = e^{s·a_i·b_j − ℓ_i}

Rows a are the images of this process, columns b those of the joint batch. A row leaves out the
columns of its own id, and the ids say what that is: one per image (all but itself counts), one per
pair (InfoNCE) or one per identity (CoReFace). Positives need no matrix: they are read off sums
of the columns of an id (`mean_cosines`).

The maximum of a row moves with the blocks and its sum is rescaled, as in attention without the
matrix (Milakov and Gimelshein, arXiv 1805.02867; Rabe and Staats, arXiv 2112.05682). The backward
pass computes each block of cosines again: 4 matrix products where the whole matrix takes 3, and
O((B + C)·d + block²) extra memory where the whole matrix takes O(B·C). Where the rows are the
columns, the matrix is symmetric, and half of it is enough: 2 products' worth.
"""

import math
from itertools import combinations_with_replacement

import torch
from torch.autograd.function import once_differentiable

from facelib.losses.parts.margin import LossOutput
from facelib.losses.parts.pairs import rows_and_columns
from facelib.losses.scale.centres import blocks

LARGEST_SCALE = 40  # e^{−2s} and e^{2s} are normal numbers of fp32


def log_sum_exp_of_others(
    rows: torch.Tensor,
    columns: torch.Tensor,
    row_ids: torch.Tensor,
    column_ids: torch.Tensor,
    scale: float,
    block: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """ℓ of each row, and its highest cosine among the same columns (without gradient).

    Args:
        rows: (B, d), unit length. columns: (C, d), unit length; the same tensor as rows, with the
            same ids, takes half the products. row_ids: (B,). column_ids: (C,). scale: s, or 1/τ.
        block: rows and columns of a block.

    Returns:
        (ℓ, highest), both (B,); −∞ for a row without columns of another id.
    """
    if rows is columns and scale <= LARGEST_SCALE:
        return _LogSumExpWithin.apply(rows, row_ids, scale, block)
    return _LogSumExpOfOthers.apply(rows, columns, row_ids, column_ids, scale, block)


class _LogSumExpWithin(torch.autograd.Function):
    """The same where rows are the columns: cosines are symmetric, so each pair of blocks is made
    once, forward and backward. Unit rows: s·(cos − 1) ≤ 0 needs no moving maximum."""

    @staticmethod
    def forward(ctx, f, ids, scale, block):
        highest, total = f.new_full((len(f),), -math.inf), f.new_zeros(len(f))
        for a, b in _pairs_of_blocks(len(f), block):
            e = _logits(f, f, ids, ids, 1, a, b)
            highest[a] = torch.maximum(highest[a], e.amax(1))
            if a != b:
                highest[b] = torch.maximum(highest[b], e.amax(0))
            e.sub_(1).mul_(scale).exp_()
            total[a] += e.sum(1)
            if a != b:
                total[b] += e.sum(0)
        ell = total.log() + scale  # log 0 is −∞
        ctx.save_for_backward(f, ids, ell)
        ctx.scale, ctx.block = scale, block
        ctx.mark_non_differentiable(highest)
        return ell, highest

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, _):
        f, ids, ell = ctx.saved_tensors
        d = torch.zeros_like(f)
        # p_ij = e^{s(cos − 1)}·e^{s − ℓ_i}; a row without others has no p.
        weight = torch.where(ell > -math.inf, ctx.scale * grad * (ctx.scale - ell).exp(), 0)
        for a, b in _pairs_of_blocks(len(f), ctx.block):
            e = _logits(f, f, ids, ids, 1, a, b).sub_(1).mul_(ctx.scale).exp_()
            e.mul_(weight[a, None] + weight[b])
            d[a].addmm_(e, f[b])
            if a != b:
                d[b].addmm_(e.T, f[a])
        return d, None, None, None


class _LogSumExpOfOthers(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows, columns, row_ids, column_ids, scale, block):
        highest = rows.new_full((len(rows),), -math.inf)  # of the logits so far
        total = rows.new_zeros(len(rows))  # Σ e^{logit − highest}
        for own in blocks(len(rows), block):
            for there in blocks(len(columns), block):
                logits = _logits(rows, columns, row_ids, column_ids, scale, own, there)
                raised = torch.maximum(highest[own], logits.amax(1))
                safe = _finite(raised)
                total[own] *= (highest[own] - safe).exp()
                total[own] += logits.sub_(safe[:, None]).exp_().sum(1)
                highest[own] = raised
        ell = highest + total.log()  # −∞ + log 0 is −∞
        ctx.save_for_backward(rows, columns, row_ids, column_ids, ell)
        ctx.scale, ctx.block = scale, block
        highest /= scale
        ctx.mark_non_differentiable(highest)
        return ell, highest

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, _):
        rows, columns, row_ids, column_ids, ell = ctx.saved_tensors
        d_rows, d_columns = torch.zeros_like(rows), torch.zeros_like(columns)
        weight, ell = (ctx.scale * grad)[:, None], _finite(ell)[:, None]
        for own in blocks(len(rows), ctx.block):
            for there in blocks(len(columns), ctx.block):
                p = _logits(rows, columns, row_ids, column_ids, ctx.scale, own, there)
                p.sub_(ell[own]).exp_().mul_(weight[own])
                d_rows[own].addmm_(p, columns[there])
                d_columns[there].addmm_(p.T, rows[own])
        return d_rows, d_columns, None, None, None, None


def _pairs_of_blocks(length: int, block: int) -> list[tuple[slice, slice]]:
    return list(combinations_with_replacement(blocks(length, block), 2))


def _logits(rows, columns, row_ids, column_ids, scale, own, there) -> torch.Tensor:
    """One block of s·a·b, −∞ where the ids are equal."""
    logits = rows[own] @ columns[there].T
    same = row_ids[own, None] == column_ids[there]
    return logits.mul_(scale).masked_fill_(same, -math.inf)


def _finite(values: torch.Tensor) -> torch.Tensor:
    """0 for −∞: a row without columns then sums e^{−∞} = 0 instead of e^{−∞ + ∞}."""
    return values.masked_fill(values == -math.inf, 0)


def mean_cosines(
    rows: torch.Tensor, columns: torch.Tensor, own: torch.Tensor, ids: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean cosine of each row with the other columns of its id, and with those of other ids.

    Args:
        rows: (B, d), unit length. columns: (C, d), unit length. own: (B,) column of each row's own
            image. ids: (C,) ids of the columns.

    Returns:
        (positive, negative), both (B,). `positive` is NaN where a row has no partner; `negative`
        carries no gradient, and is 0 where no other id is there.
    """
    place, counts = ids.unique(return_inverse=True, return_counts=True)[1:]
    sums = columns.new_zeros(len(counts), columns.shape[1]).index_add(0, place, columns)
    mine = place[own]
    positive = (rows * (sums[mine] - columns[own])).sum(1) / (counts[mine] - 1)
    with torch.no_grad():
        negative = (rows * (columns.sum(0) - sums[mine])).sum(1)
        return positive, negative / (len(columns) - counts[mine]).clamp_min(1)


def contrast_by_blocks(loss, z: torch.Tensor, labels: torch.Tensor, decoupled: bool) -> LossOutput:
    """A loss over groups without the (B, R·B) matrix: the same value and figures.

    Args:
        loss: gives tau, gather and block. decoupled: the positive is not in the denominator.
    """
    f, columns, own, classes = rows_and_columns(z, labels, loss.gather)
    ids = classes if decoupled else torch.arange(len(columns), device=z.device)
    below, _ = log_sum_exp_of_others(f, columns, ids[own], ids, 1 / loss.tau, loss.block)
    positive, negative = mean_cosines(f, columns, own, classes)
    return (below - positive / loss.tau).mean(), {
        "positive_cosine": positive.detach().mean(),
        "negative_cosine": negative.mean(),
    }
