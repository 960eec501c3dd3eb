"""What a classifier whose centres are spread over the processes asks of loop and checkpoint.

A shard's gradient is its own rank's, so that norms and overflows must be agreed on; a checkpoint
holds whole tensors, so that it loads on any number of processes.
"""

from collections.abc import Iterator

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import nn

from facelib import distributed
from facelib.losses.scale.sharded import Shard

PIECE = 1 << 24  # numbers that are sent at a time


def sharded_weights(module: nn.Module) -> dict[str, tuple[nn.Parameter, Shard]]:
    """Parameters that hold this process's rows only: name -> (parameter, its rows)."""
    found = {}
    for path, part in module.named_modules():
        if getattr(part, "shard", None):
            found[f"{path}.weight" if path else "weight"] = (part.weight, part.shard)
    return found


def clip_gradients(accelerator: Accelerator, learner: nn.Module, limit: float) -> torch.Tensor:
    """Scale the gradients of the whole model down to norm `limit`; returns the norm before."""
    shards = [weight for weight, _ in sharded_weights(accelerator.unwrap_model(learner)).values()]
    if not shards or distributed.world_size() == 1:
        return accelerator.clip_grad_norm_(learner.parameters(), limit)
    own = [weight.grad for weight in shards if weight.grad is not None]
    if accelerator.scaler is not None:
        _agree_on_overflow(own)
    accelerator.unscale_gradients()
    theirs = {id(weight) for weight in shards}
    shared = [p.grad for p in learner.parameters() if p.grad is not None and id(p) not in theirs]
    square = _square_norm(own, shared[0].device)
    dist.all_reduce(square)
    norm = (square + _square_norm(shared, square.device)).sqrt()
    torch._foreach_mul_(own + shared, (limit / (norm + 1e-6)).clamp(max=1.0))
    return norm


def _agree_on_overflow(gradients: list[torch.Tensor]) -> None:
    """A gradient that is not finite on one rank is made so on all: all skip the step, or none."""
    if not gradients:
        return
    bad = torch.stack([(~g.isfinite()).any() for g in gradients]).any().float()
    dist.all_reduce(bad, dist.ReduceOp.MAX)
    for gradient in gradients:
        gradient.masked_fill_(bad.bool(), torch.nan)


def _square_norm(gradients: list[torch.Tensor], device: torch.device) -> torch.Tensor:
    if not gradients:
        return torch.zeros((), device=device)
    return torch.stack(torch._foreach_norm(gradients)).square().sum()


def whole(tensor: torch.Tensor, shard: Shard) -> torch.Tensor | None:
    """All rows of a sharded tensor, on the CPU of the first rank; None on the others."""
    ranks = distributed.world_size()
    if ranks == 1:
        return tensor.detach().cpu()
    main = distributed.rank() == 0
    full = torch.empty((shard.total, *tensor.shape[1:]), dtype=tensor.dtype) if main else None
    for rank in range(ranks):
        start, stop = (shard.total * (rank + i) // ranks for i in (0, 1))
        for first, last in _pieces(start, stop, tensor[:1].numel()):
            if rank == distributed.rank():
                piece = tensor[first - start : last - start].detach().contiguous()
            else:
                piece = tensor.new_empty((last - first, *tensor.shape[1:]))
            dist.broadcast(piece, src=rank)
            if main:
                full[first:last] = piece.cpu()
    return full


def _pieces(start: int, stop: int, width: int) -> Iterator[tuple[int, int]]:
    rows = max(1, PIECE // max(width, 1))
    for first in range(start, stop, rows):
        yield first, min(first + rows, stop)


def whole_state(learner: nn.Module, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A learner's state with whole tensors (on the first rank) in place of shards."""
    shards = sharded_weights(learner)
    return {k: whole(v, shards[k][1]) if k in shards else v for k, v in state.items()}


def own_state(learner: nn.Module, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A checkpoint's whole tensors cut to this rank's rows."""
    shards = sharded_weights(learner)
    return {k: v[_rows(shards[k][1])] if k in shards else v for k, v in state.items()}


def whole_optimizer(learner: nn.Module, state: dict) -> dict:
    """An optimiser's state with whole tensors (on the first rank) in place of shards."""
    return _per_shard(learner, state, whole)


def own_optimizer(learner: nn.Module, state: dict) -> dict:
    """A checkpoint's optimiser state cut to this rank's rows."""
    return _per_shard(learner, state, lambda tensor, shard: tensor[_rows(shard)])


def _per_shard(learner: nn.Module, state: dict, change) -> dict:
    shards = {id(weight): shard for weight, shard in sharded_weights(learner).values()}
    if not shards:
        return state
    trained = [p for p in learner.parameters() if p.requires_grad]
    entries = dict(state["state"])
    for index, parameter in enumerate(trained):
        if id(parameter) in shards and index in entries:
            entries[index] = {
                name: change(value, shards[id(parameter)]) if _has_rows(value) else value
                for name, value in entries[index].items()
            }
    return {**state, "state": entries}


def _has_rows(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim > 0


def _rows(shard: Shard) -> slice:
    return slice(shard.start, shard.stop)
