"""Cost against size: batches of 1k to 32k, 10k to 2M centres; prints JSON. Records: bench_index.

    python tests/bench/bench_cost.py

batch: InfoNCE over B embeddings of 512 numbers, forward and backward, by blocks of 1,024 and with
the whole matrix. centres: ArcFace over N centres for 64 images, by blocks of 4,096 and whole. Each
line in a process of its own: CPU seconds of one thread (median of `rounds`), and the peak of
resident memory during the first call less what was resident before. A size that does not fit into
`--memory` GB is extrapolated from the largest one measured and labelled so: time and memory of the
whole matrix grow with B², those of the centres with N.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import repo  # noqa: F401
import torch
from bench_chunked import DIM, TAU, child, resident

from facelib.losses.arcface import ArcFace

BATCHES = (1024, 2048, 4096, 8192, 16_384, 32_768)
CENTRES = (10_000, 85_742, 250_000, 500_000, 1_000_000, 2_000_000)
ROWS = 64


def softmax_once(classes: int, block: int, rounds: int) -> dict:
    """Extra memory and CPU seconds of ArcFace over `classes` centres."""
    torch.set_num_threads(1)
    loss = ArcFace(classes, DIM, block=block)
    z = torch.randn(ROWS, DIM, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.arange(ROWS)
    ArcFace(100, DIM, block=block)(z, labels)[0].backward()
    loss.weight.grad = torch.zeros_like(loss.weight)
    before, spent = resident("VmRSS"), []
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    for step in range(rounds):
        begin = time.process_time()
        loss(z, labels)[0].backward()
        spent.append(time.process_time() - begin)
        if step == 0:
            extra = resident("VmHWM") - before
    return {"seconds": round(statistics.median(spent), 3), "extra_mb": round(extra, 1)}


def centres(rounds: int, memory: float) -> list[dict]:
    """A line a size and way; sizes whose weights, gradient and copies exceed `memory` GB not."""
    lines = []
    for how, block in (("blocks", 4096), ("whole", 0)):
        last = None
        for classes in CENTRES:
            line = {"centres": classes, "how": how}
            if classes * DIM * 4 * 5 / 2**30 > memory:  # weights, gradient, unit copy and theirs
                ratio = classes / last["centres"]
                lines.append(line | scaled(last, ratio, ratio))
                continue
            command = [sys.executable, __file__, "--child", str(classes), str(block), str(rounds)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            last = line | json.loads(done.stdout) | {"source": "measured"}
            lines.append(last)
    return lines


def scaled(line: dict, time_ratio: float, memory_ratio: float) -> dict:
    """What a larger size would cost."""
    return {
        "seconds": round(line["seconds"] * time_ratio, 3),
        "extra_mb": round(line["extra_mb"] * memory_ratio),
        "source": "extrapolated",
    }


def batches(rounds: int, memory: float) -> list[dict]:
    """A line a size and way."""
    lines = []
    with tempfile.TemporaryDirectory() as made:
        for how, method in (("blocks", "blocks"), ("whole", "matrix")):
            last = None
            for batch in BATCHES:
                line = {"batch": batch, "how": how}
                if how == "whole" and 5 * 4 * batch**2 / 2**30 > memory:
                    ratio = (batch / last["batch"]) ** 2
                    lines.append(line | scaled(last, ratio, ratio))
                    continue
                turns = rounds if batch < 16_384 else 1
                found = child(method, batch, 1024, turns, Path(made))
                last = line | {k: found[k] for k in ("seconds", "extra_mb")}
                last["source"] = "measured"
                lines.append(last)
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=float, default=14.0, metavar="GB", help="what may be used")
    parser.add_argument("--child", nargs=3, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(softmax_once(*options.child)))
        return
    result = {
        "dim": DIM, "tau": TAU, "images_of_the_classifier": ROWS, "rounds": options.rounds,
        "batch": batches(options.rounds, options.memory),
        "centres": centres(options.rounds, options.memory),
    }  # fmt: skip
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
