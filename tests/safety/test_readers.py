"""Readers of people's files: whatever is in them is read, or one line that says what is wrong."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from facelib.errors import BadData, UserError
from facelib.evaluate.labelled import load_labelled
from facelib.formats.benchmarks import load_benchmark, read_people, save_benchmark
from facelib.formats.face_index import excluded_labels, read_names
from facelib.formats.recordio import write_face_records
from facelib.formats.trees import list_identities
from facelib.metrics.features import open_features
from facelib.metrics.scores import load_scores
from facelib.models.weights import _read_config
from facelib.prepare.align import LANDMARK_COLUMNS, read_fiducials, read_landmarks_csv
from facelib.prepare.cfp import _read_list, _read_numbers
from facelib.prepare.ijb import _read_columns
from facelib.prepare.lfw import read_lfw_pairs
from facelib.prepare.pairs import read_pair_list
from facelib.safety import readers
from tests.faults.texts import TEXTS as GOOD

LABELS = np.arange(3)
# Every reader of a text that people or other programs write: a new one belongs here.
TEXTS = {
    "names": lambda path: read_names(path, LABELS),
    "exclude": lambda path: excluded_labels(path, ["a", "b", "c"], 3),
    "people": read_people,
    "fiducials": read_fiducials,
    "landmarks": read_landmarks_csv,
    "cfp list": _read_list,
    "cfp pairs": _read_numbers,
    "lfw pairs": lambda path: read_lfw_pairs(path, path.parent),
    "pair list": lambda path: read_pair_list(path, path.parent),
    "columns": lambda path: _read_columns(path, ["name", "t1"], "image, id"),
    "features": lambda path: open_features(path, path.parent),
    "weights config": lambda path: _read_config(path, "dinov2-vit-b14"),
    "json object": readers.read_object,
    "json lines": readers.read_object_lines,
}
ARRAYS = {"scores": load_scores, "labelled": load_labelled, "features": open_features}
NO_TEXT = {
    "Latin-1": "José\t1,2\n".encode("latin-1"),
    "half a UTF-16": b"\xff\xfe1\0\t\0A",
    "UTF-16 without mark": "1\tAnn\n".encode("utf-16-le"),
    "UTF-16 without mark, accents": "1\tZoë\n".encode("utf-16-be"),
}


def refused(read, path: Path) -> str:
    """The one line that a reader refuses a file with."""
    with pytest.raises(BadData) as caught:
        read(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and len(message) < 600
    return message


@pytest.mark.parametrize("encoding", NO_TEXT)
@pytest.mark.parametrize("reader", TEXTS)
def test_text_that_is_not_unicode_is_refused_by_every_reader(tmp_path: Path, reader, encoding):
    # Mutation: Path.read_text(), which raises UnicodeDecodeError.
    path = tmp_path / "file.txt"
    path.write_bytes(NO_TEXT[encoding])
    said = "zero bytes" if "without mark" in encoding else "UTF-8"
    assert said in refused(TEXTS[reader], path) or reader == "json lines" or reader == "columns"


def outcome(read, path: Path) -> str:
    """What a reader returns, or its complaint (of a list whose files are not there)."""
    try:
        return str(read(path))
    except BadData as error:
        return str(error)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("reader", GOOD)
def test_every_reader_takes_a_byte_order_mark(tmp_path: Path, reader, encoding):
    # Mutation: bytes.decode() in one reader, for which the mark is part of the first field.
    text, read = GOOD[reader]
    (tmp_path / "plain.txt").write_text(text)
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    (tmp_path / "file.txt").write_bytes((mark + text.replace("\n", "\r\n")).encode(encoding))
    plain, found = (outcome(read, tmp_path / name) for name in ("plain.txt", "file.txt"))
    assert plain.replace("plain.txt", "file.txt") == found


@pytest.mark.parametrize("reader", ["json object", "json lines", "weights config", "features"])
@pytest.mark.parametrize(
    "content", ["[]", "3", "null", '"x"', "[" * 100_000, "{", '{"a": ' + "9" * 5000 + "}\n0\n"]
)
def test_json_of_every_other_shape_is_refused(tmp_path: Path, reader, content):
    # Mutation: `json.loads(...)["key"]`: TypeError, RecursionError, a number of 5,000 digits.
    path = tmp_path / "file.json"
    path.write_text(content + "\n\n" if reader == "json lines" else content)
    refused(TEXTS[reader], path)


def rewritten(path: Path, change) -> Path:
    """The archive with a change to its first member's central entry or content."""
    with zipfile.ZipFile(path) as archive:
        members = {one.filename: archive.read(one) for one in archive.infolist()}
    changed = change(members)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in changed.items():
            archive.writestr(name, content)
    return path


def huge_header(members: dict[str, bytes]) -> dict[str, bytes]:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
    )
    return members | {"score.npy": file.getvalue(), "emb.npy": file.getvalue()}


def objects(members: dict[str, bytes]) -> dict[str, bytes]:
    file = io.BytesIO()
    np.save(file, np.array([{}], object), allow_pickle=True)
    return members | {"score.npy": file.getvalue(), "emb.npy": file.getvalue()}


@pytest.mark.parametrize("reader", ARRAYS)
@pytest.mark.parametrize("case", ["bit", "method", "header", "objects", "bomb", "text", "cut"])
def test_archives_with_odd_entries_are_refused(tmp_path: Path, reader, case):
    # Mutation: np.load, which raises RuntimeError, NotImplementedError, or takes the memory.
    path = tmp_path / "x.npz"
    arrays = {"score": np.linspace(-1, 1, 40), "same": np.arange(40) % 2}
    np.savez(path, **arrays, emb=np.ones((40, 2)), label=np.arange(40))
    content = bytearray(path.read_bytes())
    central = [i for i in range(len(content)) if content[i : i + 4] == b"PK\x01\x02"]
    for at in central:
        if case == "bit":
            content[at + 8] |= 1
        if case == "method":
            content[at + 10] = 99
    path.write_bytes(content[:200] if case == "cut" else b"text" if case == "text" else content)
    if case in ("header", "objects"):
        rewritten(path, huge_header if case == "header" else objects)
    if case == "bomb":
        rewritten(path, lambda members: members | dict.fromkeys(
            ("score.npy", "emb.npy"), bytes(readers.UNFOLDED + 1)))  # fmt: skip
    refused(ARRAYS[reader], path)


def test_a_byte_order_mark_is_no_part_of_the_first_entry(tmp_path: Path):
    # Mutation: "\ufeffPerson_1" is a name that nobody has: the person stays in training.
    (tmp_path / "out.txt").write_bytes(b"\xef\xbb\xbfAnn Lee\r\n1\r\n")
    assert excluded_labels(tmp_path / "out.txt", ["Ann_Lee", "Bob"], 2) == {0, 1}
    (tmp_path / "out.txt").write_bytes("\ufeffBob\r\ufeff\ufeffJu\u0308rgen".encode())
    assert excluded_labels(tmp_path / "out.txt", ["Jürgen", "Cy", "Bob"], 3) == {0, 2}


@pytest.mark.parametrize("text", ["Ann Le\n", "\n", ""])
def test_an_exclude_list_that_matches_nobody_is_an_error_unless_allowed(tmp_path: Path, text: str):
    # Mutation: a warning among other lines, and the person stays in training.
    (tmp_path / "out.txt").write_text(text)
    with pytest.raises(BadData, match="out.txt: n.* is in the set, .*--allow-empty"):
        excluded_labels(tmp_path / "out.txt", ["Ann_Lee"], 1)
    assert excluded_labels(tmp_path / "out.txt", ["Ann_Lee"], 1, allow_empty=True) == set()


@pytest.mark.parametrize(
    "broken", ["a\nb", "a\u2028b", "a\x85b", "a\x0cb", "a\r", "a\0b", "\udcff"]
)
def test_names_with_line_breaks_cannot_be_written(tmp_path: Path, broken: str):
    # Mutation: two lines for one name: label 1 is then called by another's name.
    assert not readers.one_line(broken) and readers.one_line("José Núñez")
    with pytest.raises(UserError, match="line break"):
        write_face_records(tmp_path, [(0, b"image")], names=[broken])
    assert not (tmp_path / "train.rec").exists()
    if "\0" not in broken:
        (tmp_path / "src" / broken).mkdir(parents=True)
        with pytest.raises(UserError, match="rename the folder"):
            list_identities(tmp_path / "src")


def test_as_many_names_as_labels_and_other_signs_stay_in_a_name(tmp_path: Path):
    # Mutation: splitlines(), for which U+2028 ends a line; more names than labels accepted.
    path = tmp_path / "names.txt"
    path.write_text("a\u2028b\nc\nd\n", encoding="utf-8")
    assert read_names(path, LABELS) == ["a\u2028b", "c", "d"]
    for text in ("a\nb\n", "a\nb\nc\nd\n"):
        path.write_text(text)
        assert "names, but labels run to 2" in refused(lambda p: read_names(p, LABELS), path)


def test_what_is_there_twice_or_no_number_is_refused_with_its_line(tmp_path: Path):
    # Mutation: a dict in which the last line wins silently.
    path = tmp_path / "list.txt"
    path.write_text("1 ../Images/001/frontal/01.jpg\n1 ../Images/002/frontal/01.jpg\n")
    assert "line 2: index 1 is there twice" in refused(_read_list, path)
    row = ",".join(["1"] * 10)
    head = f"file,{','.join(LANDMARK_COLUMNS)}\n"
    path.write_text(f"{head}a.jpg,{row}\n./a.jpg,{row}\n")
    assert "line 3: 'a.jpg' is there twice" in refused(read_landmarks_csv, path)
    path.write_text(f"{head}a.jpg,nan{row[1:]}\n")
    assert "line 2 holds no ten numbers" in refused(read_landmarks_csv, path)


def test_labels_that_contradict_the_identities_of_a_sidecar_are_refused(tmp_path: Path):
    # Mutation: a pair of one person that counts as an impostor pair.
    sides = [b"a", b"b"], [b"c", b"d"]
    save_benchmark(tmp_path / "x.bin", *sides, [True, False], id1=[1, 2], id2=[1, 2])
    with pytest.raises(BadData, match="x.meta.npz: pair 1 is marked different, but its identities"):
        load_benchmark(tmp_path / "x.bin")


def test_an_unfinished_last_line_is_left_out_and_a_broken_one_before_it_is_not(tmp_path: Path):
    # Mutation: any line that is no JSON left out, so that metrics vanish without a word.
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"step": 1}) + '\n{"step": 2')
    assert readers.read_object_lines(path) == [{"step": 1}]
    path.write_text('{"step": 1\n' + json.dumps({"step": 2}) + "\n")
    assert "line 1" in refused(readers.read_object_lines, path)
