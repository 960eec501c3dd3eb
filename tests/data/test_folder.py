"""A folder of people trains without packing, as the set that `prepare folder` makes of it does."""

from pathlib import Path

import numpy as np
import pytest
import torch

from facelib.config import make_config
from facelib.data.datasets import FaceRecords
from facelib.data.locate import train_folder
from facelib.errors import BadData, BadRecord, UserError
from facelib.formats.recordio import RecordReader, unpack
from facelib.prepare.folders import folder_to_records
from facelib.runs.folder import create_run
from facelib.runs.origin import check_data
from facelib.training.train import train


@pytest.fixture
def both(tiny_records: Path, tmp_path: Path) -> list[Path]:
    """A tree of 24 people with an empty folder and a text file, and the set packed from it."""
    reader = RecordReader(tiny_records)
    for key in range(1, 145):
        header, payload = unpack(reader.read(key))
        path = tmp_path / "tree" / f"person {int(header.label):02d}" / f"{key:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(payload)
    (tmp_path / "tree" / "person 03" / "notes.txt").write_text("no picture")
    (tmp_path / "tree" / "nobody").mkdir()
    folder_to_records(tmp_path / "tree", tmp_path / "packed", size=32)
    (tmp_path / "out.txt").write_text("person 05\n7\n")
    return [tmp_path / "tree", tmp_path / "packed"]


def settings(folder: Path, **changes):
    chosen = {
        "data": str(folder), "benchmarks": "", "width": 4, "image_size": 16, "dim": 8,
        "global_batch": 16, "images_seen": 96, "val_fraction": 0.25, "threads": 1,
    }  # fmt: skip
    return make_config(**chosen | changes)


def test_index_names_and_exclusions_are_those_of_the_packed_set(both, caplog):
    # Mutation: the empty folder counted as a person; labels of an exclusion counted otherwise.
    tree, packed = (FaceRecords(f, 16, exclude=both[0].parent / "out.txt") for f in both)
    assert tree.names == packed.names and len(tree) == len(packed) == 132
    for name in ("keys", "labels", "stored"):
        assert np.array_equal(getattr(tree, name), getattr(packed, name))
    assert np.array_equal(tree.load_all(), packed.load_all()) and tree.jpeg(9) == packed.jpeg(9)
    assert "1 left out: no picture by its name (.txt)" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_tree_gives_the_weights_of_the_packed_set(both, runs_folder, workers: int):
    # Mutation: another order of files, so another split or other batches.
    exclude, states = str(both[0].parent / "out.txt"), []
    for folder in both:
        run = create_run(settings(folder, exclude=exclude, workers=workers, split="within"))
        train(run)
        kept = torch.load(run.path / "checkpoints" / "last.pt", weights_only=True)
        states.append(kept["learner"])
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[1])


@pytest.mark.slow
def test_a_run_notices_that_its_tree_changed(both, runs_folder):
    run = create_run(settings(both[0]))
    train(run)
    check_data(run)
    (both[0] / "person 00" / "001.jpg").unlink()
    with pytest.raises(BadData, match="data of this run changed: .*tree"):
        check_data(run)


def test_a_file_that_is_no_picture_is_named_or_skipped(both):
    (both[0] / "person 00" / "001.jpg").write_bytes(b"no jpeg")
    with pytest.raises(BadRecord, match=r"person 00/001\.jpg: no readable image: .*inspect .*tree"):
        FaceRecords(both[0], 16)[0]
    faces = FaceRecords(both[0], 16, skip_bad=True)
    assert torch.equal(faces[0][0], faces[1][0]) and faces.bad == 1
    (both[0] / "person 00" / "002.jpg").unlink()
    assert torch.equal(faces[1][0], faces[2][0])


def test_a_folder_without_people_is_refused(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no train\.rec in .*, and no pictures in folders"):
        train_folder(settings(tmp_path))
