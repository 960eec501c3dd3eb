"""Sets that other tools write through mxnet are read record by record, and mxnet reads ours."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from facelib.data.datasets import FaceRecords
from facelib.formats.decode import encode_jpeg
from facelib.formats.face_index import read_face_index
from facelib.formats.rebuild import rebuild_index
from facelib.formats.recordio import write_face_records

LABELS = [0, 0, 0, 1, 2, 2, 3, 3]
PEOPLE = len(set(LABELS))


def image(number: int) -> bytes:
    return encode_jpeg(np.random.default_rng(number).integers(0, 256, (24, 24, 3), np.uint8))


def face2rec2(header, start: int = 1, wrong: int = 0) -> Iterator[tuple]:
    """Keys and records as InsightFace's own: images, record 0, a range for each identity."""
    end = start + len(LABELS)
    for key, label in enumerate(LABELS, start):
        yield key, header(0, float(label), key, 0), image(key - start)
    yield 0, header(2, [end + wrong, end + PEOPLE], 0, 0), b""
    for label in range(PEOPLE):
        first = start + LABELS.index(label)
        yield end + label, header(2, [first, first + LABELS.count(label)], end + label, 0), b""


def rec_builder(header, pack_label: bool = False, keys: range = range(8)) -> Iterator[tuple]:
    """InsightFace's RecBuilder (keys from 0); im2rec writes the keys of its list."""
    for number, (key, label) in enumerate(zip(keys, LABELS)):
        listed = [label, number, 48.5]
        yield key, header(0, listed if pack_label else float(label), key, 0), image(number)


def shuffled(header, pack_label: bool = False) -> Iterator[tuple]:
    """InsightFace's shuffle_rec: keys count anew, ids and flags stay as they were."""
    for key, number in enumerate(np.random.default_rng(1).permutation(8).tolist()):
        listed = [LABELS[number], 0.0]
        label = listed if pack_label else float(LABELS[number])
        yield key, header(2 * pack_label, label, number + 1, 0), image(number)


def gaps_at_random(header) -> Iterator[tuple]:
    """im2rec from a shuffled list with gaps."""
    written = list(rec_builder(header, True, range(3, 80, 10)))
    yield from (written[i] for i in np.random.default_rng(2).permutation(8))


WRITERS = {
    "face2rec2": face2rec2,
    "count rounded down": lambda header: face2rec2(header, wrong=-2),
    "count rounded up": lambda header: face2rec2(header, wrong=2),
    "RecBuilder": rec_builder,
    "RecBuilder, list labels": lambda header: rec_builder(header, True),
    "im2rec from 1": lambda header: rec_builder(header, False, range(1, 9)),
    "im2rec --pack-label with gaps": gaps_at_random,
    "shuffle_rec": shuffled,
    "shuffle_rec, list labels": lambda header: shuffled(header, True),
}


def write(recordio, folder: Path, records: Iterator[tuple]) -> None:
    paths = [str(folder / name) for name in ("train.idx", "train.rec")]
    writer = recordio.MXIndexedRecordIO(*paths, "w")
    for key, header, payload in records:
        writer.write_idx(key, recordio.pack(header, payload))
    writer.close()


@pytest.mark.parametrize("rebuilt", [False, True], ids=["its index", "index rebuilt"])
@pytest.mark.parametrize("name", WRITERS)
def test_what_mxnet_wrote_is_read_record_by_record(tmp_path, recordio, name, rebuilt):
    # Mutation: record 0 taken for a count because it has a list; images by float32 counts.
    write(recordio, tmp_path, WRITERS[name](recordio.IRHeader))
    if rebuilt:
        (tmp_path / "train.idx").unlink()
        rebuild_index(tmp_path)
    faces = FaceRecords(tmp_path, size=24)
    found = sorted((faces.jpeg(i), int(faces.labels[i])) for i in range(len(faces)))
    assert found == sorted((image(number), label) for number, label in enumerate(LABELS))
    assert read_face_index(faces.reader, scan_limit=0).labels.tolist() == faces.labels.tolist()
    paths = [str(tmp_path / name) for name in ("train.idx", "train.rec")]
    theirs = recordio.MXIndexedRecordIO(*paths, "r")
    for i, key in enumerate(faces.keys.tolist()):
        header, pixels = recordio.unpack_img(theirs.read_idx(key), cv2.IMREAD_COLOR)
        assert float(np.ravel(header.label)[0]) == faces.labels[i]
        assert np.abs(pixels[..., ::-1].astype(int) - faces.image(i)[0]).max() <= 1


def test_mxnet_reads_what_we_write(tmp_path, recordio):
    # Mutation: a header, a range of an identity or record 0 that InsightFace reads otherwise.
    write_face_records(tmp_path, ((label, image(i)) for i, label in enumerate(LABELS)))
    paths = [str(tmp_path / name) for name in ("train.idx", "train.rec")]
    theirs = recordio.MXIndexedRecordIO(*paths, "r")
    written = list(face2rec2(recordio.IRHeader))
    assert sorted(theirs.keys) == sorted(key for key, *_ in written)
    for key, header, payload in written:
        found, content = recordio.unpack(theirs.read_idx(key))
        assert content == payload and np.array_equal(found.label, header.label)
        assert (found.flag, found.id, found.id2) == (header.flag, key, 0)
