"""Losses by blocks against the whole matrix and against plainer blocks; prints JSON.

    python tests/bench/bench_blocks.py [--batch 8192] [--centres 85742] [--rounds 5] [--alone]

Forward and backward in fp32, one thread, d = 512: InfoNCE of `batch` embeddings, and ArcFace of 64
images over `centres` classes.

    blocks   facelib, loss_block or centre_block = 1024
    plain    blocks without the symmetry of InfoNCE's matrix; blocks of a unit copy of all centres
    matrix   facelib, the whole matrix

The three take turns in one process. Times are CPU seconds, medians of `rounds`; `extra_mb` is the
highest of resident memory during a call less what was there before (the gradients are there
before); `gradient_difference` is relative to the matrix's. `--alone` leaves out the other two.
"""

import argparse
import json
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import repo  # noqa: F401
import torch
import torch.nn.functional as F

from facelib.losses.arcface import ArcFace
from facelib.losses.infonce import InfoNCE
from facelib.losses.scale.chunked import log_sum_exp_of_others

DIM, TAU, BLOCK, IMAGES = 512, 0.07, 1024, 64


def infonce(batch: int) -> tuple[list[torch.Tensor], dict[str, Callable]]:
    """The tensors that get a gradient, and the loss by method."""
    z = torch.randn(batch, DIM, requires_grad=True)
    labels = torch.arange(batch) // 2

    def plain() -> torch.Tensor:
        f = F.normalize(z)
        below, _ = log_sum_exp_of_others(f, f.clone(), labels, labels, 1 / TAU, BLOCK)
        logit = (f[0::2] * f[1::2]).sum(1).repeat_interleave(2) / TAU
        return (torch.logaddexp(below, logit) - logit).mean()

    blocks, matrix = InfoNCE(TAU, block=BLOCK), InfoNCE(TAU)
    return [z], {"blocks": lambda: blocks(z, labels)[0], "plain": plain,
                 "matrix": lambda: matrix(z, labels)[0]}  # fmt: skip


def arcface(centres: int) -> tuple[list[torch.Tensor], dict[str, Callable]]:
    """As `infonce`; the two losses share their centres."""
    blocks, matrix = (ArcFace(centres, DIM, block=block) for block in (BLOCK, 0))
    matrix.weight = blocks.weight
    z = torch.randn(IMAGES, DIM, requires_grad=True)
    labels = torch.randint(centres, (IMAGES,))

    def plain() -> torch.Tensor:
        x, unit = F.normalize(z), F.normalize(blocks.weight)
        below, _ = log_sum_exp_of_others(x, unit, labels, torch.arange(centres), blocks.s, BLOCK)
        logit = blocks.s * blocks.margin((x * unit[labels]).sum(1))
        return (torch.logaddexp(below, logit) - logit).mean()

    return [z, blocks.weight], {"blocks": lambda: blocks(z, labels)[0], "plain": plain,
                                "matrix": lambda: matrix(z, labels)[0]}  # fmt: skip


def resident(what: str) -> float:
    """VmRSS or VmHWM of this process in MB."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{what}:\s+(\d+) kB", status)[1]) / 1024


def compare(tensors: list[torch.Tensor], methods: dict[str, Callable], rounds: int) -> dict:
    """Seconds, memory and gradients of the methods, which take turns."""
    spent, extra, kept = {name: [] for name in methods}, {}, {}
    for tensor in tensors:
        tensor.grad = torch.zeros_like(tensor)
    for turn in range(rounds):
        for name, loss in methods.items():
            for tensor in tensors:
                tensor.grad.zero_()
            before = resident("VmRSS")
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
            begin = time.process_time()
            loss().backward()
            spent[name].append(time.process_time() - begin)
            extra[name] = max(extra.get(name, 0), resident("VmHWM") - before)
            if turn == 0 and len(methods) > 1:
                kept[name] = torch.cat([tensor.grad.flatten() for tensor in tensors])
    seconds = {name: statistics.median(times) for name, times in spent.items()}
    found = {name: {"cpu_s": round(seconds[name], 3), "extra_mb": round(extra[name]),
                    "times_blocks": round(seconds[name] / seconds["blocks"], 2)}
             for name in methods}  # fmt: skip
    for name in [*kept][:-1]:
        apart = (kept[name] - kept["matrix"]).norm() / kept["matrix"].norm()
        found[name]["gradient_difference"] = float(f"{apart.item():.2g}")
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8192, help="0: without InfoNCE")
    parser.add_argument("--centres", type=int, default=85_742, help="0: without ArcFace")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--alone", action="store_true", help="facelib's blocks only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = {"dim": DIM, "block": BLOCK, "rounds": options.rounds}
    for build, size in ((infonce, options.batch), (arcface, options.centres)):
        if not size:
            continue
        torch.manual_seed(0)
        compare(*build(512), 1)  # libraries loaded before memory is counted
        tensors, methods = build(size)
        methods = {"blocks": methods["blocks"]} if options.alone else methods
        result[build.__name__] = {"size": size, **compare(tensors, methods, options.rounds)}
    json.dump(result, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
