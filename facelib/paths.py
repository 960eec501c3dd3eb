"""Where things are: never relative to the working folder (papermill and nbval differ in theirs).

`$FACELIB_DATA` holds data sets (default `.data/` in the repository), `$FACELIB_RUNS` holds runs
(default `runs/`). Both are read at each call, so that a test or a cluster job can set them.
"""

import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from facelib.errors import UserError
from facelib.locks import locked

REPO = Path(__file__).resolve().parent.parent
FOLDER_NAME = re.compile(r"\w[\w .+=,-]{0,99}")


def data_root() -> Path:
    """Folder of the data sets: `$FACELIB_DATA`, else `.data/` in the repository."""
    return _root("FACELIB_DATA", REPO / ".data")


def runs_root() -> Path:
    """Folder of the runs: `$FACELIB_RUNS`, else `runs/` in the repository."""
    return _root("FACELIB_RUNS", REPO / "runs")


def named_run(folder: Path) -> str:
    """A run's folder as an advised command names it: by name, or in full where it is elsewhere."""
    folder = Path(folder).resolve()
    return shlex.quote(folder.name if folder.parent == runs_root() else str(folder))


def _root(variable: str, otherwise: Path) -> Path:
    value = os.environ.get(variable)
    try:
        return Path(value or otherwise).expanduser().resolve()
    except (RuntimeError, ValueError) as error:  # ~nobody; a loop of links
        raise UserError(
            f"{variable}={value!r}: {error}; set it to the full path of a folder"
        ) from error


def check_folder_name(name: str, what: str) -> str:
    """The name of a run or record as it is: one line, one folder, nothing that a page would run.

    Args:
        what: what to call it in an error.
    """
    if not FOLDER_NAME.fullmatch(name):
        raise UserError(
            f"{what}={name!r}: wanted a folder name without slashes, of at most 100 letters, "
            "digits, spaces and ._-+=, that begins with a letter or digit, for example 'smoke'"
        )
    return name


def published_root() -> Path:
    """Folder of the small, committed records: always `runs/published/` of the repository."""
    return REPO / "runs" / "published"


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it to `path` only if the block succeeds.

    A killed process or a full disk leaves the old file (or none) under the final name.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk does not say what was written
        raise
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(folder: Path, build: Callable[[Path], None]) -> Path:
    """`folder`, filled by `build(temporary)` on first use: whole or not at all.

    Of several processes one builds and the others wait; what a killed one left is removed.
    """
    folder = Path(folder)
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent / f".{folder.name}.lock"):
        if folder.is_dir():  # another process made it while this one waited
            return folder
        for stale in folder.parent.glob(f".{folder.name}.*.tmp"):
            shutil.rmtree(stale)
        temporary = folder.parent / f".{folder.name}.{os.getpid()}.tmp"
        temporary.mkdir()
        try:
            build(temporary)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder
