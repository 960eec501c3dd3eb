"""The few collective operations that the losses and the loop need, on 1 or N processes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist


def world_size() -> int:
    """Number of processes; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def best_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def rank() -> int:
    """Index of this process; 0 without a process group."""
    return dist.get_rank() if world_size() > 1 else 0


@contextmanager
def launched_ranks() -> Iterator[None]:
    """A process group for the block where torchrun or accelerate started several processes."""
    if not dist.is_torchelastic_launched() or int(os.environ["WORLD_SIZE"]) == 1:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


class _GatherWithGrad(torch.autograd.Function):
    """Concatenate equal blocks of all ranks; the gradient of a block is summed over all ranks."""

    @staticmethod
    def forward(ctx, block: torch.Tensor) -> torch.Tensor:
        blocks = [torch.empty_like(block) for _ in range(dist.get_world_size())]
        dist.all_gather(blocks, block.contiguous())
        return torch.cat(blocks)

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> torch.Tensor:
        grad = grad.contiguous()
        dist.all_reduce(grad)
        return grad.chunk(dist.get_world_size())[dist.get_rank()]


def gather_with_grad(block: torch.Tensor) -> torch.Tensor:
    """(B, d) on each rank -> (world·B, d) in rank order, differentiable on every rank.

    `torch.distributed.all_gather` alone drops the gradient that other ranks' losses send to this
    rank's embeddings: the gradient of InfoNCE is then wrong (shown in tests/test_distributed).
    With the mean over ranks that DDP takes, two ranks equal one process of the joint batch.
    """
    return _GatherWithGrad.apply(block) if world_size() > 1 else block


def gather(block: torch.Tensor) -> torch.Tensor:
    """Like `gather_with_grad` for labels and other tensors without a gradient."""
    if world_size() == 1:
        return block
    blocks = [torch.empty_like(block) for _ in range(world_size())]
    dist.all_gather(blocks, block.contiguous())
    return torch.cat(blocks)


def mean_over_ranks(values: dict[str, torch.Tensor]) -> dict[str, float]:
    """Mean of each scalar over the ranks, in one reduction."""
    stacked = torch.stack([v.detach().float() for v in values.values()])
    if world_size() > 1:
        dist.all_reduce(stacked)
        stacked /= world_size()
    return dict(zip(values, stacked.tolist()))


@contextmanager
def main_first() -> Iterator[None]:
    """Run the block on rank 0, then on the others: the first makes a cached file, they read it."""
    if rank() != 0:
        dist.barrier()
    try:
        yield
    finally:
        if world_size() > 1 and rank() == 0:
            dist.barrier()
