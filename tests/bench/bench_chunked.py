"""Contrastive losses by blocks against the matrix of all cosines; prints JSON.

    python tests/bench/bench_chunked.py [--batch 16384] [--large 32768] [--rounds 5]

Forward and backward, of InfoNCE over `batch` embeddings of 512 numbers, fp32, one thread:

    blocks        facelib, loss_block=N        matrix   facelib, the whole matrix
    clip          the arithmetic of open_clip's ClipLoss for `batch` pairs: both directions of a
                  batch × batch matrix between two towers of embeddings
    clip_blocks   the same value by blocks

Each runs in a process of its own. `extra_mb` is the peak of resident memory (VmHWM) during the
call, less what was resident before it. Times are medians of `rounds`, in CPU seconds of one
thread, so that other programs count little. `gradient_difference` is relative to the matrix's.
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
import torch.nn.functional as F

from facelib.losses.infonce import InfoNCE
from facelib.losses.scale.chunked import log_sum_exp_of_others

DIM, TAU = 512, 0.07


def clip(z: torch.Tensor) -> torch.Tensor:
    """open_clip's ClipLoss (src/open_clip/loss.py) of image and text features, (2B, d)."""
    image, text = F.normalize(z).chunk(2)
    per_image = (1 / TAU) * image @ text.T
    per_text = (1 / TAU) * text @ image.T
    labels = torch.arange(len(image))
    return (F.cross_entropy(per_image, labels) + F.cross_entropy(per_text, labels)) / 2


def clip_by_blocks(z: torch.Tensor, block: int) -> torch.Tensor:
    """The same value by blocks; no column is left out of a row's sum but its own, added after."""
    image, text = F.normalize(z).chunk(2)
    ids, logit = torch.arange(len(image)), (image * text).sum(1) / TAU
    both = [
        torch.logaddexp(log_sum_exp_of_others(a, b, ids, ids, 1 / TAU, block)[0], logit)
        for a, b in ((image, text), (text, image))
    ]
    return ((both[0] + both[1]) / 2 - logit).mean()


def function(method: str, batch: int, block: int):
    """(z, loss of z) of a method."""
    size = 2 * batch if method.startswith("clip") else batch
    z = torch.randn(size, DIM, generator=torch.Generator().manual_seed(0), requires_grad=True)
    if method == "clip":
        return z, lambda: clip(z)
    if method == "clip_blocks":
        return z, lambda: clip_by_blocks(z, block)
    loss = InfoNCE(TAU, block=block if method == "blocks" else 0)
    return z, lambda: loss(z, torch.arange(batch) // 2)[0]


def resident(what: str) -> float:
    """VmRSS or VmHWM of this process in MB."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{what}:\s+(\d+) kB", status)[1]) / 1024


def measure(method: str, batch: int, block: int, rounds: int, keep: str) -> dict:
    """Peak memory of the first call, then times; the gradient goes to the file `keep`."""
    torch.set_num_threads(1)
    function(method, 64, 32)[
        1
    ]().backward()  # libraries loaded and threads made before memory is counted
    z, loss = function(method, batch, block)
    z.grad = torch.zeros_like(z)
    before, spent = resident("VmRSS"), []
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    for step in range(rounds):
        z.grad.zero_()
        begin = time.process_time()
        value = loss()
        value.backward()
        spent.append(time.process_time() - begin)
        if step == 0:
            extra = resident("VmHWM") - before
    torch.save(z.grad, keep)
    return {
        "batch": batch,
        "loss": value.item(),
        "extra_mb": round(extra, 1),
        "seconds": round(statistics.median(spent), 2),
    }


def child(method: str, batch: int, block: int, rounds: int, folder: Path) -> dict:
    """`measure` in a new process."""
    settings = [method, str(batch), str(block), str(rounds), str(folder / f"{method}.pt")]
    command = [sys.executable, __file__, "--child", *settings]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"batch": batch, "error": (done.stderr.strip().splitlines() or ["killed"])[-1]}
    return json.loads(done.stdout)


def compare(found: dict, folder: Path, ours: str, theirs: str) -> dict:
    """Ratios of a method to its peer, and how far their gradients are apart."""
    a, b = (torch.load(folder / f"{name}.pt") for name in (ours, theirs))
    return {
        "memory_ratio": round(found[ours]["extra_mb"] / found[theirs]["extra_mb"], 4),
        "time_ratio": round(found[ours]["seconds"] / found[theirs]["seconds"], 3),
        "gradient_difference": float(f"{((a - b).norm() / b.norm()).item():.2g}"),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=16_384)
    parser.add_argument("--large", type=int, default=32_768)
    parser.add_argument("--block", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", nargs=5, metavar="SETTING", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        method, batch, block, rounds, keep = options.child
        found = measure(method, int(batch), int(block), int(rounds), keep)
        sys.stdout.write(json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = {
            method: child(method, options.batch, options.block, options.rounds, folder)
            for method in ("blocks", "matrix", "clip_blocks", "clip")
        }
        result = {
            "dim": DIM,
            "block": options.block,
            "rounds": options.rounds,
            **found,
            "blocks_to_matrix": compare(found, folder, "blocks", "matrix"),
            "clip_blocks_to_clip": compare(found, folder, "clip_blocks", "clip"),
            "large": child("blocks", options.large, options.block, 1, folder),
        }
    json.dump(result, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
