"""Images a second of the loader alone, against three peers, on one worker and on two.

    python tests/bench/bench_loader.py [--rounds 5] [--batches 30]

(a) `lmdb_style`: what source A's loader does: a key-value file, a pickled (JPEG, label) a record,
Pillow, torchvision's flip, ToTensor and Normalize, default collation in a DataLoader. LMDB itself
is no dependency: a memory-mapped file with a dictionary of places stands for it.
(b) `mxnet`: ImageRecordIter with mirroring and normalisation in its threads, on a copy of the set
with image records only (it fails on a face set's record 0); left out where mxnet is missing. It
takes `preprocess_threads`, but no more than half of the cores less one, so one thread on two cores.
(c) `decode_only`: simplejpeg on JPEGs in memory, in as many processes.

Ours is `facelib` (uint8 batches in the training process, which is what workers do) and
`facelib_floats` (`Feed.batches`: mirrored and scaled there, on the CPU here). All take turns on the
same rendered faces, 112 pixels, quality 95. Prints one JSON object: medians of images/s and of
images per CPU second of all processes and threads together (other programs on the machine change
these less), with medians of the ratios inside a round. `decode_scale` is the pixel difference that
shrinking in the decoder makes.
"""

import argparse
import io
import json
import mmap
import os
import pickle
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import repo  # noqa: F401
import simplejpeg
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from facelib.config import make_config
from facelib.data.datasets import FaceRecords
from facelib.data.feed import Feed
from facelib.data.loader import load_batches
from facelib.errors import UserError
from facelib.formats.decode import decode, encode_jpeg
from facelib.formats.recordio import Header, RecordWriter, pack, write_face_records
from tests.formats.mxnet_reader import import_mxnet

SIZE, BATCH = 112, 128
PEOPLE, IMAGES, COPIES = 20, 10, 20
SCALED = (32, 48, 56, 64)


def rendered_jpegs() -> list[bytes]:
    """Faces of 20 rendered people, 10 pictures each."""
    from facelib.rendered.heads import load_assets
    from facelib.rendered.mesh import build_model
    from facelib.rendered.people import sample_person
    from facelib.rendered.render import render
    from facelib.rendered.scene import sample_conditions

    assets, jpegs = load_assets(), []
    for person in range(PEOPLE):
        model = build_model(assets, sample_person(assets, [7, person]))
        for number in range(IMAGES):
            rng = np.random.default_rng([7, person, number])
            conditions = sample_conditions(rng, rng.normal(0, 0.5))
            jpegs.append(encode_jpeg(render(assets, model, conditions, SIZE).image))
    return jpegs


def write_sets(folder: Path, jpegs: list[bytes]) -> None:
    """The same images as a face set, as image records only, and as a key-value file."""
    items = [(i // IMAGES, jpeg) for i, jpeg in enumerate(jpegs) for _ in range(COPIES)]
    write_face_records(folder / "faces", items)
    with RecordWriter(folder / "images") as writer:
        for key, (label, jpeg) in enumerate(items):
            writer.write(key, pack(Header(0, label, key, 0), jpeg))
    with open(folder / "pairs.bin", "wb") as file:
        places = {}
        for key, (label, jpeg) in enumerate(items):
            value = pickle.dumps((jpeg, label))
            places[b"%08d" % key] = (file.tell(), len(value))
            file.write(value)
    (folder / "places.pickle").write_bytes(pickle.dumps(places))


class LmdbStyle(Dataset):
    """Source A's data set, on a memory-mapped key-value file."""

    def __init__(self, folder: Path):
        from torchvision import transforms

        self.folder, self.map = folder, None
        self.places = pickle.loads((folder / "places.pickle").read_bytes())
        self.transform = transforms.Compose([
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize([0.5] * 3, [0.5] * 3),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        if self.map is None:
            with open(self.folder / "pairs.bin", "rb") as file:
                self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        start, length = self.places[b"%08d" % i]
        jpeg, label = pickle.loads(self.map[start : start + length])
        return self.transform(Image.open(io.BytesIO(jpeg)).convert("RGB")), label


def rows(images: int) -> Iterator[np.ndarray]:
    """Random batches of indices without end."""
    rng = np.random.default_rng(0)
    while True:
        yield rng.integers(0, images, BATCH)


def batches_of_lmdb_style(folder: Path, workers: int) -> Iterator:
    data = LmdbStyle(folder)
    sampler = (batch.tolist() for batch in rows(len(data)))
    return iter(
        DataLoader(
            data, batch_sampler=sampler, num_workers=workers, multiprocessing_context="forkserver"
        )
    )


def batches_of_mxnet(folder: Path, workers: int) -> Iterator:
    mxnet = import_mxnet()
    path = str(folder / "images" / "train")
    scaled = {f"mean_{c}": 127.5 for c in "rgb"} | {f"std_{c}": 127.5 for c in "rgb"}
    iterator = mxnet.io.ImageRecordIter(
        path_imgrec=path + ".rec", path_imgidx=path + ".idx", data_shape=(3, SIZE, SIZE),
        batch_size=BATCH, rand_mirror=True, preprocess_threads=workers, round_batch=True, **scaled,
    )  # fmt: skip
    while True:
        for batch in iterator:
            batch.data[0].wait_to_read()
            yield batch.data[0]
        iterator.reset()


def batches_of_feed(folder: Path, workers: int) -> Iterator:
    cfg = make_config(
        data=str(folder / "faces"), image_size=SIZE, workers=workers, global_batch=BATCH,
        val_fraction=0.0, width=4,
    )  # fmt: skip
    return Feed(cfg, torch.device("cpu")).batches(0, 1 << 30)


def batches_of_blocks(folder: Path, workers: int) -> Iterator:
    faces = FaceRecords(folder / "faces", SIZE)
    return load_batches(faces, rows(len(faces)), BATCH, workers)


def decode_for_ever(jpegs: list[bytes], queue) -> None:
    """A process that tells after each batch that it is done."""
    for turn in count():
        for i in range(BATCH):
            simplejpeg.decode_jpeg(jpegs[(turn * BATCH + i) % len(jpegs)], "RGB")
        queue.put(turn)


def batches_of_decoder(jpegs: list[bytes], workers: int) -> Iterator:
    context = get_context("forkserver")
    queue = context.Queue(2 * workers)
    for _ in range(workers):
        context.Process(target=decode_for_ever, args=(jpegs, queue), daemon=True).start()
    while True:
        yield queue.get()


def cpu_seconds() -> float:
    """CPU seconds so far of this process and all that descend from it (Linux)."""
    parent, ticks = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # the process has ended
        pid = int(path.parent.name)
        parent[pid], ticks[pid] = int(fields[1]), int(fields[11]) + int(fields[12])

    def is_ours(pid: int) -> bool:
        return pid == os.getpid() or (pid in parent and is_ours(parent[pid]))

    return sum(ticks[pid] for pid in ticks if is_ours(pid)) / os.sysconf("SC_CLK_TCK")


def measure(folder: Path, jpegs: list[bytes], workers: int, rounds: int, batches: int) -> dict:
    """Medians over the rounds of the speeds and of their ratios, all methods in turn."""
    streams = {
        "facelib": batches_of_blocks(folder, workers),
        "facelib_floats": batches_of_feed(folder, workers),
        "lmdb_style": batches_of_lmdb_style(folder, workers),
        "decode_only": batches_of_decoder(jpegs, workers),
    }
    try:
        import_mxnet()
        streams["mxnet"] = batches_of_mxnet(folder, workers)
    except UserError:
        pass
    wall: dict[str, list[float]] = {name: [] for name in streams}
    cpu: dict[str, list[float]] = {name: [] for name in streams}
    for _ in range(rounds):
        for name, stream in streams.items():
            time.sleep(1)  # the one before fills its queue and rests
            for _ in range(4 * workers + 4):  # what was prefetched while the others ran
                next(stream)
            start, used = time.perf_counter(), cpu_seconds()
            for _ in range(batches):
                next(stream)
            wall[name].append(batches * BATCH / (time.perf_counter() - start))
            cpu[name].append(batches * BATCH / (cpu_seconds() - used))
    return {"per_second": summarise(wall), "per_cpu_second": summarise(cpu)}


def summarise(rates: dict[str, list[float]]) -> dict:
    """Medians of the rates and of the ratios of ours to the peers'."""
    found = {name: round(statistics.median(values)) for name, values in rates.items()}
    for ours in ("facelib", "facelib_floats"):
        for peer in ("lmdb_style", "mxnet", "decode_only"):
            if peer in rates:
                ratios = [a / b for a, b in zip(rates[ours], rates[peer])]
                found[f"{ours}/{peer}"] = round(statistics.median(ratios), 2)
    return found


def scale_difference(jpegs: list[bytes]) -> dict:
    """Grey levels between shrinking in the decoder and full decoding; and the gain in speed."""
    found = {}
    for size in SCALED:
        seconds, pixels = {}, {}
        for scale in (False, True) * 2:
            start = time.perf_counter()
            pixels[scale] = np.stack([decode(j, size, scale=scale) for j in jpegs]).astype(int)
            seconds[scale] = time.perf_counter() - start
        gap = np.abs(pixels[True] - pixels[False])
        found[size] = {
            "mean": round(float(gap.mean()), 2), "percentile_99": float(np.percentile(gap, 99)),
            "largest": int(gap.max()), "speed_ratio": round(seconds[False] / seconds[True], 2),
        }  # fmt: skip
    return found


def main() -> None:
    """Parse the command line, measure, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=30, help="of 128 images, timed each round")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    jpegs = rendered_jpegs()
    result = {"size": SIZE, "batch": BATCH, "cores": os.cpu_count()}
    result["mean_jpeg_bytes"] = round(statistics.mean(map(len, jpegs)))
    result["decode_scale"] = scale_difference(jpegs)
    with tempfile.TemporaryDirectory() as made:
        write_sets(Path(made), jpegs)
        for workers in options.workers:
            found = measure(Path(made), jpegs, workers, options.rounds, options.batches)
            result[f"workers_{workers}"] = found
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
