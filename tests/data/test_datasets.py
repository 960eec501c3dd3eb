"""Face sets as tensors: labels, bad records, exclusion, and splits that mean what they say."""

import logging
import mmap
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from facelib.data.datasets import FaceRecords
from facelib.data.split import split_identities, split_within
from facelib.errors import BadData, UserError
from facelib.formats.decode import encode_jpeg
from facelib.formats.face_index import normalise_name, read_face_index
from facelib.formats.rebuild import rebuild_index
from facelib.formats.recordio import Header, RecordReader, RecordWriter, pack, write_face_records

LABELS = [0, 0, 1, 2, 2, 2, 3]
NAMES = ["Ann_Lee", "Bob", "Cy  Young", "Dée"]


def colour(i: int) -> tuple[int, int, int]:
    return 30 * i + 20, 250 - 30 * i, 128


def jpeg(i: int) -> bytes:
    return encode_jpeg(np.full((24, 24, 3), colour(i), np.uint8))


def write_set(folder: Path, bad: tuple[int, ...] = ()) -> Path:
    images = [(label, b"no jpeg" if i in bad else jpeg(i)) for i, label in enumerate(LABELS)]
    write_face_records(folder, images, names=NAMES)
    return folder


def write_raw(folder: Path, labels: list, first: list) -> Path:
    """Image records with any label field, then record 0 with id2 = 1, as `RecBuilder` ends."""
    with RecordWriter(folder) as writer:
        for key, label in enumerate(labels, start=1):
            writer.write(key, pack(Header(0, label, key, 0), jpeg(key)))
        writer.write(0, pack(Header(0, first, 0, 1), b""))
    return folder


def test_an_item_is_an_rgb_tensor_and_its_label(tmp_path: Path):
    # Mutation: BGR; images off by one record; channels last.
    faces = FaceRecords(write_set(tmp_path), size=12)
    assert len(faces) == 7 and faces.classes == 4 and faces.names == NAMES
    assert faces.labels.tolist() == LABELS and faces.labels.dtype == np.int64
    for i in range(7):
        image, label = faces[i]
        assert image.dtype == torch.uint8 and image.shape == (3, 12, 12) and label == LABELS[i]
        assert np.abs(image[:, 6, 6].numpy().astype(int) - colour(i)).max() <= 3
    assert faces.jpeg(4) == jpeg(4)
    assert np.array_equal(faces.load_all()[3], faces[3][0].numpy().transpose(1, 2, 0))


@pytest.mark.parametrize("labels", [[0.0, 0.0, 1.0], [[0.0, 1.0], [0.0, 0.0], [1.0, 1.0]]])
def test_record_0_may_come_last_and_labels_may_have_a_second_number(tmp_path: Path, labels: list):
    # Mutation: taking record 0's second number for the end of identity records that are not there.
    faces = FaceRecords(write_raw(tmp_path, labels, first=[4, 2]), size=8)
    assert faces.labels.tolist() == [0, 0, 1] and faces.keys.tolist() == [1, 2, 3]


def test_a_set_whose_record_0_is_an_image_has_only_images(tmp_path: Path):
    with RecordWriter(tmp_path) as writer:
        for key in range(3):
            writer.write(key, pack(Header(0, float(key), key, 0), jpeg(key)))
    assert FaceRecords(tmp_path, size=8).keys.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("labels", "ranges", "expected"),
    [
        ([1.0, 1.0, 0.0], [[1, 3], [3, 4]], [1, 1, 0]),  # identities not in label order
        ([0.0, 1.0, 1.0], [[1, 3], [3, 4]], [0, 1, 1]),  # ranges that disagree with the labels
        ([0.0, 0.0, 1.0], [[1, 2], [3, 4]], [0, 0, 1]),  # ranges that leave out an image
    ],
)
def test_identity_records_spare_the_scan_only_where_they_agree(tmp_path, labels, ranges, expected):
    # Mutation: label = key − first; no comparison with the labels at both ends of a range.
    with RecordWriter(tmp_path) as writer:
        for key, label in enumerate(labels, start=1):
            writer.write(key, pack(Header(0, label, key, 0), jpeg(key)))
        for key, ends in ((0, [4, 6]), (4, ranges[0]), (5, ranges[1])):
            writer.write(key, pack(Header(0, ends, key, 0), b""))
    for limit in (0, 10**6):
        keys, found, _ = read_face_index(RecordReader(tmp_path), scan_limit=limit)
        assert keys.tolist() == [1, 2, 3] and found.tolist() == expected


def test_the_pages_of_the_labels_are_announced_and_no_others(tmp_path: Path):
    # Mutation: a position in the index taken for a byte offset; pages announced at odd addresses.
    with RecordWriter(tmp_path) as writer:
        for key in range(3):
            writer.write(key, pack(Header(0, 0.0, key, 0), bytes(3 * mmap.PAGESIZE)))
    reader, asked = RecordReader(tmp_path), []
    reader.file = SimpleNamespace(map=SimpleNamespace(madvise=lambda *call: asked.append(call)))
    reader.announce(np.array([2, 0, 2]))
    places = [int(offset) // mmap.PAGESIZE * mmap.PAGESIZE for offset in reader.offsets[[0, 2]]]
    assert asked == [(mmap.MADV_WILLNEED, place, mmap.PAGESIZE) for place in places]


def test_labels_with_a_gap_are_an_error_or_numbered_anew(tmp_path: Path):
    # Mutation: silently training a head with classes that no image has.
    write_raw(tmp_path, [0.0, 1.0, 3.0, 3.0], first=[5, 4])
    with pytest.raises(BadData, match="labels run to 3 but only 3 occur, the first one missing is"):
        FaceRecords(tmp_path, size=8)
    assert FaceRecords(tmp_path, size=8, relabel=True).labels.tolist() == [0, 1, 2, 2]


@pytest.mark.parametrize("label", [-1.0, 0.5, float("nan")])
def test_a_label_that_is_no_whole_number_is_an_error(tmp_path: Path, label: float):
    with pytest.raises(BadData, match="record 2 has label"):
        FaceRecords(write_raw(tmp_path, [0.0, label], first=[3, 2]), size=8)


def test_records_that_the_index_lacks_are_said_and_an_error_where_record_0_counts_them(
    tmp_path: Path, caplog
):
    # Mutation: trusting the index where the .rec holds more.
    write_raw(tmp_path, [0.0, 1.0, 1.0], first=[4, 2])
    lines = (tmp_path / "train.idx").read_text().splitlines(keepends=True)
    (tmp_path / "train.idx").write_text("".join(lines[:1] + lines[3:]))  # records 1 and 0
    with pytest.raises(BadData, match="counts 3 images, the index has 1; .* belong to no line"):
        FaceRecords(tmp_path, size=8)
    assert len(FaceRecords(tmp_path, size=8, skip_bad=True)) == 1
    (tmp_path / "train.idx").write_text("".join(lines[:2]))
    assert len(FaceRecords(tmp_path, size=8)) == 2 and "belong to no line" in caplog.text
    assert rebuild_index(tmp_path) == 4 and len(FaceRecords(tmp_path, size=8)) == 3


def test_a_count_above_the_records_of_a_whole_file_is_said_and_not_believed(tmp_path: Path, caplog):
    assert len(FaceRecords(write_raw(tmp_path, [0.0, 1.0], first=[9, 2]), size=8)) == 2
    assert "record 0 counts 8 images, the index has 2" in caplog.text


@pytest.mark.parametrize("limit", [0, 10**6])
def test_an_image_record_without_picture_is_left_out_and_said(tmp_path: Path, limit: int):
    # Mutation: identity records believed though an image among theirs is empty.
    write_face_records(tmp_path, [(0, jpeg(0)), (0, b""), (1, jpeg(1))])
    keys, labels, problems = read_face_index(RecordReader(tmp_path), limit)
    assert keys.tolist() == [1, 3] and labels.tolist() == [0, 1]
    assert problems[0] == "1 records among the images hold no picture, first 2"


def packed(folder: Path, keys: list[int], flag: int, first: list | None = None) -> Path:
    """Images as other tools write them: any keys, plain or listed labels, any record 0."""
    with RecordWriter(folder) as writer:
        for number, key in enumerate(keys):
            label = [float(number // 2), 0.0] if flag else float(number // 2)
            writer.write(key, pack(Header(flag, label, key, 0), jpeg(number)))
        if first is not None:
            writer.write(0, pack(Header(2, first, 0, 1), b""))
    return folder


@pytest.mark.parametrize("flag", [0, 2])
@pytest.mark.parametrize(
    ("keys", "first"),
    [
        ([0, 1, 2, 3, 4, 5], None),  # InsightFace's record builder; im2rec --pack-label
        ([1, 2, 3, 4, 5, 6], None),  # im2rec with keys from 1
        ([9, 2, 70, 4, 33, 1], None),  # a shuffled copy, keys with gaps
        ([1, 2, 3, 4, 5, 6], [7, 7]),
        ([1, 2, 3, 4, 5, 6], [5, 7]),  # a count that float32 rounded
    ],
)
def test_every_record_with_a_picture_is_an_image(
    tmp_path: Path, caplog, keys: list[int], first: list | None, flag: int
):
    # Mutation: the label list of an image in record 0 taken for a count; a rounded count believed.
    faces = FaceRecords(packed(tmp_path, keys, flag, first), size=8)
    assert len(faces) == 6 and faces.keys.tolist() == sorted(keys)
    by_key = dict(zip(keys, [0, 0, 1, 1, 2, 2]))
    assert faces.labels.tolist() == [by_key[key] for key in sorted(keys)]
    assert ("record 0 counts 4 images, the index has 6" in caplog.text) == (first == [5, 7])


def test_a_record_that_is_no_jpeg_is_an_error_that_names_it(tmp_path: Path):
    faces = FaceRecords(write_set(tmp_path, bad=(3,)), size=8)
    message = r"train\.rec: record 4: no readable image: 7 bytes, starting with 6e 6f .*--deep"
    with pytest.raises(BadData, match=message):
        faces[3]


def test_skip_bad_takes_a_good_image_of_the_same_identity_and_counts_once(tmp_path: Path, caplog):
    # Mutation: a random replacement, or one of another identity under this label.
    faces = FaceRecords(write_set(tmp_path, bad=(2, 3)), size=8, skip_bad=True)
    for _ in range(2):
        image, label = faces[3]
        assert label == 2 and torch.equal(image, faces[4][0])
    assert faces.bad == 1
    image, label = faces[2]  # the only image of its identity: the next good one, with its own label
    assert label == 2 and torch.equal(image, faces[4][0])
    assert faces.bad == 2 and caplog.text.count("skipped") == 2


def test_skip_bad_takes_a_picture_that_claims_to_be_huge_as_bad(tmp_path: Path):
    # Mutation: check_size raising something else than BadData.
    from tests.formats.test_decode import claims_to_be_huge

    image = encode_jpeg(np.full((8, 8, 3), 90, np.uint8))
    write_face_records(tmp_path, [(0, image), (0, claims_to_be_huge("JPEG"))])
    with pytest.raises(BadData, match="record 2: .*65000×65000 pixels"):
        FaceRecords(tmp_path, size=8)[1]
    faces = FaceRecords(tmp_path, size=8, skip_bad=True)
    assert torch.equal(faces[1][0], faces[0][0]) and faces.bad == 1


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_read_the_same_images_and_report_what_was_bad(tmp_path: Path, method: str):
    # Mutation: a counter that lives in the worker only.
    faces = FaceRecords(write_set(tmp_path, bad=(3,)), size=8, skip_bad=True)
    loader = DataLoader(faces, 4, num_workers=1, multiprocessing_context=method)
    labels = torch.cat([label for _, label in loader])
    assert labels.tolist() == LABELS and faces.bad == 1
    assert torch.equal(pickle.loads(pickle.dumps(faces))[0][0], faces[0][0])


def test_excluded_people_are_gone_whatever_the_spelling(tmp_path: Path, caplog):
    # Mutation: comparing names as they are written.
    folder = write_set(tmp_path)
    caplog.set_level(logging.INFO)
    faces = FaceRecords(folder, size=8, exclude={"ANN lee", "cy young", "Nobody Known"})
    assert faces.names == ["Bob", "Dée"] and faces.labels.tolist() == [0, 1]
    assert faces.keys.tolist() == [3, 7]
    assert "1 names are not in the set" in caplog.text and "2 identities left out" in caplog.text
    (tmp_path / "out.txt").write_text("3\nbob\n\n")
    assert FaceRecords(folder, size=8, exclude=tmp_path / "out.txt").labels.tolist() == [
        0, 0, 1, 1, 1,
    ]  # fmt: skip


def test_where_names_are_numbers_a_number_in_a_list_is_a_name(tmp_path: Path, caplog):
    # Mutation: digits taken for a label: another person goes, the listed one stays in training.
    (write_set(tmp_path) / "names.txt").write_text("0000003\n0000100\nBob\n2\n")
    out = tmp_path / "out.txt"
    for text, left in (("0000003\n2\n", ["0000100", "Bob"]), ("label 2\n1\n", None)):
        out.write_text(text)
        names = FaceRecords(tmp_path, size=8, exclude=out).names
        assert names == (left or ["0000003", "0000100", "2"])
    assert "1 names are not in the set, e.g. ['1']" in caplog.text
    assert "Bob" not in FaceRecords(tmp_path, size=8, exclude=[2]).names
    out.write_text("3\n")
    with pytest.raises(BadData, match="none of its 1 names, e.g. '3', is in the set"):
        FaceRecords(tmp_path, size=8, exclude=out)


def test_wrong_exclusions_are_refused(tmp_path: Path):
    write_set(tmp_path)
    for exclude, message in (
        ({4}, "label 4, allowed are 0 … 3"),
        (tmp_path / "no.txt", "no file"),
        ({0, 1, 2, 3}, "leaves no image"),
    ):
        with pytest.raises(UserError, match=message):
            FaceRecords(tmp_path, size=8, exclude=exclude)
    (tmp_path / "names.txt").unlink()
    with pytest.raises(UserError, match=r"'bob' is a name, but the set has no names\.txt"):
        FaceRecords(tmp_path, size=8, exclude={"bob"})


def test_names_are_compared_without_case_underscores_and_double_spaces():
    assert normalise_name("Jean__Chrétien ") == normalise_name("jean CHRÉTIEN") == "jean chrétien"


def test_a_list_of_names_that_is_too_short_is_an_error(tmp_path: Path):
    (write_set(tmp_path) / "names.txt").write_text("one\ntwo\n")
    with pytest.raises(BadData, match="2 names, but labels run to 3"):
        FaceRecords(tmp_path, size=8)


def test_a_subset_is_a_set_of_its_own(tmp_path: Path):
    # Mutation: labels with the gaps of the identities that are gone.
    faces = FaceRecords(write_set(tmp_path), size=8)
    part = faces.subset([6, 3, 4])
    assert part.labels.tolist() == [1, 0, 0] and part.names == ["Cy  Young", "Dée"]
    assert torch.equal(part[0][0], faces[6][0]) and part.classes == 2 and len(faces) == 7


def test_wrong_options_are_refused(tmp_path: Path):
    write_set(tmp_path)
    with pytest.raises(UserError, match="size=0"):
        FaceRecords(tmp_path, size=0)
    with pytest.raises(UserError, match="fill_border='x', allowed are none, replicate"):
        FaceRecords(tmp_path, size=8, fill_border="x")
    with pytest.raises(UserError, match="a subset without images"):
        FaceRecords(tmp_path, size=8).subset([])


def test_identity_disjoint_split_shares_nobody_and_repeats_itself():
    # Mutation: splitting images instead of identities; a seed that is not used.
    labels = np.random.default_rng(0).integers(0, 50, 2000)
    train, validation = split_identities(labels, 0.2, seed=1)
    assert len(np.unique(labels[validation])) == 10
    assert not set(labels[train]) & set(labels[validation])
    assert sorted([*train, *validation]) == list(range(2000))
    assert np.array_equal(split_identities(labels, 0.2, seed=1)[1], validation)
    assert not np.array_equal(split_identities(labels, 0.2, seed=2)[1], validation)


def test_split_within_gives_a_fifth_of_each_identity():
    # Mutation: rounding up, which takes the only image of an identity away from training.
    labels = np.repeat([0, 1, 2, 3], [1, 4, 5, 31])
    train, validation = split_within(np.random.default_rng(0).permutation(labels), 0.2, seed=0)
    shuffled = np.random.default_rng(0).permutation(labels)
    assert np.bincount(shuffled[validation], minlength=4).tolist() == [0, 0, 1, 6]
    assert sorted([*train, *validation]) == list(range(41))


@pytest.mark.parametrize("split", [split_identities, split_within])
def test_a_share_outside_0_and_1_is_refused(split):
    with pytest.raises(UserError, match=r"fraction=1\.5"):
        split(np.array([0, 1]), 1.5, 0)


@pytest.mark.slow
def test_lfw_without_the_names_of_cfp_loses_90_people(real_faces: Path):
    lines = (real_faces / "cfp_dev" / "names.txt").read_text().splitlines()
    names = {line.split("\t")[1] for line in lines}
    faces = FaceRecords(real_faces / "lfw_train", size=48, exclude=names)
    assert faces.classes == 5749 - 90
