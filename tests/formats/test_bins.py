"""`.bin` benchmarks: what InsightFace wrote is read, and a hostile pickle runs nothing."""

import io
import os
import pickle
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from facelib.errors import BadData, UserError
from facelib.formats.bins import read_bin, write_bin
from tests.golden.make_formats import pixels_jpeg

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
RED, BLUE = pixels_jpeg((200, 30, 30)), pixels_jpeg((30, 30, 200))


@pytest.mark.parametrize("name", ["python2.bin", "python2_arrays.bin"])
def test_files_of_python_2_are_read(name: str):
    # Mutation: encoding="ASCII", which cannot read Python 2's byte strings.
    images, same = read_bin(GOLDEN / name)
    assert images == [RED, RED, RED, BLUE]
    assert same.tolist() == [True, False] and same.dtype == bool


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("as_arrays", [False, True])
def test_files_of_every_protocol_are_read(tmp_path: Path, protocol: int, as_arrays: bool):
    # Mutation: a whitelist without _codecs.encode, or without numpy._core's spelling.
    images = [np.frombuffer(x, np.uint8) if as_arrays else x for x in (RED, RED, b"", BLUE)]
    path = tmp_path / "x.bin"
    for same in ([True, False], [np.bool_(True), np.bool_(False)], np.array([True, False])):
        path.write_bytes(pickle.dumps((images, same), protocol))
        assert read_bin(path)[0] == [RED, RED, b"", BLUE]
        assert read_bin(path)[1].tolist() == [True, False]


def test_numpy_2_spells_its_modules_with_an_underscore(tmp_path: Path):
    content = pickle.dumps(([np.frombuffer(RED, np.uint8)] * 2, [True]), 2)
    renamed = content.replace(b"cnumpy.core.multiarray\n", b"cnumpy._core.multiarray\n")
    assert renamed != content
    (tmp_path / "x.bin").write_bytes(renamed)
    assert read_bin(tmp_path / "x.bin")[0] == [RED, RED]


def test_what_is_written_is_what_insightface_reads(tmp_path: Path):
    # InsightFace: `bins, issame_list = pickle.load(f, encoding='bytes')`.
    write_bin(tmp_path / "x.bin", [RED, BLUE, RED, RED], np.array([False, True]))
    with open(tmp_path / "x.bin", "rb") as file:
        bins, same = pickle.load(file, encoding="bytes")
    assert bins == [RED, BLUE, RED, RED] and same == [False, True] and type(same[0]) is bool
    assert (tmp_path / "x.bin").read_bytes()[:2] == b"\x80\x03"  # Python 3 before 3.4 reads it too


class Hostile:
    def __init__(self, call, *args):
        self.call, self.args = call, args

    def __reduce__(self):
        return self.call, self.args


HOSTILE = {
    "os.system": ("posix.system|nt.system", lambda marker: Hostile(os.system, f"touch {marker}")),
    "eval": ("eval", lambda marker: Hostile(eval, f"open({str(marker)!r}, 'w')")),
    "getattr": ("getattr", lambda marker: Hostile(getattr, os, "system")),
    "open": ("io.open|_io.open", lambda marker: Hostile(io.open, str(marker), "w")),
    "numpy.load": ("numpy.load", lambda marker: Hostile(np.load, str(marker))),
    "a class of ours": ("pathlib.PosixPath|pathlib", lambda marker: Path("x")),
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_hostile_pickle_is_refused_by_name_and_runs_nothing(tmp_path, case, protocol):
    # Mutation: falling back to pickle.Unpickler.find_class.
    refused, make = HOSTILE[case]
    marker = tmp_path / "ran"
    try:
        content = pickle.dumps(([RED, make(marker)], [True]), protocol)
    except TypeError:  # a module object cannot be pickled: name it as an attacker would
        content = b"cbuiltins\ngetattr\n(cos\nsystem\nS'x'\ntR."
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(BadData, match=refused) as caught:
        read_bin(tmp_path / "x.bin")
    assert not marker.exists() and "nothing was run" in str(caught.value)


ODD_PICKLES = {
    "an object array in two dimensions of fields": pickle.dumps((np.zeros((2, 2, 2)), [True])),
    "a structured array": pickle.dumps((np.zeros(2, "u1,u1"), [True])),
    "an array of a terabyte": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n"
    b"(I1000000000000\ntS'b'\ntR.",
    "another codec": b"c_codecs\nencode\n(Vabc\nVzlib\ntR.",
    "attributes for a callable": b"c_codecs\nencode\n}S'codec'\nS'zlib'\nsb.",
    "an array as a class": b"\x80\x02cnumpy\nndarray\nI9\n\x85\x81.",
    "a registered extension": b"\x80\x02\x82\x01.",
    "a persistent id": b"Pabc\n.",
}


@pytest.mark.parametrize("case", ODD_PICKLES)
def test_allowed_names_cannot_be_turned_to_other_ends(tmp_path: Path, case: str):
    # Mutation: handing out numpy.ndarray, numpy.dtype or _codecs.encode themselves.
    (tmp_path / "x.bin").write_bytes(ODD_PICKLES[case])
    with pytest.raises(BadData, match="not a readable pickle"):
        read_bin(tmp_path / "x.bin")


DAMAGED = {
    "truncated": (pickle.dumps(([RED, BLUE], [True]))[:-20], "not a readable pickle"),
    "empty": (b"", "an empty file"),
    "no pickle": (b"\xff\xd8 a picture", "not a readable pickle"),
    "an odd number of images": (
        pickle.dumps(([RED] * 3, [True])),
        "3 images and 1 pairs, .* pair; the .* make it again$",
    ),
    "too few pairs": (pickle.dumps(([RED] * 4, [True])), "4 images and 1 pairs"),
    "no pair": (pickle.dumps(([], [])), "0 images and 0 pairs"),
    "one list": (pickle.dumps([RED, BLUE, RED]), "holds a list, wanted"),
    "a dict inside": (pickle.dumps(({}, [True])), "opcode EMPTY_DICT"),
    "text for an image": (pickle.dumps(([RED, "x"], [True])), "image 1 is a str"),
    "a word for a label": (pickle.dumps(([RED, RED], ["yes"])), "pair 0 is marked 'yes'"),
    "a two for a label": (pickle.dumps(([RED] * 4, [1, 2])), "pair 1 is marked 2, wanted True or"),
    "a real number for a label": (pickle.dumps(([RED, RED], [1.0])), "pair 0 is marked 1.0"),
    "one image for the list": (
        pickle.dumps((RED, [True])),
        r"\(a bytes, a list\), wanted \(list of images, list of bools\)",
    ),
    "one label for the list": (
        pickle.dumps(([RED, RED], True)),
        r"holds \(a list, a bool\), wanted",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_gives_one_clear_error(tmp_path: Path, case: str):
    content, message = DAMAGED[case]
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(BadData, match=message) as caught:
        read_bin(tmp_path / "x.bin")
    assert str(tmp_path / "x.bin") in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_and_a_wrong_count_are_refused(tmp_path: Path):
    with pytest.raises(BadData, match="no such file"):
        read_bin(tmp_path / "x.bin")
    with pytest.raises(UserError, match="3 images for 1 pairs"):
        write_bin(tmp_path / "x.bin", [RED] * 3, [True])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_object_arrays_of_images_are_read(tmp_path: Path, protocol: int):
    # Mutation: refusing numpy's dtype O, which `np.array(images)` makes of byte strings.
    images = np.array([RED, BLUE], object)
    (tmp_path / "x.bin").write_bytes(pickle.dumps((images, np.array([1])), protocol))
    read, same = read_bin(tmp_path / "x.bin")
    assert read == [RED, BLUE] and same.tolist() == [True] and same.dtype == bool


DTYPE = b"cnumpy\ndtype\n(X\x02\0\0\0u1\x89\x88tR"
FOUR_BYTES = b"cnumpy.core.numeric\n_frombuffer\n(C\x04abcd" + DTYPE
ALIGNMENT = b"J\xff\xff\xff\xffJ\xff\xff\xff\xff"
FRAME_OF_IMAGES = b"\x80\x03(](%b%be](\x88et."
PLANTED = {
    "a memo of 4 GB": b"\x80\x03]r\x00\x00\x00\x10" + b"0.",
    "a shape inside a dtype": FRAME_OF_IMAGES
    % (DTYPE + b"(K\x03X\x01\0\0\0|(" + DTYPE + b"(J\0\0\0@ttNN" + ALIGNMENT + b"K\0tb", b""),
    "flags of references on plain numbers": FRAME_OF_IMAGES
    % (DTYPE + b"(K\x03X\x01\0\0\0|NNN" + ALIGNMENT + b"K\x01tb", b""),
    "a shape larger than its bytes": FRAME_OF_IMAGES
    % (FOUR_BYTES + b"J\0\0\0@\x85X\x01\0\0\0CtR", b""),
    "items written into an array": FOUR_BYTES + b"K\x04\x85X\x01\0\0\0CtR(K\x64K\x65u.",
    "items appended to an array": FOUR_BYTES + b"K\x04\x85X\x01\0\0\0CtRK\x64a.",
    "tuples that double forty times": b"\x80\x03N" + b"2\x86" * 40 + b"2]t.",
    "a label that doubles forty times": b"\x80\x03(](C\x01aC\x01ae](N" + b"2\x86" * 40 + b"et.",
    "a shape that doubles forty times": FOUR_BYTES + b"N" + b"2\x86" * 40 + b"X\x01\0\0\0CtR.",
    "marks in marks": b"(" * 100_000,
    "lists in lists": b"]" * 100_000 + b"a" * 99_999 + b".",
    "references without end": b"\x80\x04]" + b"\x94" * 100_000 + b".",
    "a text encoded many times": b"\x80\x02c_codecs\nencode\nq\x00X\x00\x08\0\0" + b"a" * 2048
    + b"\x85q\x01" + b"h\x00h\x01R" * 2000 + b".",
    "a number of a megabyte": b"\x8b\x00\x00\x10\x00" + b"1" * 2**20 + b".",
    "a length beyond the file": b"\x8e" + b"\xff" * 7 + b"\x7f.",
    "pops from nothing": b"0.",
    "a mark too few": b"et.",
}  # fmt: skip


@pytest.mark.parametrize("case", PLANTED)
def test_planted_opcodes_are_refused_at_once_and_within_the_memory_of_the_file(tmp_path, case):
    # Mutation: pickle.Unpickler in place of the interpreter (crashes, 4 GB, or never ends).
    path = tmp_path / "x.bin"
    path.write_bytes(PLANTED[case])
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(BadData) as caught:
        read_bin(path)
    took, most = time.process_time() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert took < 5 and most < 2**20 + 30 * len(PLANTED[case])
    message = str(caught.value)
    assert message.startswith(str(path)) and len(message) < 500 and "\n" not in message
    assert "wanted" in message and "python -m facelib" in message


def test_an_error_names_the_byte(tmp_path: Path):
    # Mutation: reporting where the reader stopped instead of where the opcode is.
    (tmp_path / "x.bin").write_bytes(b"\x80\x03(]}")
    with pytest.raises(BadData, match="byte 4: .*opcode EMPTY_DICT"):
        read_bin(tmp_path / "x.bin")


def test_an_image_named_many_times_is_held_once(tmp_path: Path):
    # Mutation: a copy of the array for each reference to it.
    path = tmp_path / "x.bin"
    image = np.frombuffer(bytes(2**20), np.uint8)
    path.write_bytes(pickle.dumps(([image] * 2000, [True] * 1000), 4))
    tracemalloc.start()
    images, _ = read_bin(path)
    assert tracemalloc.get_traced_memory()[1] < 2 * path.stat().st_size
    tracemalloc.stop()
    assert len({id(one) for one in images}) == 1
