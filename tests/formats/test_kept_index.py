"""The kept index of a large set: the same as the parsed one, and never of other files."""

import os
from pathlib import Path

import numpy as np
import pytest

from facelib.errors import BadData
from facelib.formats import kept_index
from facelib.formats.kept_index import index_places, open_face_set
from facelib.formats.recordio import write_face_records


@pytest.fixture
def faces(tmp_path: Path, monkeypatch) -> Path:
    """6 images of 3 people, in a set that counts as large."""
    monkeypatch.setattr(kept_index, "KEPT_FROM", 1)
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path / "root"))
    return write(tmp_path / "set", [0, 0, 1, 2, 2, 2])


def write(folder: Path, labels: list[int]) -> Path:
    write_face_records(folder, ((label, b"picture %d" % i) for i, label in enumerate(labels)))
    return folder


def refuse_parsing(monkeypatch) -> None:
    monkeypatch.setattr(kept_index, "read_face_index", lambda reader: pytest.fail("parsed again"))


def test_a_kept_index_equals_the_parsed_one(faces: Path, monkeypatch):
    # Mutation: images from the first record on (record 0 is no image); offsets and keys swapped.
    reader, keys, labels = open_face_set(faces)
    assert index_places(faces / "train.rec")[0].is_file()
    refuse_parsing(monkeypatch)
    again, kept_keys, kept_labels = open_face_set(faces)
    assert np.array_equal(kept_keys, keys) and np.array_equal(kept_labels, labels)
    assert [again.read(key) for key in range(10)] == [reader.read(key) for key in range(10)]


def test_a_small_set_keeps_none(faces: Path, monkeypatch):
    # Mutation: littering every folder of a few images.
    monkeypatch.setattr(kept_index, "KEPT_FROM", 100)
    open_face_set(faces)
    assert not any(place.exists() for place in index_places(faces / "train.rec"))


def test_another_file_of_the_same_size_is_parsed_anew(faces: Path):
    # Mutation: a stamp of sizes only.
    open_face_set(faces)
    write(faces, [0, 0, 0, 1, 2, 2])
    assert open_face_set(faces)[2].tolist() == [0, 0, 0, 1, 2, 2]
    os.utime(faces / "train.idx", ns=(1, 1))
    (faces / "train.idx").write_text("no index\n")
    with pytest.raises(BadData, match="line 1"):
        open_face_set(faces)


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY no array", None])
def test_a_damaged_kept_index_is_made_again(faces: Path, damage: bytes | None):
    # Mutation: an error of numpy's instead of parsing.
    open_face_set(faces)
    place = index_places(faces / "train.rec")[0]
    whole = place.read_bytes()
    place.write_bytes(whole[:-8] if damage is None else damage)
    assert open_face_set(faces)[2].tolist() == [0, 0, 1, 2, 2, 2]
    assert place.read_bytes() == whole


def test_where_the_folder_cannot_be_written_the_data_root_keeps_it(faces: Path, monkeypatch):
    # Mutation: failing on read-only data, or parsing it at every start.
    def read_only(path: Path):
        if path.parent == faces:
            raise PermissionError(13, "Permission denied")
        return atomic_file(path)

    atomic_file = kept_index.atomic_file
    monkeypatch.setattr(kept_index, "atomic_file", read_only)
    open_face_set(faces)
    beside, in_root = index_places(faces / "train.rec")
    assert in_root.is_file() and not beside.exists()
    refuse_parsing(monkeypatch)
    assert open_face_set(faces)[2].tolist() == [0, 0, 1, 2, 2, 2]
