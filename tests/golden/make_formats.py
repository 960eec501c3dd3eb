"""Recipe of the golden files of the face formats: run from the repository with mxnet installed.

    python tests/golden/make_formats.py

- `split.rec`, `split.idx`: written by mxnet 1.9.1; payloads hold the magic word in every position
  that matters (`PAYLOADS`).
- `python2.bin`: a `.bin` as Python 2 pickled it (protocol 2, byte strings as SHORT_BINSTRING).
- `python2_arrays.bin`: the same with images as uint8 arrays, as mxnet's `asnumpy` left them.

The images are two 8×8 pictures in one colour each; nothing here shows a person.
"""

import pickle
import struct
from pathlib import Path

from tests.formats.mxnet_reader import import_mxnet

HERE = Path(__file__).resolve().parent
MAGIC = struct.pack("<I", 0xCED7230A)

# key → (label, payload); the header has 24 bytes, so payload positions keep their alignment.
PAYLOADS = {
    0: (0.0, b"plain payload"),
    1: (1.0, MAGIC),
    2: (2.0, b"head" + MAGIC + b"tail"),
    3: (3.0, MAGIC + MAGIC + b"abc"),
    4: (4.0, b"x" + MAGIC + b"unaligned"),
    5: ([5.0, 0.5], b"1234" + MAGIC + b"5678" + MAGIC),
    6: (6.0, b""),
}


def write_split_records() -> None:
    """Write `split.rec` and `split.idx` through mxnet."""
    recordio = import_mxnet().recordio
    writer = recordio.MXIndexedRecordIO(str(HERE / "split.idx"), str(HERE / "split.rec"), "w")
    for key, (label, payload) in PAYLOADS.items():
        writer.write_idx(key, recordio.pack(recordio.IRHeader(0, label, key, 0), payload))
    writer.close()


def pixels_jpeg(colour: tuple[int, int, int]) -> bytes:
    """JPEG of 8×8 pixels in one colour (RGB), as Pillow's encoder writes it."""
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def python2_bytes(content: bytes) -> bytes:
    """Opcodes of a Python 2 `str`: SHORT_BINSTRING or BINSTRING."""
    if len(content) < 256:
        return b"U" + bytes([len(content)]) + content
    return b"T" + struct.pack("<i", len(content)) + content


def python2_array(content: bytes) -> bytes:
    """Opcodes of a uint8 array as numpy wrote it under Python 2, protocol 2."""
    dtype = b"cnumpy\ndtype\n" + python2_bytes(b"u1") + b"K\x00K\x01\x87R"
    dtype += b"(K\x03" + python2_bytes(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
    empty += python2_bytes(b"b") + b"\x87R"
    shape = b"J" + struct.pack("<i", len(content)) + b"\x85"
    return empty + b"(K\x01" + shape + dtype + b"\x89" + python2_bytes(content) + b"tb"


def python2_pickle(images: list[bytes], same: list[bool]) -> bytes:
    """Protocol 2 pickle of (list of already pickled images, list of bools)."""
    flags = b"".join(b"\x88" if flag else b"\x89" for flag in same)
    return b"\x80\x02](" + b"".join(images) + b"e](" + flags + b"e\x86."


def write_bins() -> None:
    """Write the two `.bin` files: one genuine pair, one impostor pair."""
    red, blue = pixels_jpeg((200, 30, 30)), pixels_jpeg((30, 30, 200))
    images = [red, red, red, blue]
    for name, encode in (("python2.bin", python2_bytes), ("python2_arrays.bin", python2_array)):
        content = python2_pickle([encode(image) for image in images], [True, False])
        pickle.loads(content, encoding="bytes")
        (HERE / name).write_bytes(content)


if __name__ == "__main__":
    write_split_records()
    write_bins()
