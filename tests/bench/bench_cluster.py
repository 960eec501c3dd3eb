"""Cost of a cluster-guided step against an ArcFace step; prints JSON.

    python tests/bench/bench_cluster.py [--classes 240 85742] [--steps 12]

A step is forward, backward and SGD, on one thread, in CPU seconds (median), so that other programs
on the machine do not count. `beyond_forward_percent` is what the step costs more than ArcFace's
plus one forward of the backbone, as a part of ArcFace's step. `memory_and_terms_ms` is the part
that does not depend on the backbone at all, at 512 dimensions, a batch of 512, 8,192 slots and
M = 2,048, less ArcFace's own head.
"""

import argparse
import json
import statistics
import sys
import time

import repo  # noqa: F401
import torch

from facelib.config import Config, make_config
from facelib.losses import build_loss
from facelib.training.learner import build_learner
from facelib.training.schedule import build_optimizer


def seconds(step, steps: int) -> float:
    """Median CPU seconds of a call; the first two warm up."""
    spent = []
    for _ in range(steps + 2):
        begin = time.process_time()
        step()
        spent.append(time.process_time() - begin)
    return statistics.median(spent[2:])


def training_step(cfg: Config, classes: int):
    """A function that makes one training step on random images, and the learner."""
    learner = build_learner(cfg, classes).train()
    optimizer = build_optimizer(cfg, [p for p in learner.parameters() if p.requires_grad])
    shape = (cfg.global_batch, 3, cfg.image_size, cfg.image_size)
    images = torch.randn(shape).contiguous(memory_format=torch.channels_last)

    def step() -> None:
        loss, _ = learner(images, torch.randint(0, classes, (len(images),)))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        learner.after_step(0.5)

    return step, learner, images


def compare(classes: int, steps: int, **settings: object) -> dict:
    """Steps of both losses with one backbone."""
    arc, learner, images = training_step(make_config(**settings), classes)
    guided, _, _ = training_step(make_config(loss="cluster", **settings), classes)
    with torch.no_grad():
        forward = seconds(lambda: learner.backbone(images), steps)
    arc_s, guided_s = seconds(arc, steps), seconds(guided, steps)
    return {
        "classes": classes,
        **settings,
        "arcface_step_ms": round(1e3 * arc_s, 1),
        "cluster_step_ms": round(1e3 * guided_s, 1),
        "backbone_forward_ms": round(1e3 * forward, 1),
        "beyond_forward_percent": round(100 * (guided_s - arc_s - forward) / arc_s, 1),
    }


def head_ms(name: str, classes: int, steps: int) -> float:
    """Forward and backward of one criterion at the paper's sizes, without any backbone."""
    cfg = make_config(loss=name, dim=512, cluster_slots=8192)
    criterion = build_loss(cfg, classes).train()
    z = torch.randn(512, 512, requires_grad=True)

    def step() -> None:
        labels = torch.randint(0, classes, (512,))
        if name == "cluster":
            criterion.remember(torch.randn(512, 512), labels)
        criterion(z, labels)[0].backward()
        criterion.zero_grad()

    return 1e3 * seconds(step, steps)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--classes", type=int, nargs="+", default=[240, 85_742])
    parser.add_argument("--steps", type=int, default=12)
    options = parser.parse_args()
    torch.set_num_threads(1)
    small, large = min(options.classes), max(options.classes)
    result = {
        "smoke": compare(small, options.steps),
        "wider": compare(small, options.steps, width=32, image_size=48),
        "memory_and_terms_ms": {
            str(n): round(head_ms("cluster", n, 5) - head_ms("arcface", n, 5), 1)
            for n in (small, large)
        },
    }
    json.dump(result, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
