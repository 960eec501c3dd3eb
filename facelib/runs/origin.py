"""What a run and its files came from, and whether that is still so.

origin.json, written when a training begins: {"data": {NAME: {"path", "digest"}}, "code": digest}.
A run of an earlier version has none, and is taken as it is.
"""

import functools
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from facelib.digests import digest_stream, digest_values
from facelib.errors import BadData, UserError
from facelib.paths import REPO
from facelib.runs.files import read_origin, write_json
from facelib.safety.seal import read_seal

log = logging.getLogger(__name__)
# What decides the weights of a run, beside its data and settings: files and rooms of the package.
CODE = ("config.py", "distributed.py", "limits.py", "rows.py",
        "data", "formats", "losses", "metrics", "models", "training")  # fmt: skip
WHOLE = 64 << 20  # bytes up to which all of a record file is read,
BLOCK, BLOCKS = 1 << 16, 64  # and what is read of a larger one


def evaluation_key(run) -> str | None:
    """Digest of what eval.json comes from: configuration and checkpoint. None without checkpoint.

    Args:
        run: a `facelib.runs.folder.Run`.
    """
    if not run.checkpoint.is_file():
        return None
    return digest_values(
        [run.config.digest(), read_seal(run.checkpoint).decode("ascii", "replace")]
    )


def unfinished(run) -> str:
    """What to say of figures of a run whose training has not come to its end; else ""."""
    state = run.state
    if state in ("new", "done"):  # new: its status is gone, or it is of an earlier version
        return ""
    status = run.status
    return (
        f"{run.name} is not finished ({state} at step {status.get('step', 0)} of "
        f"{status.get('steps')}): its figures are of that step; go on with: "
        f"python -m facelib train --run {run.ref}"
    )


def why_stale(run, report: dict) -> str:
    """Why the figures of an eval.json are not those of its run; "" where they are."""
    if reason := unfinished(run):
        return reason
    key = evaluation_key(run)
    if key is not None and report.get("key", key) != key:
        return (
            f"{run.path / 'eval.json'}: figures of another checkpoint or configuration; evaluate "
            f"again: python -m facelib eval {run.ref}"
        )
    return ""


def check_name(run) -> None:
    """UserError where a run's configuration does not belong to the folder it lies in."""
    if run.path.name != run.config.run_name:
        raise UserError(
            f"{run.path / 'config.json'}: its settings belong to a run called "
            f"{run.config.run_name}: edited, renamed, or of an earlier version; put it back, or "
            "start a run of its own: python -m facelib train --set KEY=VALUE"
        )


def file_digest(path: Path) -> str:
    """Digest of a file's size and bytes; of a `.rec` above 64 MB, of 64 blocks of 64 KB.

    Of a folder of people it is that of the names and sizes of their files.

    The blocks lie evenly from the first byte (record 0) to the last. A change of a few bytes of a
    large file between them is not seen; one that moves, adds or removes records is, by the size or
    the index beside it, which is read whole.
    """
    if path.is_dir():
        files = sorted(file for file in path.glob("[!.]*/[!.]*") if file.is_file())
        return digest_values([(f.relative_to(path).as_posix(), f.stat().st_size) for f in files])
    size = path.stat().st_size

    def parts() -> Iterator[bytes]:
        yield str(size).encode()
        with open(path, "rb") as file:
            if size <= WHOLE or path.suffix != ".rec":
                while block := file.read(1 << 20):
                    yield block
                return
            for i in range(BLOCKS):
                file.seek((size - BLOCK) * i // (BLOCKS - 1))
                yield file.read(BLOCK)

    return digest_stream(parts())


@functools.cache
def code_digest() -> str:
    """Digest of the code that trains."""
    folder = REPO / "facelib"
    files = [p for name in CODE for p in (folder / name, *sorted((folder / name).rglob("*.py")))]
    parts = ((str(p.relative_to(folder)), p.read_bytes()) for p in files if p.is_file())
    return digest_stream(part for both in parts for part in both)


def record_origin(run, files: Iterable[Path]) -> None:
    """Write origin.json of a run that begins now.

    Args:
        files: its training data.
    """
    data = {p.name: {"path": str(p.resolve()), "digest": file_digest(p)} for p in files}
    write_json(run.path / "origin.json", {"data": data, "code": code_digest()})


def check_data(run, files: Iterable[Path] | None = None) -> None:
    """Raise where the training data of a run are no longer those that it began with.

    Args:
        files: what it would train on now; None: the files that it began with, as far as they are
            still there.

    Raises:
        BadData: another content, or files more or fewer.
    """
    kept = read_origin(run.path / "origin.json").get("data")
    if kept is None:
        return
    now = {p.name: p for p in files} if files is not None else {
        name: path for name, entry in kept.items() if (path := Path(entry["path"])).exists()
    }  # fmt: skip
    names = set(now) | set(kept) if files is not None else set(now)
    for name in sorted(names):
        if name not in now or name not in kept or file_digest(now[name]) != kept[name]["digest"]:
            path = now.get(name) or kept[name]["path"]
            raise BadData(
                f"{run.name}: the data of this run changed: {path}; bring back what it began with, "
                f"or train anew: move {run.path} away, then run again"
            )


def of_other_code(run) -> bool:
    """Whether a run was begun by other code than would train now."""
    code = read_origin(run.path / "origin.json").get("code")
    return code is not None and code != code_digest()


def check_resume(run, files: Iterable[Path] | None = None) -> None:
    """`check_data` of a run that goes on, and a warning where the code changed since it began."""
    check_data(run, files)
    if of_other_code(run):
        log.warning("%s: goes on with other code than it began with", run.name)
