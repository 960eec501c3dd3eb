"""The embedded data set: *rendered* faces, no real person in them, in the real formats.

`rendered_dataset` makes, on first use, a folder with a training set (`train.rec`, `train.idx`,
`property`, `names.txt`) and three verification benchmarks (`lfw.bin`, `cfp_ff.bin`, `cfp_fp.bin`
look-alikes) whose people are disjoint from the training people. Every picture depends only on the
spec and its own numbers, so the bytes do not depend on how many processes drew them.
"""

import json
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from tqdm.auto import tqdm

from facelib.formats.benchmarks import save_benchmark
from facelib.formats.recordio import write_face_records
from facelib.paths import data_root
from facelib.rendered.heads import HeadAssets, load_assets
from facelib.rendered.mesh import build_model
from facelib.rendered.pairs import choose_pairs
from facelib.rendered.people import Person, sample_person
from facelib.rendered.render import Picture, render
from facelib.rendered.scene import sample_conditions
from facelib.rendered.spec import RenderedSpec
from facelib.safety.mortal import without_script

log = logging.getLogger(__name__)

TRAIN, TEST, PLANTED = 0, 1, 4  # planted: other pictures of test people, for training
FRONTAL, PROFILE, WILD = 7, 3, 7  # pictures of a test identity
SECONDS_PER_IMAGE, BYTES_PER_IMAGE = 0.008, 3_400  # one core at 64 px, for the estimates


def mixed_yaw(rng: np.random.Generator) -> float:
    """Yaw (radians) of a training picture: 45 % near frontal, 35 % turned, 20 % profile."""
    kind = rng.random()
    if kind < 0.45:
        return rng.normal(0, 0.25)
    if kind < 0.80:
        return rng.uniform(-0.8, 0.8)
    return rng.choice((-1, 1)) * rng.uniform(0.8, np.pi / 2)


def benchmark_yaw(rng: np.random.Generator, number: int) -> float:
    """Yaw (radians) of picture `number` of a test identity: frontal, profile (69–90°), wild."""
    if number < FRONTAL:
        return float(np.clip(rng.normal(0, 0.17), -0.45, 0.45))
    if number < FRONTAL + PROFILE:
        return rng.choice((-1, 1)) * np.radians(rng.uniform(69, 90))
    return float(np.clip(rng.normal(0, 0.35), -1.2, 1.2))


def person_of(assets: HeadAssets, spec: RenderedSpec, split: int, identity: int) -> Person:
    """Who an identity of a split is: the pictures and what is told of the traits start here."""
    people = TEST if split == PLANTED else split
    return sample_person(assets, [spec.seed, people, identity], spec.spread)


def draw_identity(spec: RenderedSpec, split: int, identity: int, root: Path) -> list[Picture]:
    """All pictures of one person of the split `TRAIN`, `TEST` or `PLANTED`."""
    assets = load_assets(root)
    model = build_model(assets, person_of(assets, spec, split, identity))
    count = FRONTAL + PROFILE + WILD if split == TEST else spec.images
    pictures = []
    for number in range(count):
        rng = np.random.default_rng([spec.seed, split, identity, number + 1])
        yaw = benchmark_yaw(rng, number) if split == TEST else mixed_yaw(rng)
        conditions = sample_conditions(rng, yaw, spec.nuisance)
        pictures.append(render(assets, model, conditions, spec.size))
    return pictures


def build_rendered(spec: RenderedSpec, folder: Path, root: Path, workers: int) -> None:
    load_assets(root)  # parse once, before several processes would
    jobs = [(spec, TRAIN, i, root) for i in range(spec.identities)]
    jobs += [(spec, TEST, i, root) for i in range(spec.test_identities)]
    test_images = FRONTAL + PROFILE + WILD
    total = spec.identities * spec.images + spec.test_identities * test_images
    workers = max(1, min(workers, spec.identities))
    pixels = (spec.size / 64) ** 2
    seconds = total * SECONDS_PER_IMAGE * (0.6 + 0.4 * pixels) / workers + 15
    log.info(
        "rendering %d faces of %d people at %d px with %d processes into %s: about %.0f s, %.0f MB",
        *(total, spec.identities + spec.test_identities, spec.size, workers, root),
        *(seconds, (total + 7 * spec.test_identities) * BYTES_PER_IMAGE / 1e6 * pixels**0.8),
    )
    with (
        tqdm(total=total, unit="image", desc="rendered faces", mininterval=1) as progress,
        drawn(jobs, workers) as identities,
    ):
        write_face_records(
            folder,
            _train_images(spec, identities, progress, folder),
            size=(spec.size, spec.size),
            names=[f"rendered-{i:05d}" for i in range(spec.identities)],
        )
        tests = []
        for _ in range(spec.test_identities):
            tests.append(next(identities))
            progress.update(len(tests[-1]))
    _write_benchmarks(spec, tests, folder)
    (folder / "spec.json").write_text(json.dumps(spec.settings(), indent=2) + "\n")


@contextmanager
def drawn(jobs: list[tuple], workers: int) -> Iterator[Iterator[list]]:
    """Yield an iterator over the encoded pictures of each job (`draw_identity`), in order."""
    if workers == 1:
        yield map(_encode_identity, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker) as pool:
        try:
            with without_script():  # the first job starts all processes
                identities = pool.map(_encode_identity, jobs, chunksize=2)
            yield identities
        finally:
            pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """One thread a process; Ctrl-C is the parent's business; no worker outlives its parent."""
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _encode_identity(job) -> list[tuple[bytes, np.ndarray, str]]:
    """(JPEG, [yaw, pitch, roll, 5 × (x, y)], what hides) for each picture of an identity."""
    return [
        (encode(shown),
         np.array([shown.yaw, shown.pitch, shown.roll, *shown.landmarks.ravel()]), shown.hidden)
        for shown in draw_identity(*job)
    ]  # fmt: skip


def encode(shown: Picture) -> bytes:
    """A picture as the sets hold it."""
    return simplejpeg.encode_jpeg(shown.image, quality=95, colorspace="RGB")


def _train_images(spec, identities, progress, folder: Path) -> Iterator[tuple[int, bytes]]:
    """Hand the training pictures to the writer; afterwards leave `train.meta.npz`."""
    rows, labels = [], []
    for label in range(spec.identities):
        for jpeg, meta, _ in next(identities):
            rows.append(meta)
            labels.append(label)
            progress.update()
            yield label, jpeg
    table = np.array(rows, np.float32)
    angles = dict(zip(("yaw", "pitch", "roll"), table[:, :3].T))
    landmarks = table[:, 3:].reshape(-1, 5, 2)
    np.savez(folder / "train.meta.npz", **angles, landmarks=landmarks, label=np.array(labels))


def _write_benchmarks(spec: RenderedSpec, tests: list, folder: Path) -> None:
    """Three benchmarks over the same test people: frontal–frontal, frontal–profile, wild."""
    frontal, profile = range(FRONTAL), range(FRONTAL, FRONTAL + PROFILE)
    wild = range(FRONTAL + PROFILE, FRONTAL + PROFILE + WILD)
    sides = {"cfp_ff": (frontal, frontal), "cfp_fp": (frontal, profile), "lfw": (wild, wild)}
    for number, (name, (first, second)) in enumerate(sides.items()):
        rng = np.random.default_rng([spec.seed, 2, number])
        pairs, same, fold = choose_pairs(rng, spec.test_identities, first, second)
        shown = [[tests[i][n] for i, n in pairs[:, side]] for side in (0, 1)]
        facts = {f"id{k + 1}": pairs[:, k, 0] + spec.identities for k in (0, 1)}  # not in training
        for k, side in enumerate(shown, start=1):
            facts[f"yaw{k}"] = np.array([meta[0] for _, meta, _ in side], np.float32)
            facts[f"hidden{k}"] = [hidden for *_, hidden in side]
        jpegs = [[jpeg for jpeg, *_ in side] for side in shown]
        save_benchmark(folder / f"{name}.bin", *jpegs, same, fold=fold, **facts)


def contact_sheet(
    spec: RenderedSpec, identities: int, yaws: Sequence[float], root: Path | None = None
) -> np.ndarray:
    """Picture (identities·112, len(yaws)·112, 3) uint8: a training person a row, a yaw a column.

    Yaws are in degrees. The first column has mild conditions, the others those of the spec.
    """
    assets = load_assets(Path(root or data_root()))
    rows = []
    for identity in range(identities):
        model = build_model(assets, person_of(assets, spec, TRAIN, identity))
        row = []
        for column, yaw in enumerate(yaws):
            rng = np.random.default_rng([spec.seed, 3, identity, column])
            strength = spec.nuisance * (1.0 if column else 0.25)
            conditions = sample_conditions(rng, np.radians(yaw), strength)
            row.append(render(assets, model, conditions, 112).image)
        rows.append(np.concatenate(row, 1))
    return np.concatenate(rows)
