r"""Sums over centres that are normalised inside the block: no unit copy of them, no matrix.

    ℓ_i = log Σ_{j≠y_i} e^{s·cos θ_ij},  c_i = cos θ_{i,y_i},  cos θ_ij = x_i·w_j / |w_j|

    ∂L/∂w_j = Σ_i g_ij·(x_i − cos θ_ij·w_j/|w_j|) / |w_j|,
    g_ij = s·p_ij·∂L/∂ℓ_i, and ∂L/∂c_i for j = y_i

The only memory of the size of the centres is their gradient; both parts of it are written there.
"""

import math

import torch
from torch.autograd.function import once_differentiable

TINY = 1e-12  # as in `F.normalize`


def sums_over_centres(
    x: torch.Tensor,
    weight: torch.Tensor,
    ids: torch.Tensor,
    labels: torch.Tensor,
    place: torch.Tensor,
    scale: float,
    block: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(ℓ, c, highest cosine of other ids), each (B,); −∞ where there is no other id.

    Args:
        x: (B, d), unit length. weight: (n, d) centres of any length. ids: (n,). labels: (B,).
        place: (B,) row of each image's own centre, −1 where it is not among them (c is then 0).
        scale: s. block: centres of a block.
    """
    return _SumsOverCentres.apply(x, weight, ids, labels, place, scale, block)


class _SumsOverCentres(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, ids, labels, place, scale, block):
        highest = x.new_full((len(x),), -math.inf)
        total = x.new_zeros(len(x))  # Σ e^{s·(cos − highest)}
        for part in blocks(len(weight), block):
            cos, _ = _cosines(x, weight[part])
            cos.masked_fill_(labels[:, None] == ids[part], -math.inf)
            raised = torch.maximum(highest, cos.amax(1))
            safe = raised.masked_fill(raised == -math.inf, 0)
            total *= ((highest - safe) * scale).exp()
            total += cos.sub_(safe[:, None]).mul_(scale).exp_().sum(1)
            highest = raised
        ell = highest * scale + total.log()
        here = place >= 0
        own = x.new_zeros(len(x))
        own[here] = _own_cosine(x[here], weight[place[here]])
        ctx.save_for_backward(x, weight, ids, labels, place, ell, own)
        ctx.scale, ctx.block = scale, block
        ctx.mark_non_differentiable(highest)
        return ell, own, highest

    @staticmethod
    @once_differentiable
    def backward(ctx, g_ell, g_own, _):
        x, weight, ids, labels, place, ell, own = ctx.saved_tensors
        dx, dw = torch.zeros_like(x), torch.empty_like(weight)
        factor, ell = (ctx.scale * g_ell)[:, None], ell.masked_fill(ell == -math.inf, 0)[:, None]
        for part in blocks(len(weight), ctx.block):
            cos, inverse = _cosines(x, weight[part])
            p = (cos * ctx.scale).sub_(ell).exp_().mul_(factor)
            p.masked_fill_(labels[:, None] == ids[part], 0)
            along = p.mul(cos).sum(0) * inverse * inverse
            p.mul_(inverse)
            dx.addmm_(p, weight[part])
            torch.mm(p.T, x, out=dw[part]).addcmul_(weight[part], along[:, None], value=-1)
        here = place >= 0
        w = weight[place[here]]
        inverse = w.norm(dim=1, keepdim=True).clamp_min(TINY).reciprocal()
        unit, g = w * inverse, g_own[here, None]
        dx[here] += g * unit
        dw.index_add_(0, place[here], g * (x[here] - own[here, None] * unit) * inverse)
        return dx, dw, None, None, None, None, None


def _cosines(x: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, n) cosines, and 1/|w| (n,)."""
    inverse = weight.norm(dim=1).clamp_min_(TINY).reciprocal_()
    return (x @ weight.T).mul_(inverse), inverse


def _own_cosine(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return (x * w).sum(1) / w.norm(dim=1).clamp_min(TINY)


def blocks(length: int, block: int) -> list[slice]:
    """0 … length − 1 in parts of `block`, the last one shorter."""
    return [slice(start, min(start + block, length)) for start in range(0, length, block)]
