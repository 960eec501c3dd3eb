"""The short versions of `make fuzz` and `make kill`, and properties of readers and writers."""

import json
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facelib.errors import BadData, UserError
from facelib.formats.bins import read_bin, write_bin
from facelib.formats.recordio import RecordReader, RecordWriter
from facelib.safety.readers import one_line, read_arrays, read_object, read_rows
from tests.faults import fuzz

FEW = settings(max_examples=60, deadline=None)
REPO = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def scratch() -> Path:
    """A file for one example of a property."""
    return Path(tempfile.mkdtemp()) / "file"


def test_a_short_campaign_of_mutated_files_finds_no_fault():
    # Mutation: any reader that lets another error than UserError out.
    found = fuzz.campaign(600, seed=1, tell=False)
    assert found["faults"] == [] and sum(found["outcomes"].values()) == 600
    assert found["outcomes"]["read"] > 20 and found["outcomes"]["refused"] > 200


def test_a_crash_of_a_reader_are_counted(monkeypatch, tmp_path):
    # Mutation: a campaign that takes a dead worker for a finished one.
    line = [sys.executable, "-m", "tests.faults.fuzz", "--only", "3"]
    done = subprocess.run(line, cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.split("\n")[1] in ("read", "refused")
    monkeypatch.setattr(fuzz, "REPO", tmp_path)  # no tests.faults there: each worker dies
    monkeypatch.delenv("PYTHONPATH", raising=False)
    found = fuzz.campaign(2, seed=0, tell=False)
    assert found["outcomes"] == {"crash": 2} and len(found["faults"]) == 2


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
