"""The short version of `make fuzz`, and properties of readers and writers."""

import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facelib.errors import BadData, UserError
from facelib.formats.bins import read_bin, write_bin
from facelib.formats.recordio import RecordReader, RecordWriter
from facelib.safety.readers import one_line, read_arrays, read_object, read_rows
from tests.faults import flips, fuzz
from tests.faults.cases import Case

FEW = settings(max_examples=60, deadline=None, database=None, derandomize=True)
FOLDER = tempfile.TemporaryDirectory()  # of all examples; gone with the process
REPO = Path(__file__).resolve().parent.parent.parent


def scratch() -> Path:
    """A file for one example of a property."""
    return Path(tempfile.mkdtemp(dir=FOLDER.name)) / "file"


def summary(tmp_path: Path, *arguments: str) -> dict:
    """What a campaign in a process of its own says."""
    line = [sys.executable, "-m", "tests.faults.fuzz", "--out", f"{tmp_path}/o.json"]
    done = subprocess.run(
        [*line, "--keep", f"{tmp_path}/kept", *arguments], cwd=REPO, capture_output=True, text=True
    )
    found = json.loads((tmp_path / "o.json").read_text())
    assert done.returncode == bool(found["faults"]), done.stderr
    return found


@pytest.mark.slow
def test_a_short_campaign_of_mutated_files_finds_no_fault(tmp_path):
    # Mutation: any reader that lets another error than UserError out.
    found = summary(tmp_path, "--inputs", "2000", "--seed", "7")
    assert found["faults"] == [] and sum(found["outcomes"].values()) == 2000
    assert found["outcomes"]["read"] > 300 and found["outcomes"]["refused"] > 1000
    assert len(found["readers"]) > 75


def reader(kind: str):
    """A reader with a fault of its own."""

    def read(path: Path) -> None:
        if kind == "crash":
            os._exit(3)
        if kind == "hang":
            time.sleep(60)
        if kind == "memory":
            bytearray(fuzz.MOST_BYTES + (1 << 28))
        if kind == "traceback":
            raise KeyError(kind)
        if kind == "other refusal":
            raise UserError("what?")
        if kind == "refused":
            raise BadData(f"{path}: damaged")

    return read


@pytest.mark.parametrize(
    "kind", ["read", "refused", "other refusal", "traceback", "memory", "crash", "hang"]
)
def test_each_kind_of_fault_is_told_apart(tmp_path, monkeypatch, kind):
    # Mutation: a campaign that takes a dead process for a finished one, or a refusal for a fault.
    monkeypatch.setattr(fuzz, "HANG", 0.5 if kind == "hang" else 60)
    case = Case(kind, "file", b"content", reader(kind))
    rows = list(fuzz.generation([case], 0, 0, 1, tmp_path))
    assert [row[:3] for row in rows] == [[0, kind, kind]]


def test_flipped_bytes_in_checkpoints_are_refused():
    # Mutation: a checkpoint that is loaded without a look at its digest.
    assert flips.campaign(30, seed=1)["outcomes"] == {"refused": 30}


@FEW
@given(st.lists(st.tuples(st.binary(max_size=300), st.binary(max_size=300), st.booleans()),
                min_size=1, max_size=8), st.integers(0, 5))  # fmt: skip
def test_what_is_written_as_a_bin_is_read_in_every_protocol(pairs, protocol):
    # Mutation: an opcode of a protocol that the interpreter reads otherwise than Python.
    images, same = [side for a, b, _ in pairs for side in (a, b)], [s for *_, s in pairs]
    path = scratch()
    write_bin(path, images, same)
    assert read_bin(path)[0] == images and read_bin(path)[1].tolist() == same
    arrays = [np.frombuffer(image, np.uint8) for image in images]
    for content in ((images, same), (arrays, np.array(same)), (tuple(images), tuple(same))):
        path.write_bytes(pickle.dumps(content, protocol))
        assert read_bin(path)[0] == images and read_bin(path)[1].tolist() == same


@FEW
@given(st.binary(max_size=400))
def test_any_bytes_are_a_bin_or_one_line(content):
    # Mutation: an error of the interpreter that is no `Refused`.
    path = scratch()
    path.write_bytes(content)
    try:
        read_bin(path)
    except BadData as error:
        assert "\n" not in str(error) and str(path) in str(error)


@FEW
@given(st.dictionaries(st.integers(0, 2**31), st.binary(max_size=200), min_size=1, max_size=6))
def test_records_come_back_whatever_they_hold(records):
    # Mutation: the magic inside a payload taken for a frame.
    folder = scratch()
    whole = {key: bytes(24) + content for key, content in records.items()}
    with RecordWriter(folder) as writer:
        for key, record in whole.items():
            writer.write(key, record)
    reader = RecordReader(folder)
    assert {key: bytes(reader.read(key)) for key in whole} == whole


@FEW
@given(st.text(max_size=40))
def test_a_name_that_may_be_written_is_one_row(name):
    # Mutation: splitlines() on one side, "\n" on the other.
    path = scratch()
    if one_line(name) and not name.startswith("\ufeff"):
        path.write_text(f"{name}\nnext\n", encoding="utf-8")
        assert read_rows(path, "names") == [name, "next"]


@FEW
@given(st.recursive(st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
                    lambda x: st.lists(x) | st.dictionaries(st.text(), x)))  # fmt: skip
def test_json_is_an_object_or_one_line(value):
    # Mutation: a list taken for an object.
    path = scratch()
    path.write_text(json.dumps(value))
    if isinstance(value, dict):
        assert read_object(path) == value
    else:
        with pytest.raises(UserError, match="wanted a JSON object"):
            read_object(path)


@FEW
@given(st.lists(st.floats(width=32), max_size=20), st.booleans(), st.integers(0, 10**6))
def test_arrays_come_back_and_a_flipped_byte_is_read_alike_or_refused(values, packed, place):
    # Mutation: a checksum that nobody compares.
    path, array = scratch(), np.array(values, np.float32)
    with open(path, "wb") as file:
        (np.savez_compressed if packed else np.savez)(file, a=array, b=array.reshape(1, -1).T)
    found = read_arrays(path, "arrays")
    assert found["a"].tobytes() == array.tobytes() and found["b"].shape == (len(array), 1)
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 4
    path.write_bytes(content)
    try:
        again = read_arrays(path, "arrays")
    except BadData:
        return
    assert all(again[name].tobytes() == array.tobytes() for name in again)
