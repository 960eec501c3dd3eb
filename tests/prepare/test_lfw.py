"""LFW's pairs.txt to a benchmark."""

from pathlib import Path

import numpy as np
import pytest

from facelib.errors import BadData
from facelib.formats.benchmarks import load_benchmark
from facelib.formats.decode import decode
from facelib.prepare.lfw import lfw_to_bin, read_lfw_pairs
from tests.data.toys import write_lfw


def test_pairs_folds_and_identities_follow_the_list(tmp_path: Path):
    # Mutation: all genuine pairs first, as if there were one fold.
    root = write_lfw(tmp_path)
    counts = lfw_to_bin(root / "pairs.txt", root / "images", tmp_path / "lfw.bin")
    assert (counts["pairs"], counts["folds"], counts["identities"]) == (8, 2, 4)
    bench = load_benchmark(tmp_path / "lfw.bin")
    assert bench.same.tolist() == [True, True, False, False] * 2
    assert bench.fold.tolist() == [0] * 4 + [1] * 4
    assert bench.id1.tolist() == [0, 1, 0, 1, 2, 3, 2, 3]
    assert bench.id2.tolist() == [0, 1, 1, 0, 2, 3, 3, 2]
    second = root / "images" / "Bo_B" / "Bo_B_0002.jpg"
    assert bench.images[bench.index1[1]] == second.read_bytes()  # copied byte for byte


def test_images_are_aligned_by_a_csv(tmp_path: Path):
    root = write_lfw(tmp_path, size=(250, 250))
    lines = ["file,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5"]
    lines += [
        f"{path.relative_to(root / 'images')},90,100,160,100,125,140,95,180,155,180"
        for path in (root / "images").rglob("*.jpg")
    ]
    (root / "points.csv").write_text("\n".join(lines))
    lfw_to_bin(root / "pairs.txt", root / "images", tmp_path / "lfw.bin", align=root / "points.csv")
    assert decode(load_benchmark(tmp_path / "lfw.bin").images[0]).shape == (112, 112, 3)


def test_unaligned_images_are_refused_with_the_way_out(tmp_path: Path):
    root = write_lfw(tmp_path, size=(250, 200))
    with pytest.raises(BadData, match=r"200×250 pixels, wanted an aligned 112×112.*CSV"):
        lfw_to_bin(root / "pairs.txt", root / "images", tmp_path / "lfw.bin")
    assert not (tmp_path / "lfw.bin").exists()


def test_a_missing_image_is_an_error_or_a_counted_skip(tmp_path: Path, caplog):
    # Mutation: dropping the image but not every pair it is in.
    root = write_lfw(tmp_path)
    (root / "images" / "Ann_A" / "Ann_A_0002.jpg").unlink()
    with pytest.raises(BadData, match=r"Ann_A_0002\.jpg: no such image; drop such pairs with"):
        lfw_to_bin(root / "pairs.txt", root / "images", tmp_path / "lfw.bin")
    counts = lfw_to_bin(root / "pairs.txt", root / "images", tmp_path / "lfw.bin", skip_bad=True)
    assert (counts["pairs"], counts["skipped_pairs"], counts["bad_images"]) == (6, 2, 1)
    assert sum(counts["left_out"].values()) == 1
    assert "dropped 2 of 8 pairs" in caplog.text
    assert load_benchmark(tmp_path / "lfw.bin").fold.tolist() == [0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("2\t2\n", "", "starts with 'Ann_A 1 2', wanted e.g. 10<TAB>300"),
        ("2\t2\n", "3\t2\n", "8 pairs, its header says 12"),
        ("Ann_A\t1\t2\n", "Ann_A\t1\n", "pair 1 is 'Ann_A 1', wanted name i j"),
        ("Ann_A\t1\tBo_B\t1", "Ann_A\t1\t1", "pair 3 is 'Ann_A 1 1', wanted name i name j"),
        ("Ann_A\t1\t2\n", "Ann_A\tone\t2\n", "pair 1 is 'Ann_A one Ann_A 2': no image number"),
    ],
)
def test_a_malformed_list_is_an_error(tmp_path: Path, old: str, new: str, message: str):
    path = write_lfw(tmp_path) / "pairs.txt"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(BadData, match=message):
        read_lfw_pairs(path, tmp_path)
    with pytest.raises(BadData, match="no such file"):
        read_lfw_pairs(tmp_path / "none.txt", tmp_path)


def test_a_list_with_one_number_in_its_header_has_one_fold(tmp_path: Path):
    path = write_lfw(tmp_path) / "pairs.txt"
    path.write_text("\n".join(["2", *path.read_text().splitlines()[1:5]]))
    assert np.unique([pair.fold for pair in read_lfw_pairs(path, tmp_path)]).tolist() == [0]


@pytest.mark.parametrize(("old", "new", "said"), [
    ("Ann_A\t1\tBo_B\t1", "Ann_A\t1\tAnn_A\t2", "pair 3 is 'Ann_A 1 Ann_A 2', wanted two people"),
    ("Ann_A\t1\t2", "Ann_A\t1\tBo_B\t2", "pair 1 is 'Ann_A 1 Bo_B 2', wanted"),
])  # fmt: skip
def test_a_pair_against_its_place_in_the_list_is_refused(tmp_path: Path, old, new, said):
    # Mutation: one person with themselves among the impostor pairs.
    root = write_lfw(tmp_path)
    path = root / "pairs.txt"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(BadData, match=said):
        lfw_to_bin(path, root / "images", tmp_path / "lfw.bin")


@pytest.mark.parametrize("names", [("0000045", "0000099"), ("Ann von A", "Bo 2"), ("45", "Bo")])
def test_a_name_may_be_a_number_and_have_blanks_between_tabs(tmp_path: Path, names):
    # Mutation: whatever is a number is an image's; split() without the tab.
    a, b = names
    (tmp_path / "pairs.txt").write_text(f"1 1\n{a}\t1\t2\n{a}\t1\t{b}\t3\n")
    same, different = read_lfw_pairs(tmp_path / "pairs.txt", tmp_path)
    assert (same.id1, same.id2, different.id2) == (0, 0, 1)
    assert different.image2 == tmp_path / b / f"{b}_0003.jpg"
