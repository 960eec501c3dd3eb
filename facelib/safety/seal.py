"""A weights file that we write ends with the SHA-256 of all bytes before it.

It is the comment of the zip archive that `torch.save` writes, so that other programs read over it.
"""

import hashlib
import struct
from pathlib import Path

from facelib.errors import BadData

MARK = b"sha256:"
COMMENT = struct.Struct(f"<H{len(MARK)}s64s")  # length of the comment, mark, hexadecimal digits
BLOCK = 1 << 20


def seal_file(path: Path) -> None:
    """Add the digest to what `torch.save` has just written."""
    size = Path(path).stat().st_size - 2  # the last two bytes are the length of the comment: 0
    digest = _sha256(path, size)
    with open(path, "r+b") as file:
        file.seek(size)
        file.write(COMMENT.pack(len(MARK) + len(digest), MARK, digest))


def read_seal(path: Path) -> bytes:
    """The digest at the end of a file, hexadecimal; empty where there is none."""
    with open(path, "rb") as file:
        file.seek(max(0, Path(path).stat().st_size - COMMENT.size))
        end = file.read()
    if len(end) == COMMENT.size:
        length, mark, digest = COMMENT.unpack(end)
        if mark == MARK and length == len(MARK) + len(digest):
            return digest
    return b""


def has_mark(path: Path) -> bool:
    """Whether the end of a file shows a part of a seal, whole or not."""
    with open(path, "rb") as file:
        file.seek(max(0, Path(path).stat().st_size - COMMENT.size))
        return MARK[:4] in file.read()


def check_seal(path: Path, sealed: bytes, again: str) -> None:
    """BadData where the bytes of a file are not those of its seal."""
    found = _sha256(path, Path(path).stat().st_size - COMMENT.size)
    if found != sealed:
        raise BadData(
            f"{path}: damaged since it was written: its bytes have the SHA-256 "
            f"{found[:8].decode()}…, the end of the file says "
            f"{sealed[:8].decode('ascii', 'replace')!r}…; {again}"
        )


def _sha256(path: Path, size: int) -> bytes:
    """Hexadecimal digest of the first `size` bytes."""
    found, left = hashlib.sha256(), size
    with open(path, "rb") as file:
        while left > 0 and (block := file.read(min(BLOCK, left))):
            found.update(block)
            left -= len(block)
    return found.hexdigest().encode()
