"""One step of the smoke network, with and without `keep_freed_memory`; prints JSON.

    python tests/bench/bench_step.py [--rounds 5] [--steps 8] [--loss arcface]

The two take turns, each in a new process: one thread, batch 64, forward, backward and optimiser.
CPU milliseconds of a step (median over the steps, then over the rounds), page faults, peak memory,
the medians of the ratios inside a round, and whether the weights afterwards are the same bits.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import repo  # noqa: F401
import torch

from facelib.config import make_config
from facelib.digests import digest
from facelib.locks import keep_freed_memory, peak_memory
from facelib.training.learner import build_learner
from facelib.training.schedule import build_optimizer

PEOPLE, WARM_UP = 240, 4


def measure(loss: str, steps: int, keep: bool) -> dict:
    """Figures of some steps in this process."""
    if keep:
        keep_freed_memory()
    torch.set_num_threads(1)
    cfg = make_config(loss=loss)
    learner = build_learner(cfg, PEOPLE).train()
    weights = [p for p in learner.parameters() if p.requires_grad]
    optimizer = build_optimizer(cfg, weights)
    torch.manual_seed(0)
    images = torch.rand(cfg.global_batch, 3, cfg.image_size, cfg.image_size)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(cfg.global_batch // 2).repeat_interleave(2)
    seconds = []
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        start = time.process_time()
        learner(images, labels)[0].backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.process_time() - start)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    return {
        "cpu_ms": 1000 * statistics.median(seconds[WARM_UP:]), "faults": faults / steps,
        "memory_mb": peak_memory() / 1e6,
        "weights": digest(*(weight.detach().numpy() for weight in weights)),
    }  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--loss", default="arcface")
    parser.add_argument("--one", choices=("kept", "given_back"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.loss, options.steps, options.one == "kept")))
        return
    again = [sys.executable, __file__, "--loss", options.loss, "--steps", str(options.steps)]
    found: dict[str, list[dict]] = {"given_back": [], "kept": []}
    for _ in range(options.rounds):
        for name, rows in found.items():
            rows.append(json.loads(subprocess.check_output([*again, "--one", name])))
    result: dict = {"loss": options.loss, "rounds": options.rounds, "steps": options.steps}
    for name, rows in found.items():
        result[name] = {
            key: round(statistics.median(row[key] for row in rows), 1)
            for key in ("cpu_ms", "faults", "memory_mb")
        }
    ratios = [a["cpu_ms"] / b["cpu_ms"] for a, b in zip(*found.values())]
    result["ratio"] = round(statistics.median(ratios), 2)
    result["ratios"] = [round(ratio, 2) for ratio in ratios]
    result["same_bits"] = len({row["weights"] for rows in found.values() for row in rows}) == 1
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
