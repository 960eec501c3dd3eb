"""`.bin` benchmarks: what InsightFace wrote is read, and a hostile pickle runs nothing."""

import io
import os
import pickle
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
    write_bin(tmp_path / "x.bin", [RED, BLUE], np.array([False]))
    with open(tmp_path / "x.bin", "rb") as file:
        bins, same = pickle.load(file, encoding="bytes")
    assert bins == [RED, BLUE] and same == [False] and type(same[0]) is bool


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
    "an object array": pickle.dumps((np.array([RED, None], object), [True])),
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
    "empty": (b"", "EOFError"),
    "no pickle": (b"\xff\xd8 a picture", "not a readable pickle"),
    "an odd number of images": (pickle.dumps(([RED] * 3, [True])), "3 images and 1 pairs"),
    "too few pairs": (pickle.dumps(([RED] * 4, [True])), "4 images and 1 pairs"),
    "no pair": (pickle.dumps(([], [])), "0 images and 0 pairs"),
    "one list": (pickle.dumps([RED, BLUE, RED]), "holds a list, wanted"),
    "a dict inside": (pickle.dumps(({}, [True])), "holds .dict, list."),
    "text for an image": (pickle.dumps(([RED, "x"], [True])), "image 1 is a str"),
    "a word for a label": (pickle.dumps(([RED, RED], ["yes"])), "pair 0 is marked 'yes'"),
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
