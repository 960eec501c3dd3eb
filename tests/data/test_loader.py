"""Loader workers: whole batches through shared memory, equal to the images read one by one."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from facelib.config import make_config
from facelib.data.datasets import FaceRecords
from facelib.data.feed import Feed
from facelib.data.loader import RecordBlocks, load_batches
from facelib.errors import BadData
from facelib.formats.decode import encode_jpeg
from facelib.formats.recordio import write_face_records


def write_faces(folder: Path, bad: tuple[int, ...] = ()) -> Path:
    """20 pictures of one grey level each, two an identity."""
    jpegs = [encode_jpeg(np.full((24, 24, 3), 12 * i, np.uint8)) for i in range(20)]
    write_face_records(folder, [(i // 2, b"no" if i in bad else j) for i, j in enumerate(jpegs)])
    return folder


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_equal_the_images_one_by_one_in_order(tmp_path: Path, workers: int):
    # Mutation: one slot too few, so that a worker overwrites what the caller holds; offsets of the
    # records instead of the images (record 0 comes before them).
    faces = FaceRecords(write_faces(tmp_path), size=24)
    rng = np.random.default_rng(0)
    wanted = [rng.integers(0, 20, size) for size in (7, 7, 3, 7, 7, 7, 1, 7, 7, 7)]
    for rows, images in zip(wanted, load_batches(faces, iter(wanted), 7, workers), strict=True):
        one_by_one = torch.stack([faces[i][0] for i in rows])
        assert images.dtype == torch.uint8 and torch.equal(images, one_by_one)


def test_a_bad_record_in_a_worker_is_named_or_replaced_and_counted(tmp_path: Path):
    # Mutation: leaving what the slot held before in the place of a bad record.
    folder = write_faces(tmp_path, bad=(3,))
    wanted = [np.array([0, 3]), np.array([3, 5])]
    with pytest.raises(BadData, match="record 4"):
        list(load_batches(FaceRecords(folder, size=24), iter(wanted), 2, workers=1))
    faces = FaceRecords(folder, size=24, skip_bad=True)
    found = [images.clone() for images in load_batches(faces, iter(wanted), 2, workers=1)]
    assert torch.equal(found[0][1], faces[2][0]) and torch.equal(found[1][0], faces[2][0])
    assert faces.bad == 1


def test_a_worker_gets_no_index(tmp_path: Path):
    # Mutation: pickling the records themselves: 5.8 million keys and offsets for each worker.
    faces = FaceRecords(write_faces(tmp_path), size=24)
    blocks = RecordBlocks(faces, torch.empty((1, 2, 4, 4, 3), dtype=torch.uint8))
    assert len(pickle.dumps(blocks)) < 1500
    assert not any(isinstance(value, np.ndarray) for value in vars(blocks).values())


def test_a_feed_gives_the_same_tensors_with_and_without_workers(tmp_path: Path):
    # Mutation: mirroring other images, or along the other axis, in one of the two ways.
    pixels = np.random.default_rng(0).integers(0, 255, (20, 24, 24, 3), np.uint8)
    write_face_records(tmp_path, [(i // 2, encode_jpeg(p)) for i, p in enumerate(pixels)])
    feeds = [
        Feed(
            make_config(data=str(tmp_path), image_size=24, val_fraction=0.0, workers=n,
                        global_batch=10),
            torch.device("cpu"),
        )
        for n in (0, 1)
    ]  # fmt: skip
    for (a, labels_a), (b, labels_b) in zip(*(feed.batches(1, 4) for feed in feeds), strict=True):
        assert torch.equal(a, b) and torch.equal(labels_a, labels_b)
        assert a.is_contiguous(memory_format=torch.channels_last) and a.min() >= -1
    plain = feeds[0].images(feeds[0].sampler.indices(3)).float().div(127.5).sub(1)
    same = torch.tensor([torch.equal(x, y) for x, y in zip(a, plain)])
    assert 0 < same.sum() < 10 and torch.equal(a[~same], plain[~same].flip(3))
