"""`inspect` counts what is there and names what is wrong."""

import json
from pathlib import Path

import numpy as np
import pytest

from facelib.errors import BadData, UserError
from facelib.formats.benchmarks import save_benchmark
from facelib.formats.bins import write_bin
from facelib.formats.recordio import write_face_records
from facelib.prepare.inspection import inspect
from tests.data.toys import write_cfp, write_jpeg, write_lfw


def jpegs(folder: Path, count: int) -> list[bytes]:
    return [write_jpeg(folder / f"{i}.jpg", 10 * i) for i in range(count)]


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    images = list(zip([0, 0, 1, 2, 2, 2], jpegs(tmp_path / "jpeg", 6)))
    write_face_records(tmp_path / "set", images, names=["a", "b", "c"])
    return tmp_path / "set"


@pytest.mark.parametrize("deep", [False, True])
def test_a_face_set_is_counted(faces: Path, deep: bool):
    # Mutation: counting identity records as images.
    report = inspect(faces, deep=deep)
    assert report == inspect(faces / "train.rec", deep=deep) | {"path": str(faces)}
    expected = {
        "kind": "face records", "records": 10, "images": 6, "identities": 3,
        "images_per_identity": {"min": 1, "median": 2.0, "max": 3}, "single_image_identities": 1,
        "image_sizes": {"112x112": 6}, "decoded": 6, "problems": [],
    }  # fmt: skip
    assert {key: report[key] for key in expected} == expected
    json.dumps(report)


def test_the_problems_of_a_face_set_are_sentences(tmp_path: Path):
    # Mutation: a report that stops at the first bad image.
    images = [(0, b"no jpeg"), (0, jpegs(tmp_path, 1)[0]), (1, b"neither")]
    write_face_records(tmp_path, images, names=["a", "b"])
    (tmp_path / "names.txt").write_text("a\n")
    (tmp_path / "property").write_text("9,112,112\n")
    problems = " | ".join(inspect(tmp_path)["problems"])
    assert "2 of 3 decoded are no image; record 1: no readable image: 7 bytes" in problems
    assert "property says 9 identities, the records hold 2" in problems
    assert "1 names, but labels run to 1" in problems


def test_a_benchmark_is_counted_with_and_without_its_sidecar(tmp_path: Path):
    a, b, c, d = jpegs(tmp_path, 4)
    sides = [a, a, b, b], [b, c, a, d]
    save_benchmark(tmp_path / "x.bin", *sides, [1, 0, 1, 0], fold=[0, 0, 1, 1], id1=[0, 0, 0, 0],
                   id2=[0, 1, 0, 2])  # fmt: skip
    report = inspect(tmp_path / "x.bin")
    assert (report["pairs"], report["genuine"], report["folds"], report["images"]) == (4, 2, 2, 4)
    assert (report["identities"], report["repeated_pairs"]) == (3, 1)
    assert report["problems"] == [] and report["sidecar"]
    write_bin(tmp_path / "y.bin", [a, b, c, c], [True, False])
    report = inspect(tmp_path / "y.bin")
    assert report["folds_from"] == "contiguous tenths"
    assert report["identities_from"] == "genuine pairs"
    assert "1 pairs compare an image with an identical one" in report["problems"]


def test_lfw_and_cfp_folders_are_counted(tmp_path: Path):
    lfw = write_lfw(tmp_path / "lfw")
    report = inspect(lfw)
    assert (report["kind"], report["pairs"], report["folds"]) == ("lfw", 8, 2)
    assert (report["images"], report["identities"], report["problems"]) == (8, 4, [])
    assert inspect(lfw / "pairs.txt")["images"] == 8
    next((lfw / "images").rglob("*_0002.jpg")).unlink()
    assert "1 images are missing, first" in inspect(lfw)["problems"][0]
    report = inspect(write_cfp(tmp_path / "cfp"))
    assert report["protocols"]["FP"] == {
        "pairs": 12, "genuine": 6, "folds": 3, "repeated_pairs": 0,
    }  # fmt: skip
    assert (report["identities"], report["problems"]) == (6, [])


def test_a_cfp_folder_without_one_protocol_says_so(tmp_path: Path):
    root = write_cfp(tmp_path)
    (root / "Protocol" / "Pair_list_P.txt").unlink()
    report = inspect(root)
    assert list(report["protocols"]) == ["FF"] and "Pair_list_P.txt" in report["problems"][0]


def test_a_plain_folder_is_counted_and_grey_images_are_found(tmp_path: Path):
    from PIL import Image

    write_jpeg(tmp_path / "ann" / "1.jpg", 30, size=(90, 80))
    (tmp_path / "empty").mkdir()
    Image.new("L", (80, 90), 77).save(tmp_path / "ann" / "2.png")
    report = inspect(tmp_path)
    assert report["kind"] == "folder of identities" and report["images"] == 2
    assert report["image_sizes"] == {"80x90": 2} and report["grey_images"] == 1
    assert report["problems"] == ["1 folders without an image, first empty"]


def test_a_scores_file_is_counted(tmp_path: Path):
    same = np.arange(40) % 2 == 0
    np.savez(tmp_path / "s.npz", score=np.linspace(-1, 1, 40), same=same)
    report = inspect(tmp_path / "s.npz")
    assert (report["kind"], report["pairs"], report["genuine"]) == ("scores", 40, 20)
    assert (report["folds"], report["folds_from"]) == (10, "contiguous tenths")


def test_what_is_unknown_or_unreadable_is_one_clear_error(tmp_path: Path):
    (tmp_path / "x.txt").write_text("")
    (tmp_path / "x.bin").write_bytes(b"")
    (tmp_path / "x.npz").write_bytes(b"PK")
    (tmp_path / "rec").mkdir()
    (tmp_path / "rec" / "train.rec").write_bytes(b"")
    cases = [
        ("none", UserError, "no such file or folder; wanted a face set"),
        ("x.txt", UserError, "unknown kind of file"),
        ("x.bin", BadData, "not a readable pickle"),
        ("x.npz", BadData, "npz"),
        ("rec", BadData, r"train\.idx: no such file; rebuild it with"),
    ]
    for name, kind, message in cases:
        with pytest.raises(kind, match=message):
            inspect(tmp_path / name)


def test_real_sets_have_the_counts_of_their_description(real_faces: Path):
    lfw = inspect(real_faces / "lfw_train")
    assert (lfw["records"], lfw["images"], lfw["identities"]) == (18_983, 13_233, 5_749)
    assert (lfw["single_image_identities"], lfw["images_per_identity"]["max"]) == (4_069, 530)
    cfp = inspect(real_faces / "cfp_dev")
    assert cfp["protocols"]["FF"]["repeated_pairs"] == 76 and cfp["identities"] == 250
    assert lfw["problems"] == cfp["problems"] == []
