"""A plain folder of identities becomes a face set, whole or not at all."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facelib.data.datasets import FaceRecords
from facelib.errors import BadData, UserError
from facelib.prepare.folders import folder_to_records
from tests.data.toys import write_jpeg


@pytest.fixture
def people(tmp_path: Path) -> Path:
    root = tmp_path / "people"
    for name, count in (("Zoë", 2), ("adam", 3), ("Bea", 1)):
        for n in range(count):
            write_jpeg(root / name / f"{n}.jpg", 60 * n + 30)
    (root / "Bea" / "notes.txt").write_text("not an image")
    return root


def test_identities_and_images_are_sorted_and_jpegs_are_copied(people: Path, tmp_path: Path):
    # Mutation: the order of the file system; encoding an aligned JPEG a second time.
    counts = folder_to_records(people, tmp_path / "out")
    assert (counts["identities"], counts["images"], counts["skipped_images"]) == (3, 6, 0)
    faces = FaceRecords(tmp_path / "out", size=112)
    assert faces.names == ["Bea", "Zoë", "adam"] and faces.labels.tolist() == [0, 1, 1, 2, 2, 2]
    assert faces.jpeg(5) == (people / "adam" / "2.jpg").read_bytes()


def test_other_formats_and_shapes_are_padded_and_stay_rgb(tmp_path: Path):
    # Mutation: squashing a 92×112 picture to a square; reading as BGR.
    (tmp_path / "src" / "s1").mkdir(parents=True)
    grey = np.tile(np.linspace(0, 255, 92, dtype=np.uint8), (112, 1))
    Image.fromarray(grey).save(tmp_path / "src" / "s1" / "1.pgm")
    red = np.full((112, 112, 3), (230, 10, 10), np.uint8)
    Image.fromarray(red).save(tmp_path / "src" / "s1" / "2.PNG")
    counts = folder_to_records(tmp_path / "src", tmp_path / "out")
    assert counts["resized_unaligned"] == 1
    first, second = FaceRecords(tmp_path / "out", size=112).load_all()
    assert np.abs(first[:, 10:102, 0].astype(int) - grey).max() <= 6
    assert second[50, 50, 0] > 200 > 40 > second[50, 50, 2]


def test_identities_with_too_few_images_are_left_out(people: Path, tmp_path: Path):
    counts = folder_to_records(people, tmp_path / "out", min_images=2)
    assert counts["left_out_identities"] == 1
    faces = FaceRecords(tmp_path / "out", size=8)
    assert faces.names == ["Zoë", "adam"] and faces.labels.tolist() == [0, 0, 1, 1, 1]


def test_a_bad_file_is_an_error_or_a_counted_skip_and_leaves_no_half_folder(people, tmp_path):
    # Mutation: writing into the final folder; a gap in the labels where nobody is left.
    (people / "Bea" / "0.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(BadData, match=r"Bea/0\.jpg: no readable image.*--skip-bad"):
        folder_to_records(people, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["people"]
    counts = folder_to_records(people, tmp_path / "out", skip_bad=True)
    assert (counts["skipped_images"], counts["left_out_identities"]) == (1, 1)
    assert FaceRecords(tmp_path / "out", size=8).names == ["Zoë", "adam"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "people"]


def test_what_gave_no_image_is_counted_by_reason(people: Path, tmp_path: Path):
    # Mutation: a Finder's ._0.jpg taken for a picture; files passed over without a word.
    (people / "Bea" / "._0.jpg").write_bytes(b"\0\5\x16\7")
    (people / "Bea" / "1.jpg").write_bytes(b"\xff\xd8\xff")
    (people / "Bea" / "2.cr2").write_bytes(b"II*\0")
    write_jpeg(people / "adam" / "more" / "9.jpg", 9)
    write_jpeg(people / "beside.jpg", 9)
    counts = folder_to_records(people, tmp_path / "out", skip_bad=True)
    assert counts["images"] == 6 and counts["skipped_images"] == 1
    assert counts["left_out"] == {
        "hidden file": 1,
        "no picture by its name (.txt)": 1,
        "no picture by its name (.cr2)": 1,
        "folder in a person's folder": 1,
        "picture outside of a person's folder": 1,
        "no readable picture": 1,
    }


def test_landmarks_of_a_csv_must_cover_every_image(people: Path, tmp_path: Path):
    points = "40,50,70,50,55,70,42,90,68,90"
    csv = tmp_path / "points.csv"
    csv.write_text(f"file,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5\nBea/0.jpg,{points}\n")
    with pytest.raises(BadData, match=r"has no landmarks for Zoë/0\.jpg"):
        folder_to_records(people, tmp_path / "out", align=csv)
    counts = folder_to_records(people, tmp_path / "out", align=csv, skip_bad=True)
    assert counts["images"] == 1 and counts["resized_unaligned"] == 0


def test_wrong_folders_and_options_are_refused(people: Path, tmp_path: Path):
    (tmp_path / "flat").mkdir()
    write_jpeg(tmp_path / "flat" / "1.jpg", 9)
    cases = [
        ({"src": tmp_path / "none"}, "no such folder"),
        ({"src": tmp_path / "flat"}, "no image found; wanted"),
        ({"src": people, "out": people}, "exists already"),
        ({"src": people, "align": "mtcnn"}, "align=mtcnn, allowed are a .csv file and insightface"),
        ({"src": people, "min_images": 9}, "no identity has 9 good images"),
    ]
    for options, message in cases:
        with pytest.raises(UserError, match=message):
            folder_to_records(**({"out": tmp_path / "out"} | options))
    assert not (tmp_path / "out").exists()


def test_orl_becomes_a_set_of_40_people(real_faces: Path, tmp_path: Path):
    counts = folder_to_records(real_faces / "orl", tmp_path / "orl")
    assert (counts["identities"], counts["images"]) == (40, 400)
    faces = FaceRecords(tmp_path / "orl", size=112)
    assert (
        faces.names[:3] == ["s1", "s10", "s11"] and np.bincount(faces.labels).tolist() == [10] * 40
    )
