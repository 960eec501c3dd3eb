"""The training loop against a bare forward, backward and step on the same tensors; prints JSON.

    python tests/bench/bench_training_loop.py [--steps 60] [--repeats 5] [--workers 0]

IResNet-10, 16 channels, 48 pixels, ArcFace, batch 128, one thread. The two take turns step by step,
so that a busy machine hurts both alike: after each step of `Trainer.fit` a bare learner of the same
configuration makes one step on the batch that the loop has just used. The loop's time includes
sampling, loading, mirroring, scaling, gradient clipping, the checks of the loss, metrics lines and
the status file; not checkpoints and validation. `ratio` is bare seconds / loop seconds of a step
(medians over the steps, ticks weighed in), median over the repeats; `cpu_ratio` is the same of this
process's CPU seconds. With --workers processes decode JPEGs beside the loop; else the images are
decoded before it begins.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import repo  # noqa: F401
import torch

from facelib.config import Config, make_config
from facelib.data.feed import Feed
from facelib.formats.decode import encode_jpeg
from facelib.formats.recordio import write_face_records
from facelib.runs.folder import Run, create_run
from facelib.training.learner import build_learner
from facelib.training.schedule import build_optimizer
from facelib.training.train import Trainer, make_accelerator

PEOPLE, IMAGES, BATCH, WARM_UP = 100, 20, 128, 10


def write_faces(folder: Path, size: int) -> None:
    """Blotchy pictures in the training format."""
    rng = np.random.default_rng(0)

    def picture() -> np.ndarray:
        return cv2.resize(rng.integers(0, 255, (6, 6, 3), np.uint8), (size, size))

    items = ((i // IMAGES, encode_jpeg(picture())) for i in range(PEOPLE * IMAGES))
    write_face_records(folder, items, size=(size, size))


def now() -> np.ndarray:
    """Wall and CPU seconds."""
    return np.array([time.perf_counter(), time.process_time()])


class Paired(Trainer):
    """A trainer that makes a bare step after each of its own.

    Attributes:
        seconds: (steps, 2, 2) of loop and bare, wall and CPU.
    """

    def __init__(self, run: Run, feed: Feed, accelerator):
        super().__init__(run, feed, accelerator)
        self.bare = build_learner(self.cfg, feed.classes).train()
        self.bare_optimizer = build_optimizer(self.cfg, list(self.bare.parameters()))
        self.seconds, self.began = [], now()

    def train_step(self, images: torch.Tensor, labels: torch.Tensor) -> dict:
        self.batch = images, labels
        return super().train_step(images, labels)

    def _check(self, values: dict) -> None:
        super()._check(values)
        middle = now()
        loss, _ = self.bare(*self.batch)
        loss.backward()
        self.bare_optimizer.step()
        self.bare_optimizer.zero_grad()
        end = now()
        self.seconds.append([middle - self.began, end - middle])
        self.began = now()

    def save(self) -> None:
        pass


def measure(cfg: Config, feed: Feed, accelerator) -> np.ndarray:
    """Seconds a step (loop and bare, wall and CPU): robust means over the steps."""
    trainer = Paired(create_run(cfg), feed, accelerator)
    trainer.fit()
    seconds = np.array(trainer.seconds[WARM_UP:])
    tick = np.arange(WARM_UP + 1, cfg.images_seen // BATCH + 1) % cfg.log_every == 0
    plain = np.median(seconds[~tick], axis=0)
    return plain + tick.mean() * (np.median(seconds[tick], axis=0) - plain)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        os.environ["FACELIB_RUNS"] = made
        write_faces(Path(made) / "faces", 48)
        cfg = make_config(
            data=f"{made}/faces", benchmarks="", val_fraction=0.0, image_size=48, threads=1,
            global_batch=BATCH, images_seen=(WARM_UP + options.steps) * BATCH,
            workers=options.workers,
        )  # fmt: skip
        accelerator = make_accelerator(cfg)
        feed = Feed(cfg, accelerator.device)
        seconds = np.stack([measure(cfg, feed, accelerator) for _ in range(options.repeats)])
    rate = BATCH / np.median(seconds, axis=0)
    ratios = seconds[:, 1] / seconds[:, 0]
    result = {
        **vars(options), "loop_images_per_s": round(rate[0, 0], 1),
        "bare_images_per_s": round(rate[1, 0], 1),
        "ratio": round(np.median(ratios[:, 0]), 3),
        "cpu_ratio": round(np.median(ratios[:, 1]), 3),
        "ratios": ratios[:, 0].round(3).tolist(),
    }  # fmt: skip
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
