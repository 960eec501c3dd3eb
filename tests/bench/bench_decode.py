"""Images a second from a face set: ours against Pillow and mxnet, in one process and thread.

    python tests/bench/bench_decode.py [FOLDER] [--images 3000] [--size 112]

Without a folder, 1,000 noisy pictures of 112×112 are written first. Prints one JSON object; best of
three rounds, the methods in turn, so that a busy machine hurts all alike.
"""

import argparse
import io
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import repo  # noqa: F401
from PIL import Image

from facelib.data.datasets import FaceRecords
from facelib.errors import UserError
from facelib.formats.decode import decode, encode_jpeg
from facelib.formats.recordio import unpack, write_face_records
from tests.formats.mxnet_reader import MxnetReader, import_mxnet

ROUNDS = 3


def write_noise(folder: Path, count: int = 1000) -> None:
    """A face set of smooth random pictures: about the bytes of a photograph at quality 95."""
    rng = np.random.default_rng(0)

    def picture() -> np.ndarray:
        smooth = cv2.resize(rng.integers(0, 256, (14, 14, 3), np.uint8), (112, 112))
        return np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)

    write_face_records(folder, ((i // 10, encode_jpeg(picture())) for i in range(count)))


def methods(folder: Path, size: int) -> dict[str, Callable[[int], object]]:
    """Name → function of the image's index that reads and decodes it."""
    faces = FaceRecords(folder, size)
    filled = FaceRecords(folder, size, fill_border="replicate")
    found = {
        "facelib_read_only": faces.jpeg,
        "facelib_item": lambda i: faces[i],
        "facelib_item_filled_border": lambda i: filled[i],
        "facelib_decode": lambda i: decode(faces.jpeg(i)),
        "pillow": lambda i: np.array(Image.open(io.BytesIO(faces.jpeg(i))).convert("RGB")),
        "opencv": lambda i: cv2.imdecode(np.frombuffer(faces.jpeg(i), np.uint8), 1)[..., ::-1],
    }
    try:
        mxnet = import_mxnet()
    except UserError:
        return found
    reader, keys = MxnetReader(folder), faces.keys
    found["mxnet_read_only"] = lambda i: reader.read(keys[i])
    found["mxnet"] = lambda i: mxnet.image.imdecode(
        bytes(unpack(reader.read(keys[i]))[1])
    ).asnumpy()
    return found


def measure(folder: Path, images: int, size: int) -> dict:
    """Images a second of each method over the same random indices."""
    cv2.setNumThreads(1)
    count = len(FaceRecords(folder, size))
    chosen = np.random.default_rng(0).integers(0, count, min(images, count)).tolist()
    best: dict[str, float] = {}
    for _ in range(ROUNDS):
        for name, read in methods(folder, size).items():
            started = time.perf_counter()
            for i in chosen:
                read(i)
            rate = len(chosen) / (time.perf_counter() - started)
            best[name] = max(best.get(name, 0.0), round(rate, 1))
    return {"folder": str(folder), "images": len(chosen), "size": size, "images_per_second": best}


def main() -> None:
    """Parse the command line, measure, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--size", type=int, default=112)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = options.folder or Path(made)
        if options.folder is None:
            write_noise(folder)
        print(json.dumps(measure(folder, options.images, options.size)))


if __name__ == "__main__":
    main()
