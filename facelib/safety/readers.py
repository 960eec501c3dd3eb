"""How a file of a person or of a run is read: one rule for everything that can be wrong with it.

Whatever a file holds, its reader returns what it promises or raises `BadData` with one line: the
file, the line, byte or member, what was found, what was wanted, and the next command. Parsing that
is not done here happens inside `with reading(path, …)`. Nothing allocates much more than the file's
size. A file that is written by others and takes no part of this rule: the images and records of
`facelib/formats`, which have readers of their own.
"""

import codecs
import csv
import errno
import json
import math
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from facelib.errors import BadData, UserError

AGAIN = "mend the file, or make it again"
UNFOLDED = 64 << 20  # bytes that a member of an archive may have in any case,
RATIO = 50  # and as a multiple of the file: scores compress to a tenth


@contextmanager
def reading(path: Path | str, wanted: str, again: str = AGAIN) -> Iterator[None]:
    """Turn whatever reading and parsing a file raises into one `BadData` that names it."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise BadData(f"{path}: no such file; wanted {wanted}; {again}") from None
    except OSError as error:
        reason = error.strerror or str(error).partition("\n")[0]
        raise BadData(f"{path}: cannot be read ({reason}); wanted {wanted}; {again}") from error
    except UnicodeDecodeError as error:
        found = error.object[error.start : error.start + 4].hex(" ")
        line = error.object[: error.start].count(b"\n") + 1
        raise BadData(
            f"{path}: line {line}, byte {error.start}: {found} is not {error.encoding.upper()}"
            f" text, wanted {wanted}; save it as UTF-8 (iconv -f CP1252 -t UTF-8), or {again}"
        ) from error
    except MemoryError as error:
        raise BadData(f"{path}: asks for more memory than there is; {again}") from error
    except RecursionError as error:
        raise BadData(f"{path}: nested too deep, wanted {wanted}; {again}") from error
    except Exception as error:  # a damaged file raises nearly anything
        reason = (str(error).splitlines() or [""])[0][:120]
        raise BadData(
            f"{path}: cannot be read as {wanted} ({type(error).__name__}: {reason}); {again}"
        ) from error


def _plain_file(path: Path | str) -> Path:
    """A path that is no pipe or device: reading one of these may never end."""
    if Path(path).exists() and not Path(path).is_file():
        raise OSError(errno.EINVAL, "not a regular file")
    return Path(path)


def encoding_of(head: bytes) -> str:
    """Encoding that a file's first bytes say: its byte-order mark's, else UTF-8.

    Bytes of no Unicode (cp1252, Latin-1) are refused, not guessed: a name that is guessed wrong
    matches nobody, and that person stays in training.
    """
    utf16 = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return "utf-16" if utf16 else "utf-8-sig"


def read_text(path: Path | str, wanted: str, again: str = AGAIN) -> str:
    """A text file in UTF-8, or in UTF-16 with its byte-order mark; no line begins with a mark."""
    with reading(path, wanted, again):
        content = _plain_file(path).read_bytes()
        encoding = encoding_of(content[:2])
        if encoding != "utf-16" and b"\0" in content.rstrip(b"\0"):
            encoding = "latin-1"  # to be refused below, whatever else is odd in it
        text = content.decode(encoding)
    if "\0" in text.rstrip("\0"):  # zeros at the end are what a crash of the machine leaves
        raise BadData(
            f"{path}: line {text[: text.index(chr(0))].count(chr(10)) + 1} holds zero bytes (UTF-16"
            f" without a byte-order mark?), wanted {wanted}; save it as UTF-8, or {again}"
        )
    return re.sub("(^|[\r\n])\ufeff+", r"\1", text)  # of files that were joined


def read_rows(path: Path | str, wanted: str, again: str = AGAIN) -> list[str]:
    """The lines of a text file, cut at line ends alone: U+2028 is part of a name, not its end."""
    text = read_text(path, wanted, again).replace("\r\n", "\n").replace("\r", "\n")
    rows = text.split("\n")
    return rows[:-1] if rows[-1] == "" else rows


def read_table(path: Path | str, wanted: str, again: str = AGAIN) -> list[tuple[int, list[str]]]:
    """(line number, fields) of each line that is not empty.

    The first line says what parts the fields: tabs, else semicolons, else commas (fields may be in
    quotes), else blanks.
    """
    rows = [(i, row) for i, row in enumerate(read_rows(path, wanted, again), 1) if row.strip()]
    mark = next((mark for mark in "\t;," if rows and mark in rows[0][1]), None)
    if mark is None:
        return [(number, row.split()) for number, row in rows]
    found = []
    with reading(path, wanted, again):
        for number, row in rows:
            fields = row.split(mark) if mark == "\t" else next(csv.reader([row], delimiter=mark))
            found.append((number, [field.strip() for field in fields]))
    return found


def one_line(name: str) -> bool:
    """Whether a name is text that stays on one line, whatever program reads it."""
    text = name.encode("utf-8", "replace").decode() == name  # names of files can be other bytes
    return text and "".join(name.splitlines()) == name and "\0" not in name


def is_number(text: str) -> bool:
    """Whether a field is a whole number of ASCII digits, as many as 64 bits hold."""
    return text.isascii() and text.isdigit() and len(text) < 19


def read_object(path: Path | str, again: str = AGAIN, default: Any = ...) -> dict:
    """A JSON object; `default` where the file is absent."""
    if default is not ... and not Path(path).exists():
        return default
    found = parse_json(read_text(path, "a JSON object", again), path, again)
    if not isinstance(found, dict):
        raise BadData(f"{path}: holds {kind_of(found)}, wanted a JSON object; {again}")
    return found


def parse_json(text: str, where: Path | str, again: str = AGAIN) -> Any:
    """The value of a JSON text."""
    try:
        found = json.loads(text)
        if "\\ud" in text.lower():  # half of a sign in two parts: text that nobody can write
            json.dumps(found, ensure_ascii=False).encode()
        return found
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, character {error.colno}"
        raise BadData(f"{where}: not JSON ({error.msg} at {place}); {again}") from error
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits; nested too deep
        raise BadData(f"{where}: not JSON ({str(error)[:80]}); {again}") from error


def read_object_lines(path: Path | str, again: str = AGAIN) -> list[dict]:
    """One JSON object a line; an unfinished last line (a killed writer) is left out."""
    rows = []
    lines = read_text(path, "one JSON object a line", again).split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found = parse_json(line, f"{path}: line {number}", again)
        except BadData:
            if number == len(lines):
                continue
            raise
        if not isinstance(found, dict):
            raise BadData(
                f"{path}: line {number} is {kind_of(found)}, wanted a JSON object; {again}"
            )
        rows.append(found)
    return rows


def kind_of(value: Any) -> str:
    """What to call a JSON value in an error."""
    kinds = {dict: "an object", list: "a list", str: "a text", type(None): "null"}
    return kinds.get(type(value), f"{value!r}"[:40])


def check_fields(row: dict, kinds: dict[str, type | tuple], where: str, again: str = AGAIN) -> dict:
    """A JSON object whose fields, as far as they are there, have these types; NaN is a number."""
    for name, kind in kinds.items():
        value = row.get(name)
        odd = isinstance(value, bool) and kind is not bool
        if name in row and (odd or not isinstance(value, kind)):
            names = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
            raise BadData(f"{where}: `{name}` is {kind_of(value)}, wanted {names}; {again}")
    return row


def read_arrays(
    path: Path | str,
    wanted: str,
    again: str = AGAIN,
    only: tuple[str, ...] | None = None,
    needed: tuple[str, ...] = (),
) -> dict:
    """The arrays of an `.npz`, their checksums compared; nothing in it is executed.

    Args:
        only: names to read, of those that are there; None reads all.
        needed: names that must be there.
    """
    with reading(path, wanted, again), zipfile.ZipFile(_plain_file(path)) as archive:
        size = Path(path).stat().st_size
        most = max(UNFOLDED, RATIO * size)
        found = {}
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if only is not None and name not in only:
                continue
            where = f"{path}: member {member.filename[:60]!r}"
            if member.flag_bits & 1 or member.compress_type not in (0, 8):
                raise BadData(f"{where} is encrypted or packed in an unknown way; {again}")
            if member.compress_size > size:
                raise BadData(f"{where} claims {member.compress_size:,} bytes of {size:,}; {again}")
            if member.file_size > most or name in found:
                what = f"unfolds to {member.file_size:,} bytes" if name not in found else "is twice"
                raise BadData(f"{where} {what}; wanted {wanted}; {again}")
            with reading(where, wanted, again):
                found[name] = _array(archive.read(member))
        if missing := [f"`{name}`" for name in needed if name not in found]:
            raise BadData(
                f"{path}: no array {' and '.join(missing)} (found "
                f"{', '.join(sorted(found)) or 'none'}); wanted {wanted}; {again}"
            )
        return found


def _array(content: bytes):
    """The array of an `.npy` in memory: shape and type must say exactly the bytes that follow."""
    import io

    import numpy as np

    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    header = {(1, 0): np.lib.format.read_array_header_1_0,
              (2, 0): np.lib.format.read_array_header_2_0}.get(version)  # fmt: skip
    if header is None:
        raise ValueError(f"version {version} of the array format")
    shape, fortran, dtype = header(file)
    if dtype.hasobject:
        raise ValueError("an array of Python objects")
    rest = len(content) - file.tell()
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != rest:
        raise ValueError(f"shape {shape} of {dtype} over {rest} bytes")
    if dtype.itemsize == 0:
        return np.empty(shape, dtype)
    array = np.frombuffer(content, dtype, offset=file.tell()).copy()
    return array.reshape(shape, order="F" if fortran else "C")
