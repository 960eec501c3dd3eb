"""CFP's Protocol/ folder to two benchmarks."""

from pathlib import Path

import numpy as np
import pytest

from facelib.__main__ import main
from facelib.errors import BadData, UserError
from facelib.formats.benchmarks import load_benchmark
from facelib.formats.decode import decode, encode_jpeg
from facelib.prepare.cfp import cfp_to_bin, read_cfp_pairs
from tests.data.toys import write_cfp


def test_ff_indexes_one_list_and_fp_two(tmp_path: Path):
    # Mutation: FP with both columns from the list of frontal images.
    root = write_cfp(tmp_path)
    for protocol, kind in (("FF", "frontal"), ("FP", "profile")):
        counts = cfp_to_bin(root, protocol, tmp_path / "x.bin")
        assert (counts["pairs"], counts["folds"], counts["identities"]) == (12, 3, 6)
        bench = load_benchmark(tmp_path / "x.bin")
        assert bench.fold.tolist() == [0] * 4 + [1] * 4 + [2] * 4
        assert bench.same.tolist() == [True, True, False, False] * 3
        assert np.array_equal(bench.id1 == bench.id2, bench.same)
        second = root / "Images" / "003" / kind / "02.jpg"
        assert bench.images[bench.index2[4]] == second.read_bytes()


def test_the_official_archive_has_its_images_under_data(tmp_path: Path):
    root = write_cfp(tmp_path)
    (root / "Data").mkdir()
    (root / "Images").rename(root / "Data" / "Images")
    for path in (root / "Protocol").glob("*.txt"):
        path.write_text(path.read_text().replace("../Images", "../Data/Images"))
    assert cfp_to_bin(root, "FP", tmp_path / "x.bin")["pairs"] == 12


def test_originals_are_aligned_by_the_fiducials_beside_them(tmp_path: Path):
    # Mutation: taking an original of 112×112 pixels for an aligned image.
    root = write_cfp(tmp_path, folds=1)
    for image in (root / "Images").rglob("*.jpg"):
        place = root / "Fiducials" / image.relative_to(root / "Images").with_suffix(".txt")
        place.parent.mkdir(parents=True, exist_ok=True)
        xy = np.random.default_rng(0).uniform(10, 100, (30, 2)) + np.arange(30)[:, None]
        place.write_text("".join(f"{x},{y}\n" for x, y in xy))
    cfp_to_bin(root, "FF", tmp_path / "x.bin")
    bench = load_benchmark(tmp_path / "x.bin")
    assert decode(bench.images[0]).shape == (112, 112, 3)
    assert bench.images[0] != (root / "Images" / "001" / "frontal" / "01.jpg").read_bytes()
    # The loose crop is one more benchmark of the same pairs, in larger pictures.
    words = ["prepare", "cfp", str(root), "--protocol", "FF", "--crop", "loose"]
    assert main([*words, "--out", str(tmp_path / "loose.bin")]) == 0
    loose = load_benchmark(tmp_path / "loose.bin")
    assert decode(loose.images[0]).shape == (224, 224, 3)
    assert loose.same.tolist() == bench.same.tolist()


def test_filled_borders_are_those_of_the_decoder(tmp_path: Path):
    # Catches: an option that goes nowhere; pictures without a border that change their border.
    root = write_cfp(tmp_path, folds=1)
    for image in (root / "Images").rglob("*.jpg"):
        pixels = np.full((112, 112, 3), 150, np.uint8)
        pixels[:, :30] = 0
        image.write_bytes(encode_jpeg(pixels))
    words = ["prepare", "cfp", str(root), "--protocol", "FF", "--fill-border", "replicate"]
    assert main([*words, "--out", str(tmp_path / "filled.bin")]) == 0
    filled = decode(load_benchmark(tmp_path / "filled.bin").images[0])
    assert filled.min() > 140


def test_missing_images_are_an_error_or_a_counted_skip(tmp_path: Path):
    root = write_cfp(tmp_path)
    (root / "Images" / "001" / "frontal" / "01.jpg").write_bytes(b"no jpeg")
    with pytest.raises(BadData, match=r"01\.jpg: no readable image"):
        cfp_to_bin(root, "FF", tmp_path / "x.bin")
    assert not (tmp_path / "x.bin").exists()
    counts = cfp_to_bin(root, "FF", tmp_path / "x.bin", skip_bad=True)
    assert (counts["pairs"], counts["skipped_pairs"]) == (10, 2)


@pytest.mark.parametrize(
    ("place", "content", "message"),
    [
        ("Pair_list_F.txt", None, "no such file"),
        ("Pair_list_F.txt", "one ../Images/001/frontal/01.jpg\n", "line 1 is 'one"),
        ("Pair_list_F.txt", "1 01.jpg\n", r"line 1: 01\.jpg is not …/ID/frontal"),
        ("Pair_list_F.txt", "1 /9/frontal/01.jpg\n", "line 1: /9/frontal/01.jpg leads outside of"),
        ("Pair_list_F.txt", "1 ../../9/frontal/01.jpg\n", "leads outside of"),
        ("Split/FF/02/same.txt", None, "no such file"),
        ("Split/FF/02/same.txt", "7,8\n7;8\n", "line 2 is '7;8', wanted `a,b`"),
        ("Split/FF/02/same.txt", "7,99\n", r"line 1: image 99 is not in Pair_list_F\.txt"),
        ("Split/FF/02/same.txt", "7,8\n7,1\n", r"same\.txt: line 2: identities 3 and 1 in same"),
        ("Split/FF/02/diff.txt", "7,8\n", r"diff\.txt: line 1: identities 3 and 3 in diff\.txt"),
        (
            "Pair_list_F.txt",
            "1 ../Images/001/frontal/01.jpg\n2 ../Images/001/frontal/02.jpg\n"
            "1 ../Images/001/frontal/03.jpg\n",
            r"Pair_list_F\.txt: line 3: index 1 is there twice \(first in line 1\)",
        ),
    ],
)
def test_a_damaged_protocol_is_an_error(tmp_path, place, content, message):
    path = write_cfp(tmp_path) / "Protocol" / place
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(BadData, match=message):
        read_cfp_pairs(tmp_path, "FF")


def test_an_unknown_protocol_or_an_empty_folder_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="protocol='PP', allowed are FF, FP"):
        read_cfp_pairs(tmp_path, "PP")
    write_cfp(tmp_path, folds=0)
    with pytest.raises(BadData, match="no fold in it"):
        read_cfp_pairs(tmp_path, "FF")


@pytest.mark.parametrize("protocol", ["FF", "FP"])
def test_cfp_dev_gives_the_pairs_of_the_published_embeddings(real_faces, tmp_path, protocol):
    # Mutation: diff.txt before same.txt; folds sorted otherwise.
    counts = cfp_to_bin(real_faces / "cfp_dev", protocol, tmp_path / "x.bin")
    assert (counts["pairs"], counts["folds"], counts["identities"]) == (3500, 5, 250)
    bench = load_benchmark(tmp_path / "x.bin")
    scores = np.load(real_faces / "cfp_dev_mobilefacenet.npz", allow_pickle=False)
    assert np.array_equal(bench.same, scores[f"{protocol}_y"] == 1)
    assert np.array_equal(bench.fold, scores[f"{protocol}_fold"] - 1)
    for index, rows in ((bench.index1, "i1"), (bench.index2, "i2")):
        files = scores["files"][scores[f"{protocol}_{rows}"]]
        for i in range(0, 3500, 50):
            content = (real_faces / "cfp_dev" / files[i]).read_bytes()
            assert bench.images[index[i]] == content
