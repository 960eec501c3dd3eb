"""Folders that are made once: whole, or not at all."""

import pytest

from facelib.paths import atomic_file, make_folder


def test_a_folder_is_whole_or_not_there(tmp_path):
    # Catches: a half-written data set under its final name; leavings of a killed process.
    def fail(folder):
        (folder / "half").write_text("")
        raise ValueError("disk")

    stale = tmp_path / "sub" / ".made.1234.tmp"
    stale.mkdir(parents=True)
    with pytest.raises(ValueError, match="disk"):
        make_folder(tmp_path / "sub" / "made", fail)
    assert not (tmp_path / "sub" / "made").exists()
    assert not stale.exists()
    assert not list((tmp_path / "sub").glob("*.tmp"))


def test_a_folder_is_made_once(tmp_path):
    # Catches: a data set that is rendered again in every process.
    calls = []

    def build(folder):
        calls.append(folder)
        (folder / "train.rec").write_text("records")

    for _ in range(2):
        assert make_folder(tmp_path / "made", build) == tmp_path / "made"
    assert len(calls) == 1
    assert calls[0] != tmp_path / "made"
    assert (tmp_path / "made" / "train.rec").read_text() == "records"


def test_a_full_disk_names_the_file_that_was_written(tmp_path):
    # Mutation: "No space left on device", and nobody knows of which disk.
    with pytest.raises(OSError) as caught, atomic_file(tmp_path / "a"):
        raise OSError(28, "No space left on device")
    assert caught.value.filename == str(tmp_path / "a") and list(tmp_path.iterdir()) == []
