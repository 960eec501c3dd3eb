"""The training loop against a bare forward, backward and step on the same tensors; prints JSON.

    python tests/bench/bench_training_loop.py [--rounds 5] [--steps 40] [--workers 0]

IResNet-10, 16 channels, 48 pixels, ArcFace, batch 128, one thread. In each round the bare loop and
`Trainer.fit` take turns, each in two halves, on the same batches; the loop's time is from its first
step to its last and includes sampling, loading, mirroring, gradient clipping, the checks of the
loss, metrics lines and the status file, but not checkpoints and validation. `ratio` is the median
over the rounds of bare seconds / loop seconds. `cpu_ratio` is the same of the process's CPU
seconds, which other programs on the machine change less. With --workers the loader's processes
decode JPEGs beside the loop; else the images are decoded before it begins.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from facelib.config import Config, make_config
from facelib.data.decode import encode_jpeg
from facelib.data.feed import Feed
from facelib.data.recordio import write_face_records
from facelib.learner import build_learner
from facelib.runs import create_run
from facelib.schedule import build_optimizer
from facelib.train import Trainer, make_accelerator

PEOPLE, IMAGES = 100, 20


def write_faces(folder: Path, size: int) -> None:
    """Blotchy pictures in the training format."""
    rng = np.random.default_rng(0)
    items = []
    for person in range(PEOPLE):
        for _ in range(IMAGES):
            small = rng.integers(0, 255, (6, 6, 3), np.uint8)
            items.append((person, encode_jpeg(cv2.resize(small, (size, size)))))
    write_face_records(folder, items, size=(size, size))


class Clock:
    """Wall and CPU seconds."""

    def __init__(self):
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def stop(self) -> np.ndarray:
        return np.array([time.perf_counter() - self.wall, time.process_time() - self.cpu])


def bare(cfg: Config, batches: list) -> np.ndarray:
    """Seconds of forward, backward and step."""
    learner = build_learner(cfg, PEOPLE).train()
    optimizer = build_optimizer(cfg, list(learner.parameters()))
    for images, labels in batches[:2]:
        learner(images, labels)[0].backward()
    clock = Clock()
    for images, labels in batches:
        loss, _ = learner(images, labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return clock.stop()


class Timed(Trainer):
    """A trainer that times its own loop between two ticks; keeps no checkpoint."""

    def save(self) -> None:
        pass

    def _check(self, values: dict) -> None:
        super()._check(values)
        if self.step == self.warm_up:
            self.clock = Clock()
        elif self.step == self.steps:
            self.seconds = self.clock.stop()


def loop(cfg: Config, warm_up: int, feed: Feed, accelerator) -> np.ndarray:
    """Seconds of the steps after `warm_up`."""
    run = create_run(cfg)
    trainer = Timed(run, feed, accelerator)
    trainer.warm_up = warm_up
    trainer.fit()
    return trainer.seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--workers", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warm_up, batch = 10, 128
    with tempfile.TemporaryDirectory() as made:
        os.environ["FACELIB_RUNS"] = made
        write_faces(Path(made) / "faces", 48)
        cfg = make_config(
            data=f"{made}/faces", benchmarks="", val_fraction=0.0, image_size=48, threads=1,
            global_batch=batch, images_seen=(warm_up + options.steps) * batch,
            workers=options.workers, save_every=10**6, eval_every=10**6,
        )  # fmt: skip
        accelerator = make_accelerator(cfg)
        feed = Feed(cfg, accelerator.device)
        batches = [
            (x.clone(), y.clone()) for x, y in feed.batches(warm_up, warm_up + options.steps)
        ]
        rows = []
        for _ in range(options.rounds):
            half = len(batches) // 2
            first = bare(cfg, batches[:half])
            whole = loop(cfg, warm_up, feed, accelerator)
            rows.append(np.stack([first + bare(cfg, batches[half:]), whole]))
    seconds = np.array(rows)  # (rounds, bare and loop, wall and CPU)
    rate = options.steps * batch / np.median(seconds[:, :, 0], axis=0)
    ratios = np.median(seconds[:, 0] / seconds[:, 1], axis=0)
    result = {
        **vars(options), "bare_images_per_s": round(rate[0], 1),
        "loop_images_per_s": round(rate[1], 1),
        "ratio": round(ratios[0], 3), "cpu_ratio": round(ratios[1], 3),
        "ratios": [round(r, 3) for r in seconds[:, 0, 0] / seconds[:, 1, 0]],
    }  # fmt: skip
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
