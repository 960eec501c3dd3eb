"""What a run reports while it trains: metrics.jsonl, and TensorBoard where it is installed."""

import json
import logging
import time
from pathlib import Path

import torch

from facelib.locks import peak_memory
from facelib.paths import atomic_file
from facelib.runs.files import read_metrics

log = logging.getLogger(__name__)


def peak_memory_mb() -> float:
    """Largest memory so far: of the GPU where there is one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return peak_memory() / 2**20


class MetricsLog:
    """One line per tick: step, images, epoch, loss, …, images_per_s, eta_s, peak_memory_mb."""

    def __init__(self, folder: Path, main: bool):
        self.path, self.main = folder / "metrics.jsonl", main
        self.board = _tensorboard(folder) if main else None
        self.losses: list[float] = []

    def cut_after(self, step: int) -> None:
        """Drop lines past a step: a killed run repeats the steps after its checkpoint."""
        if not self.main or not self.path.exists():
            return
        kept = [row for row in read_metrics(self.path) if row["step"] <= step]
        with atomic_file(self.path) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))

    def start(self, step: int, steps: int, batch: int) -> None:
        """Begin the clock at a step."""
        self.steps, self.batch = steps, batch
        self.clock = self.first_clock = time.monotonic()
        self.last = self.first = step

    def write(self, step: int, values: dict[str, float]) -> None:
        """One line, with speed since the line before and the time left at the mean speed so far."""
        now = time.monotonic()
        speed = (step - self.last) * self.batch / max(now - self.clock, 1e-9)
        mean = (now - self.first_clock) / max(step - self.first, 1)
        row = {
            "step": step,
            "images": step * self.batch,
            **values,
            "images_per_s": round(speed, 1),
            "eta_s": round(mean * (self.steps - step), 1),
            "peak_memory_mb": round(peak_memory_mb(), 1),
        }
        self.losses.append(values["loss"])
        self.clock, self.last = now, step
        self._append(row)

    def write_validation(self, step: int, figures: dict[str, float]) -> None:
        """One line with the validation figures."""
        self._append({"step": step, **figures})

    def mean_loss(self) -> float:
        """Mean logged training loss since the last call."""
        mean = sum(self.losses) / max(len(self.losses), 1)
        self.losses.clear()
        return mean

    def _append(self, row: dict) -> None:
        if not self.main:
            return
        with open(self.path, "a") as handle:
            handle.write(json.dumps(row) + "\n")
        if self.board is not None:
            for name, value in row.items():
                self.board.add_scalar(name, value, row["step"])

    def close(self) -> None:
        """Flush TensorBoard."""
        if self.board is not None:
            self.board.close()


def _tensorboard(folder: Path):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None  # optional: metrics.jsonl holds the same figures
    return SummaryWriter(folder / "tensorboard")
