"""For tests of a loss: some steps in two processes must equal the same steps in one."""

import os

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from facelib.distributed import mean_over_ranks
from facelib.runs.launch import free_port
from facelib.training.learner import Learner

CLASSES, DIM = 18, 4
STEPS = 8


def batch(step: int, pairs: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """12 "images" of 5 numbers and their labels: 6 distinct pairs, or any 12 of few identities."""
    g = torch.Generator().manual_seed(step)
    if pairs:
        labels = torch.randperm(CLASSES, generator=g)[:6].repeat_interleave(2)
    else:
        labels = torch.randint(0, 9, (12,), generator=g)
    return torch.randn(12, 5, generator=g, dtype=torch.float64), labels


def trained(build, pairs: bool, own: slice, wrap) -> dict:
    """The last figures and gradients, and all state, after some steps on a part of each batch."""
    torch.manual_seed(0)
    plain = Learner(torch.nn.Linear(5, DIM), build()).double()
    wrapped = wrap(plain)
    weights = {name: p for name, p in plain.named_parameters() if p.requires_grad}
    optimizer = torch.optim.SGD(weights.values(), lr=0.1)
    for step in range(STEPS):
        images, labels = batch(step, pairs)
        optimizer.zero_grad()
        loss, logs = wrapped(images[own], labels[own])
        loss.backward()
        optimizer.step()
        plain.after_step((step + 1) / STEPS)
    return {
        "figures": mean_over_ranks({"loss": loss, **logs}),
        "gradients": {name: p.grad.clone() for name, p in weights.items()},
        "state": plain.state_dict(),
    }


def _worker(rank: int, port: int, folder: str, build, pairs: bool) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    own = slice(6 * rank, 6 * rank + 6)
    torch.save(trained(build, pairs, own, DistributedDataParallel), f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # all is saved; gloo's threads now and then abort the interpreter's own exit


def compare_with_one_process(build, pairs: bool, folder) -> None:
    """Assert equal figures, gradients and state; the two ranks' state must be the same bits.

    Args:
        build: function of a test module, without arguments, that returns the criterion.
        pairs: batches of P identities × 2 images. folder: for the results of the two processes.
    """
    alone = trained(build, pairs, slice(None), lambda module: module)
    mp.spawn(_worker, (free_port(), str(folder), build, pairs), nprocs=2)
    ranks = [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in (0, 1)]
    for found in ranks:
        for name, value in alone["figures"].items():
            assert abs(found["figures"][name] - value) < 1e-6 * max(1, abs(value)), name
        for kind in ("gradients", "state"):
            for name, tensor in alone[kind].items():
                assert torch.allclose(found[kind][name], tensor, atol=1e-8), name
    assert all(torch.equal(ranks[1]["state"][k], v) for k, v in ranks[0]["state"].items())
