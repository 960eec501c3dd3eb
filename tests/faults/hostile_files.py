"""The bytes of damaged and hostile files of every kind; `hostile.py` gives them to commands."""

import io
import pickle
import struct
import zipfile
import zlib

from tests.faults.cases_data import jpegs

GLOBAL = b"\x80\x02c%s\n%s\nX\x02\x00\x00\x00id\x85R."


def _archive(pickled: bytes, packed: bool = False, **entries: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(
        out, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    ) as zipped:
        zipped.writestr("a/data.pkl", pickled)
        for name, content in {"version": b"3\n", "byteorder": b"little", **entries}.items():
            zipped.writestr(f"a/{name.replace('__', '/')}", content)
    return out.getvalue()


def _tensor(elements: int, size: int) -> bytes:
    """A pickle of {"conv1.weight": a tensor} over storage 0."""
    storage = (b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00"
               b"cpu\x8a\x08" + struct.pack("<q", elements) + b"tQ")  # fmt: skip
    shape = b"\x8a\x08" + struct.pack("<q", size) + b"\x85"
    return (b"\x80\x02}X\x0c\x00\x00\x00conv1.weightctorch._utils\n_rebuild_tensor_v2\n("
            + storage + b"K\x00" + shape
            + b"K\x01\x85\x89ccollections\nOrderedDict\n)RtRs.")  # fmt: skip


def weights_files() -> dict[str, bytes]:
    """Bad weights files."""
    whole = _archive(_tensor(4, 4), data__0=bytes(16))
    flipped = bytearray(whole)
    flipped[whole.index(bytes(16)) + 3] ^= 1
    head = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)
    twice = _archive(_tensor(4, 4), data__0=bytes(16), data__1=bytes(4))
    nested = b"\x80\x02}" + b"".join(b"q%c(%s}u" % (i, b"".join(
        b"K%cK\x01" % k for k in range(200))) for i in range(9)) + b"."  # fmt: skip
    return {
        "empty": b"", "a text": b"hello\n" * 50, "only PK": b"PK\x03\x04" + bytes(40),
        "cut": whole[:-40], "flipped": bytes(flipped), "no names": _archive(b"\x80\x02}."),
        "a list": _archive(b"\x80\x02]."), "numbers": _archive(b"\x80\x02}K\x01K\x02s."),
        "posix.system": _archive(GLOBAL % (b"posix", b"system")),
        "builtins.exec": _archive(GLOBAL % (b"__builtin__", b"exec")),
        "torch.hub.load": _archive(GLOBAL % (b"torch.hub", b"load")),
        "numpy": _archive(GLOBAL % (b"numpy.core.multiarray", b"_reconstruct")),
        "old, subprocess": head + GLOBAL % (b"subprocess", b"getoutput"),
        "plain pickle": GLOBAL % (b"os", b"system"),
        "stack global": _archive(b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R."),
        "memo": _archive(b"\x80\x02Nr\xff\xff\xff\x7f."), "nested": _archive(nested),
        "deep": _archive(b"\x80\x02" + b"(" * 300_000 + b"."),
        "long text": _archive(b"\x80\x02X\xff\xff\xff\x7fa."),
        "storage too large": _archive(_tensor(10**12, 4), data__0=bytes(16)),
        "storage negative": _archive(_tensor(-1, 4), data__0=bytes(16)),
        "storage absent": _archive(_tensor(4, 4)),
        "packed": _archive(b"\x80\x02" + b"N0" * 10**6 + b"N.", packed=True),
        "outside its storage": _archive(_tensor(4, 400), data__0=bytes(16)),
        "no version": whole.replace(b"a/version", b"a/verzion"),
        "two pickles": twice.replace(b"a/data/1", b"b/data.p"),
        "other names": _archive(_tensor(4, 4).replace(b"conv1.weight", b"xxxxx.weight"),
                                data__0=bytes(16)),
    }  # fmt: skip


def pickles() -> dict[str, bytes]:
    """Bad `.bin` files."""
    dtype = b"cnumpy\ndtype\n(S'u1'\nI0\nI1\ntR"
    reconstruct = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    return {
        "calls": GLOBAL % (b"os", b"system"), "dtype with a shape": dtype + b"(I3\nS'|'\n((I9\nt"
        b"(I99999\nttNNI-1\nI-1\nI0\ntb.", "array without end": reconstruct + b"(I1\n(I999999999\nt"
        + dtype + b"I0\nS'x'\ntb.", "memo": b"Nr\xff\xff\xff\x7f.", "bytes": b"\x8e" + b"\xff" * 8,
        "doubling": b"(lp0\n" + b"(g0\ng0\nlp0\n" * 5000 + b".", "marks": b"(" * 10**6,
        "long number": b"I" + b"9" * 10**6 + b"\n.", "empty": b"", "not a pickle": b"\xff\xd8" * 99,
        "negative shape": reconstruct + b"(I1\n(I-5\nt" + dtype + b"I0\nS'x'\ntb.",
    }  # fmt: skip


def pictures() -> dict[str, bytes]:
    """Pictures that claim to be huge, or are cut."""
    jpeg = bytearray(jpegs(1)[0])
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 65_000, 65_000)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0))
    return {
        "a.jpg": bytes(jpeg), "b.jpg": jpegs(1)[0][:200], "c.jpg": b"", "d.jpg": b"GIF89a",
        "a.png": b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(99))),
        "a.bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 60, 0, 0, 54, 40, 60_000, 60_000, 1, 24,
                                     0, 0, 0, 0, 0, 0) + bytes(6),
        "a.webp": b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8X" + struct.pack("<II", 10, 0)
                  + b"\xff\xff\x00\xff\xff\x00" + bytes(12),
    }  # fmt: skip
