"""A batch in chunks (facelib.training.gradcache) against the same batch at once; prints JSON.

    python tests/bench/bench_gradcache.py [--batch 2048] [--chunk 128] [--rounds 5] [--large 32768]

Forward and backward of InfoNCE on IResNet-10, width 16, 48 pixels, BatchNorm frozen, fp32, one
thread. Each way runs in a process of its own. `extra_mb` is the peak of resident memory (VmHWM)
during the first call, less what was resident before it (network, images, gradients); `peak_mb` is
the peak of the whole process. Times are medians of `rounds`, in CPU seconds of one thread.
`gradient_difference` is the norm of the difference of all gradients over the norm of the whole
batch's; `largest_difference` the same for the weight where it is largest. `large` is one step of
32,768 images in chunks with the loss by blocks, and its peak.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import repo  # noqa: F401
import torch
from accelerate import Accelerator
from torch import nn

from facelib.config import make_config
from facelib.training.gradcache import backward_in_chunks
from facelib.training.learner import build_learner


def build(batch: int) -> nn.Module:
    """The learner, BatchNorm in eval mode, gradients allocated."""
    block = 1024 if batch > 2048 else 0
    cfg = make_config(loss="infonce", image_size=48, global_batch=batch, loss_block=block)
    learner = build_learner(cfg, 1)
    for module in learner.train().modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    for parameter in learner.parameters():
        parameter.grad = torch.zeros_like(parameter)
    return learner


def resident(what: str) -> float:
    """VmRSS or VmHWM of this process in MB."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{what}:\s+(\d+) kB", status)[1]) / 1024


def measure(batch: int, chunk: int, rounds: int, keep: str) -> dict:
    """Peak memory of the first call, then times; gradients go to the file `keep`. chunk 0: all."""
    torch.set_num_threads(1)
    accelerator, learner = Accelerator(cpu=True), build(batch)
    images = torch.randn(batch, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(batch) // 2

    def step(count: int) -> None:
        part = images[:count], labels[:count]
        if chunk:
            backward_in_chunks(accelerator, learner, *part, min(chunk, count))
        else:
            learner(*part)[0].backward()

    step(8)  # libraries loaded before memory is counted
    before, spent = resident("VmRSS"), []
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    for repeat in range(rounds):
        learner.zero_grad(set_to_none=False)
        begin = time.process_time()
        step(batch)
        spent.append(time.process_time() - begin)
        if repeat == 0:
            peak = resident("VmHWM")
    torch.save({k: p.grad for k, p in learner.named_parameters() if p.requires_grad}, keep)
    return {
        "extra_mb": round(peak - before, 1),
        "peak_mb": round(peak, 1),
        "seconds": round(statistics.median(spent), 2),
    }


def child(batch: int, chunk: int, rounds: int, keep: Path) -> dict:
    """`measure` in a new process."""
    settings = [str(batch), str(chunk), str(rounds), str(keep)]
    command = [sys.executable, __file__, "--child", *settings]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--chunk", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--large", type=int, default=32_768)
    parser.add_argument("--child", nargs=4, metavar="SETTING", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        *numbers, keep = options.child
        sys.stdout.write(json.dumps(measure(*map(int, numbers), keep)))
        return
    with tempfile.TemporaryDirectory() as name:
        files = Path(name) / "chunks.pt", Path(name) / "whole.pt"
        chunks = child(options.batch, options.chunk, options.rounds, files[0])
        whole = child(options.batch, 0, options.rounds, files[1])
        a, b = (torch.load(file) for file in files)
        large = child(options.large, options.chunk, 1, files[0])
    apart = {k: (a[k] - b[k]).norm() for k in b}
    total = torch.stack([g.norm() for g in b.values()]).norm()
    result = {
        "batch": options.batch,
        "chunk": options.chunk,
        "rounds": options.rounds,
        "chunks": chunks,
        "whole": whole,
        "memory_ratio": round(chunks["extra_mb"] / whole["extra_mb"], 4),
        "time_ratio": round(chunks["seconds"] / whole["seconds"], 3),
        "gradient_difference": float(f"{torch.stack([*apart.values()]).norm() / total:.2g}"),
        "largest_difference": float(f"{max(apart[k] / b[k].norm() for k in b):.2g}"),
        "large": {"batch": options.large, **large},
    }
    json.dump(result, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
