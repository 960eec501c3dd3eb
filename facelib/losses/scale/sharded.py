r"""The classifier's softmax without all of its logits: by blocks, and over shards of the centres.

    ℓ_i = log Σ_{j≠y_i} e^{s·cos θ_ij},  L = mean_i log(e^{ℓ_i} + e^{s·t_i}) − s·t_i

ℓ is computed by blocks (`scale.centres`): with `centre_block` no (B, N) matrix is held even once,
without it each process holds the part of its own centres. With shards each of R processes holds N/R
centres, sees the embeddings of the whole joint batch, and sums over its own centres; what the
processes exchange is one maximum, one sum and one cosine an image. The loss is the same number on
all of them.

Gradients: a shard's is exact and is not reduced. DDP takes the mean over processes of the
backbone's, so that the embeddings' is multiplied by R: then R processes equal one.
"""

from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F

from facelib.distributed import gather, gather_with_grad, rank, world_size
from facelib.errors import UserError
from facelib.losses.parts.banks import ANCHORS, effective_number
from facelib.losses.scale.centres import TINY, sums_over_centres

ROWS = 1 << 14  # centres that are drawn at a time


class Shard(NamedTuple):
    """Rows start … stop − 1 of a tensor of `total` rows."""

    start: int
    stop: int
    total: int

    def normal(self, dim: int, std: float) -> torch.Tensor:
        """Own rows of a (total, dim) normal draw: the same numbers for any number of shards."""
        if self.stop - self.start == self.total:
            return torch.nn.init.normal_(torch.empty(self.total, dim), std=std)
        own = torch.empty(self.stop - self.start, dim)
        for first in range(0, self.total, ROWS):  # 16 numbers are drawn together: whole multiples
            part = torch.empty(min(ROWS, self.total - first), dim).normal_(std=std)
            low, high = max(first, self.start), min(first + len(part), self.stop)
            if low < high:
                own[low - self.start : high - self.start] = part[low - first : high - first]
        return own


def own_shard(total: int) -> Shard:
    """This process's rows.

    Raises:
        UserError: fewer rows than processes.
    """
    here, ranks = rank(), world_size()
    if total < ranks:
        raise UserError(
            f"sharded=True: {total} identities do not fill {ranks} processes; use sharded=false"
        )
    return Shard(total * here // ranks, total * (here + 1) // ranks, total)


def split_softmax(loss, z: torch.Tensor, labels: torch.Tensor, chosen: torch.Tensor | None):
    """(L, logs) of an `ArcFace` by blocks, over its shard where it has one.

    Args:
        loss: gives weight, shard, block, s and margin(cos θ_y).
        z: (B, d) unnormalised. labels: (B,). chosen: (M,) classes of the softmax; None: all.
    """
    shard = loss.shard or Shard(0, len(loss.weight), len(loss.weight))
    rows = F.normalize(z.to(loss.weight.dtype))
    if loss.shard:
        rows, labels = gather_with_grad(rows), gather(labels)  # (R·B, d), (R·B,)
        if rows.requires_grad:
            rows.register_hook(lambda gradient: gradient * world_size())
    ids, weight = torch.arange(shard.start, shard.stop, device=labels.device), loss.weight
    place = torch.where((labels >= shard.start) & (labels < shard.stop), labels - shard.start, -1)
    if chosen is not None:
        ids = chosen[(chosen >= shard.start) & (chosen < shard.stop)]
        weight = loss.weight[ids - shard.start]
        among = torch.full((shard.stop - shard.start + 1,), -1, device=labels.device)
        among[ids - shard.start] = torch.arange(len(ids), device=labels.device)
        place = among[place]  # the last one is for −1
    block = loss.block or max(len(rows), len(weight), 1)
    below, cos_y, hardest = sums_over_centres(rows, weight, ids, labels, place, loss.s, block)
    lengths = weight.detach().norm(dim=1).clamp_min(TINY)
    first = (loss.s * rows[:ANCHORS].detach() @ weight.detach().T / lengths).masked_fill(
        labels[:ANCHORS, None] == ids, -torch.inf
    )
    if loss.shard:
        below, hardest = _log_sum_exp_over_ranks(below), _max_over_ranks(hardest)
        cos_y = _SumOverRanks.apply(cos_y)
    logit = loss.s * loss.margin(cos_y)
    value = (torch.logaddexp(below, logit) - logit).mean()
    return value, {
        "target_cosine": cos_y.mean(),
        "train_accuracy": (cos_y > hardest).float().mean(),
        "effective_centres": _effective_number(first) if loss.shard else effective_number(first),
    }


class _SumOverRanks(torch.autograd.Function):
    """Sum over the ranks; the gradient is that of the own part, as the loss is equal on all."""

    @staticmethod
    def forward(ctx, value: torch.Tensor) -> torch.Tensor:
        total = value.clone()
        if world_size() > 1:
            dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> torch.Tensor:
        return grad


def _max_over_ranks(value: torch.Tensor) -> torch.Tensor:
    highest = value.detach().clone()
    if world_size() > 1:
        dist.all_reduce(highest, dist.ReduceOp.MAX)
    return highest


def _log_sum_exp_over_ranks(value: torch.Tensor) -> torch.Tensor:
    """log Σ_r e^{value_r}, (B,); −∞ for a rank without any term."""
    highest = _max_over_ranks(value)
    safe = highest.masked_fill(highest == -torch.inf, 0)
    return safe + _SumOverRanks.apply((value - safe).exp()).log()


@torch.no_grad()
def _effective_number(logits: torch.Tensor) -> torch.Tensor:
    """As `banks.effective_number`, of logits (A, n) whose columns are spread over the ranks."""
    highest = logits.new_full((len(logits),), -torch.inf)
    if logits.shape[1]:
        highest = logits.amax(1)
    below = logits - _max_over_ranks(highest)[:, None]
    weights = below.exp()  # 0 where a column is left out
    sums = torch.stack([weights.sum(1), (weights * below.clamp_min(-1e4)).sum(1)])
    total, weighted = _SumOverRanks.apply(sums)
    return (total.log() - weighted / total).exp().mean()  # H = log Σe^l − Σl·e^l / Σe^l
