"""Seconds until a face set is open, by its number of records; prints JSON.

    python tests/bench/bench_index.py [--images 1000 10000 100000 1000000 5822653] [--payload 0]

Each time is [wall, CPU] seconds, best of the repeats. `cold_s` reads the text index and the labels
once, with neither file in the page cache; `open_s` does so again, `feed_s` adds split, sampler and
the first batch's indices of a run (`Feed` without decoding). The records hold no picture (32
bytes), so that 5.8 million take 0.3 GB, which are deleted. What a disk costs shows only with
pictures between the labels: `--images 1164530 --payload 5000` is a fifth of MS1M, 6 GB.
"""

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import repo  # noqa: F401
import torch

from facelib.config import make_config
from facelib.data.datasets import FaceRecords
from facelib.data.feed import Feed
from facelib.formats.record_bytes import FRAME, HEADER, MAGIC

PER_IDENTITY = 68  # MS1M-ArcFace: 5,822,653 images of 85,742 people
FIELDS = [("magic", "S4"), ("length", "<u4"), ("flag", "<u4"), ("label", "<f4"), ("ids", "<u8", 2)]
AT_ONCE = 100_000  # records written at once


def write_empty_faces(folder: Path, images: int, payload: int) -> None:
    """A face set whose pictures are zeros, as `write_face_records` would write it."""
    people = max(2, images // PER_IDENTITY)
    bounds = np.linspace(1, images + 1, people + 1).astype(int)
    label = np.repeat(np.arange(people), np.diff(bounds))
    ranges = np.zeros(people + 1, [*FIELDS, ("labels", "<f4", 2)])
    ranges["labels"][0] = images + 1, images + 1 + people
    ranges["labels"][1:] = np.stack([bounds[:-1], bounds[1:]], 1)
    ranges["flag"] = 2
    with open(folder / "train.rec", "wb") as file:
        for start in range(0, images, AT_ONCE):
            part = label[start : start + AT_ONCE]
            faces = np.zeros(len(part), [*FIELDS, ("picture", "V", payload)])
            faces["label"] = part
            write_framed(file, faces)
        write_framed(file, ranges)
    size = FRAME.size + HEADER.size + payload
    keys = np.r_[1 : images + 1, 0, images + 1 : images + 1 + people]
    behind = images * size + np.arange(people + 1) * ranges.itemsize
    places = np.r_[np.arange(images) * size, behind]
    with open(folder / "train.idx", "w") as file:
        file.writelines(f"{key}\t{at}\n" for key, at in zip(keys.tolist(), places.tolist()))


def write_framed(file: BinaryIO, records: np.ndarray) -> None:
    """Append records whose frames say their length."""
    records["magic"], records["length"] = MAGIC, records.itemsize - FRAME.size
    records.tofile(file)


def forget(folder: Path) -> None:
    """Drop the files of a face set from the page cache."""
    for path in (folder / "train.rec", folder / "train.idx"):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def best_seconds(call: Callable[[], object], repeats: int) -> list[float]:
    """Least wall and CPU seconds of a call."""
    spent = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        spent.append((time.perf_counter() - wall, time.process_time() - cpu))
    return np.round(np.min(spent, axis=0), 3).tolist()


def measure(folder: Path, images: int, payload: int, repeats: int) -> dict:
    """Seconds to open a face set, cold and warm, and of a run's whole feed."""
    write_empty_faces(folder, images, payload)
    cfg = make_config(
        data=str(folder), image_size=112, workers=1, val_fraction=0.2, split="within", width=4
    )

    def feed() -> None:
        Feed(cfg, torch.device("cpu")).sampler.indices(0)

    forget(folder)
    found = {"cold_s": best_seconds(lambda: FaceRecords(folder, 112), 1)}
    found["open_s"] = best_seconds(lambda: FaceRecords(folder, 112), repeats)
    found["feed_s"] = best_seconds(feed, min(repeats, 2))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sizes = [1000, 10_000, 100_000, 1_000_000, 5_822_653]
    parser.add_argument("--images", type=int, nargs="+", default=sizes)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--payload", type=int, default=0, help="bytes of a picture, divisible by 4")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    result = {}
    for images in options.images:
        with tempfile.TemporaryDirectory() as made:
            os.environ["FACELIB_DATA"] = made
            result[images] = measure(Path(made), images, options.payload, options.repeats)
    json.dump(result, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
