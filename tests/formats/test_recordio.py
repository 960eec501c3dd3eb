"""RecordIO: byte for byte what mxnet and InsightFace write, and clear errors for damaged files."""

import hashlib
import multiprocessing
import pickle
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from facelib.config import make_config
from facelib.data.locate import train_folder, training_files
from facelib.errors import BadData, UserError
from facelib.formats.face_index import read_face_index
from facelib.formats.rebuild import rebuild_index
from facelib.formats.record_bytes import MAGIC
from facelib.formats.record_index import find_rec
from facelib.formats.recordio import (
    Header,
    RecordReader,
    RecordWriter,
    pack,
    unpack,
    write_face_records,
)
from facelib.prepare.inspection import inspect
from tests.formats.mxnet_reader import MxnetReader
from tests.golden.make_formats import PAYLOADS

GOLDEN = Path(__file__).resolve().parent.parent / "golden"


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """A face set of 3 identities with 2, 1 and 3 images (of a few bytes each)."""
    images = [(label, f"image {i}".encode()) for i, label in enumerate([0, 0, 1, 2, 2, 2])]
    write_face_records(tmp_path, images, names=["ann", "bob", "cy"])
    return tmp_path


def magic_payloads(count: int) -> list[bytes]:
    """Payloads dense in magic words and pieces of them, at every alignment."""
    rng = random.Random(0)
    pieces = [MAGIC, MAGIC[:2], MAGIC[2:], b"\x00", b"abcd"]
    return [b"".join(rng.choices(pieces, k=rng.randrange(9))) for _ in range(count)]


def test_reader_joins_the_split_records_that_mxnet_wrote():
    # Mutation: joining the parts with b"" instead of the magic.
    reader = RecordReader(GOLDEN / "split.rec")
    assert reader.keys.tolist() == sorted(PAYLOADS)
    for key, (label, payload) in PAYLOADS.items():
        header, found = unpack(reader.read(key))
        assert bytes(found) == payload and header.id == key
        assert np.array_equal(header.label, label)


def test_writer_gives_the_bytes_of_mxnet(tmp_path: Path):
    # Mutation: splitting at a magic word that is not 4-byte aligned; padding parts wrongly.
    with RecordWriter(tmp_path / "split.rec") as writer:
        for key, (label, payload) in PAYLOADS.items():
            writer.write(key, pack(Header(0, label, key, 0), payload))
    for name in ("split.rec", "split.idx"):
        assert (tmp_path / name).read_bytes() == (GOLDEN / name).read_bytes()


def test_random_split_records_round_trip_with_mxnet_both_ways(tmp_path: Path, recordio):
    # Mutation: after a cut, searching on from the cut + 1 instead of the cut + 4.
    payloads = magic_payloads(300)
    theirs = recordio.MXIndexedRecordIO(str(tmp_path / "b.idx"), str(tmp_path / "b.rec"), "w")
    with RecordWriter(tmp_path / "a.rec") as ours:
        for key, payload in enumerate(payloads):
            ours.write(key, pack(Header(0, 1.5, key, 7), payload))
            theirs.write_idx(key, recordio.pack(recordio.IRHeader(0, 1.5, key, 7), payload))
    theirs.close()
    assert (tmp_path / "a.rec").read_bytes() == (tmp_path / "b.rec").read_bytes()
    assert (tmp_path / "a.idx").read_bytes() == (tmp_path / "b.idx").read_bytes()
    oracle, reader = MxnetReader(tmp_path / "a.rec"), RecordReader(tmp_path / "b.rec")
    for key, payload in enumerate(payloads):
        assert oracle.read(key) == reader.read(key)
        assert bytes(unpack(reader.read(key))[1]) == payload


def test_a_face_set_has_the_layout_of_face2rec2(faces: Path):
    # Mutation: identity records with the last image instead of one past it; keys from 0.
    order = [line.split("\t")[0] for line in (faces / "train.idx").read_text().splitlines()]
    assert order == ["1", "2", "3", "4", "5", "6", "0", "7", "8", "9"]
    reader = RecordReader(faces)
    assert reader.header(0).label.tolist() == [7, 10] and reader.header(0).flag == 2
    ranges = [reader.header(key).label.tolist() for key in (7, 8, 9)]
    assert ranges == [[1, 3], [3, 4], [4, 7]] and reader.header(9).id == 9
    assert reader.header(4) == Header(0, 2.0, 4, 0)
    assert (faces / "property").read_text() == "3,112,112\n"
    assert (faces / "names.txt").read_text() == "ann\nbob\ncy\n"
    assert reader.read(0).hex() == "02000000" + "00" * 20 + "0000e04000002041"


def test_first_labels_equal_the_headers_one_by_one(tmp_path: Path):
    # Mutation: reading the label field of a header whose labels follow (flag > 0), or reading
    # straight through a header that the magic (here in id2) cuts in parts.
    magic = int.from_bytes(MAGIC, "little")
    headers = [(3.0, 0), ([5.0, 1.0], 0), (7.0, 0), ([9.0, 2.0], magic)]
    with RecordWriter(tmp_path) as writer:
        for key, (label, id2) in enumerate(headers):
            writer.write(key * 10, pack(Header(0, label, key, id2), b"jpeg"))
    reader = RecordReader(tmp_path)
    assert reader.first_labels(np.array([30, 0, 10, 20])).tolist() == [9.0, 3.0, 5.0, 7.0]
    for missing in (5, 31):
        with pytest.raises(BadData, match=f"no record {missing}"):
            reader.read(missing)


def read_in_child(reader: RecordReader, key: int) -> bytes:
    return reader.read(key)


def test_a_reader_travels_to_a_spawned_worker_without_its_map(faces: Path):
    # Mutation: pickling the memory map.
    reader = RecordReader(faces)
    expected = reader.read(5)
    assert reader.file.__getstate__()["_map"] is None
    assert pickle.loads(pickle.dumps(reader)).read(5) == expected
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(read_in_child, (reader, 5)) == expected


def test_a_writer_that_dies_leaves_the_old_files_alone(faces: Path):
    # Mutation: opening the final name for writing.
    before = {path.name: path.read_bytes() for path in faces.iterdir()}
    with pytest.raises(OSError, match="No space"), RecordWriter(faces) as writer:
        writer.write(1, b"new")
        raise OSError(28, "No space left on device")
    assert {path.name: path.read_bytes() for path in faces.iterdir()} == before


def write_until_killed(folder: Path, written) -> None:
    with RecordWriter(folder) as writer:
        for key in range(1 << 40):
            writer.write(key, pack(Header(0, 0.0, key, 0), bytes(4096)))
            if key == 100:
                written.set()


def test_kill_9_in_the_middle_leaves_the_old_files_alone(faces: Path):
    # Mutation: writing under the final name and cleaning up in an exception handler.
    before = RecordReader(faces).read(6)
    context = multiprocessing.get_context("spawn")
    written = context.Event()
    child = context.Process(target=write_until_killed, args=(faces, written))
    child.start()
    assert written.wait(60)
    child.kill()
    child.join()
    assert RecordReader(faces).read(6) == before and len(RecordReader(faces)) == 10


@pytest.mark.parametrize(
    ("images", "names", "message"),
    [
        ([(0, b"a"), (2, b"b")], None, "image 2 has label 2, wanted 0 or 1"),
        ([(0, b"a")], ["x", "y"], "2 names for 1 identities"),
    ],
)
def test_a_wrong_face_set_is_refused_and_nothing_is_written(tmp_path, images, names, message):
    with pytest.raises(UserError, match=message):
        write_face_records(tmp_path, images, names=names)
    assert list(tmp_path.iterdir()) == []


def truncate(folder: Path) -> None:
    rec = folder / "train.rec"
    rec.write_bytes(rec.read_bytes()[:-4])


def truncate_image(folder: Path) -> None:
    with RecordWriter(folder) as writer:
        writer.write(1, pack(Header(0, 0.0, 1, 0), bytes(100_000)))
    truncate(folder)


def overwrite_magic(folder: Path) -> None:
    rec = folder / "train.rec"
    rec.write_bytes(b"\xff" * 4 + rec.read_bytes()[4:])


def append_line(line: str):
    def change(folder: Path) -> None:
        with open(folder / "train.idx", "a") as file:
            file.write(line)

    return change


BAD_FILES = {
    "truncated .rec": (truncate, "record 9: truncated: wanted 32 bytes from byte 368, found 28"),
    "truncated image": (truncate_image, "record 1: truncated: wanted 100024 bytes from byte 8, f"),
    "bad magic": (overwrite_magic, "record 1: bytes ff ff ff ff at byte 0, wanted 0a 23 d7 ce"),
    "offset past the end": (append_line("10\t99999\n"), "puts record 10 at byte 99999"),
    "offset inside a record": (append_line("10\t4\n"), "record 10: bytes .* at byte 4"),
    "a line of words": (append_line("ten\t4\n"), r"line 11 is b'ten\\t4', wanted key<TAB>byte"),
    "half a line": (append_line("10"), "line 11 is b'10'"),
    "a key twice": (append_line("9\t0\n"), "1 keys occur twice"),
    "a negative offset": (append_line("10\t-4\n"), "line 11"),
    "no .idx": (lambda folder: (folder / "train.idx").unlink(), "train.idx: no such file; rebuild"),
    "no .rec": (lambda folder: (folder / "train.rec").unlink(), "train.rec: no such file"),
    "empty .rec": (lambda folder: (folder / "train.rec").write_bytes(b""), "0 bytes, but"),
    "empty .idx": (lambda folder: (folder / "train.idx").write_bytes(b""), "no records; rebuild"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_damaged_set_gives_one_clear_error(faces: Path, case: str):
    change, message = BAD_FILES[case]
    change(faces)
    with pytest.raises(BadData, match=message) as caught:
        reader = RecordReader(faces)
        for key in reader.keys:
            reader.read(int(key))
    assert "\n" not in str(caught.value) and str(faces) in str(caught.value)


def test_a_key_that_is_not_there_is_named(faces: Path):
    # Mutation: searchsorted without comparing the key that it found.
    with pytest.raises(BadData, match="no record 77; it has 10 records, 0 … 9"):
        RecordReader(faces).read(77)
    with pytest.raises(BadData, match="no record 77"):
        RecordReader(faces).first_labels(np.array([1, 77]))


def test_the_index_is_rebuilt_from_the_records(faces: Path):
    # Mutation: ids of identity records taken for positions.
    before = (faces / "train.idx").read_text()
    (faces / "train.idx").unlink()
    assert rebuild_index(faces) == 10
    assert (faces / "train.idx").read_text() == before


def test_rebuilding_finds_what_is_around_the_damage(faces: Path, caplog):
    # Mutation: the walk ends at the first damaged place.
    offset = RecordReader(faces).offset(3)
    truncate(faces)
    rec = bytearray((faces / "train.rec").read_bytes())
    rec[offset : offset + 8] = bytes(8)
    (faces / "train.rec").write_bytes(rec)
    (faces / "train.idx").unlink()
    assert rebuild_index(faces / "train.rec") == 8
    assert "found 8 records around 2 damaged places" in caplog.text
    assert RecordReader(faces).keys.tolist() == [0, 1, 2, 4, 5, 6, 7, 8]


def test_an_index_that_leads_to_every_record_is_kept(tmp_path: Path):
    # Mutation: keys replaced by the ids of the records, which a shuffled copy keeps from before.
    with RecordWriter(tmp_path) as writer:
        for key, number in ((5, 1), (9, 0), (2, 2)):
            writer.write(key, pack(Header(0, 0.0, number, 0), b"picture"))
    before = (tmp_path / "train.idx").read_bytes()
    assert rebuild_index(tmp_path) == 3 and (tmp_path / "train.idx").read_bytes() == before


def test_an_index_that_cannot_be_improved_is_kept(faces: Path, caplog):
    # Mutation: the index of a truncated file replaced by a shorter one.
    truncate(faces)
    before = (faces / "train.idx").read_bytes()
    with pytest.raises(
        BadData, match=r"kept, it knows 10 records and a new one would know 9.*skip"
    ):
        rebuild_index(faces)
    assert (faces / "train.idx").read_bytes() == before
    reader = RecordReader(faces, partial=True)
    assert len(reader) == 9 and reader.read(8) and "1 of 10 records are cut off" in caplog.text


def test_a_blank_line_at_the_end_of_an_index_is_no_record(faces: Path):
    append_line("\n \n")(faces)
    assert len(RecordReader(faces)) == 10


def test_a_set_of_another_name_is_read_where_it_is_the_only_one(faces: Path):
    # im2rec writes PREFIX.rec. Mutation: "no such file: train.rec" beside it.
    for suffix in (".rec", ".idx"):
        (faces / f"train{suffix}").rename(faces / f"emore{suffix}")
    assert len(RecordReader(faces)) == len(RecordReader(faces / "emore.rec")) == 10
    assert inspect(faces)["images"] == 6
    for given in (faces, faces / "emore.rec"):
        cfg = make_config(data=str(given), benchmarks="")
        assert find_rec(train_folder(cfg)) == training_files(cfg)[0] == faces / "emore.rec"
    (faces / "train.idx").touch()  # a set whose train.rec is lost: emore is another one
    assert find_rec(faces) == faces / "train.rec"
    (faces / "train.idx").unlink()
    shutil.copy(faces / "emore.rec", faces / "val.rec")
    with pytest.raises(BadData, match=r"holds emore\.rec, val\.rec, .* name it, e\.g\. "):
        RecordReader(faces)


def test_the_way_out_of_a_bad_end_is_one_that_works(faces: Path, caplog):
    # Mutation: skip_bad advised for the index of another file, --rebuild-idx for a cut one.
    lines = (faces / "train.idx").read_text().splitlines()
    shifted = (f"{key}\t{int(at) + 4}" for key, at in (line.split() for line in lines))
    (faces / "train.idx").write_text("\n".join(shifted))
    with pytest.raises(BadData, match=r"--rebuild-idx$"):
        RecordReader(faces)
    assert rebuild_index(faces) == len(RecordReader(faces)) == 10
    truncate(faces)
    with pytest.raises(BadData, match=r"skip_bad=true$"):
        RecordReader(faces)
    assert read_face_index(RecordReader(faces, partial=True)).problems == []


def test_records_whose_ids_repeat_are_numbered_in_their_order(tmp_path: Path):
    # A shuffled copy, or two sets one after the other: ids are no keys.
    with RecordWriter(tmp_path) as writer:
        for key in range(4):
            writer.write(key, pack(Header(0, float(key % 2), 7, 0), b"picture"))
    (tmp_path / "train.idx").unlink()
    assert rebuild_index(tmp_path) == 4
    assert RecordReader(tmp_path).keys.tolist() == [0, 1, 2, 3]


@pytest.mark.slow
def test_every_lfw_record_equals_the_one_that_mxnet_reads(real_faces: Path, recordio):
    reader = RecordReader(real_faces / "lfw_train")
    oracle = MxnetReader(real_faces / "lfw_train")
    assert len(reader) == len(oracle) == 18_983
    assert np.array_equal(reader.keys, oracle.keys)
    different = [key for key in reader.keys.tolist() if reader.read(key) != oracle.read(key)]
    assert different == []


@pytest.mark.slow
def test_lfw_written_anew_has_the_same_bytes(real_faces: Path, tmp_path: Path):
    # Mutation: any in the order of the records, the header fields or the padding.
    source = real_faces / "lfw_train"
    reader = RecordReader(source)
    records = (unpack(reader.read(key)) for key in range(1, 13_234))
    images = ((int(header.label), bytes(payload)) for header, payload in records)
    write_face_records(tmp_path, images, names=(source / "names.txt").read_text().splitlines())
    for name in ("train.rec", "train.idx", "property", "names.txt"):
        digests = [hashlib.sha256((f / name).read_bytes()).digest() for f in (source, tmp_path)]
        assert digests[0] == digests[1], name
    shutil.rmtree(tmp_path)
