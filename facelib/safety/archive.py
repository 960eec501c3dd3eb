"""Weights files of PyTorch: loaded as data only, and refused where a byte of them has changed.

A file of ours has a seal (`facelib.safety.seal`). Files of others have a checksum (CRC-32) for each
entry of the archive, which PyTorch does not look at and this reader does. Files of PyTorch before
1.6 are no archives and have none.
"""

import hashlib
import mmap
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facelib.errors import BadData, UserError
from facelib.safety.outline import outline_of
from facelib.safety.seal import check_seal, has_mark, read_seal

SAFE = (2, 10)  # in older ones weights_only=True breaks its promise: CVE-2025-32434, CVE-2026-24747

if TYPE_CHECKING:
    import torch


def check_archive(path: Path | str, again: str) -> Any:
    """The outline of a weights file whose bytes are whole and which holds data only; no torch.

    Args:
        again: next command, for the errors.

    Raises:
        BadData: as `load_archive`.
    """
    path = Path(path)
    if not path.is_file():
        raise BadData(f"{path}: no such file; {again}")
    try:
        _check_bytes(path, again)
        return outline_of(path)
    except BadData:
        raise
    except Exception as error:  # a damaged archive or pickle raises nearly anything
        raise _no_weights(path, error, again) from error


def load_archive(path: Path | str, again: str) -> Any:
    """The content of a weights file: tensors and plain values only, on the CPU.

    Args:
        again: next command, for the errors.

    Raises:
        BadData: no such file, changed since it was written, or not data.
    """
    path = Path(path)
    check_archive(path, again)
    import torch

    if torch.torch_version.TorchVersion(torch.__version__) < SAFE:
        raise UserError(
            f"{path}: torch {torch.__version__} can run code that a weights file brings along; "
            f"wanted {'.'.join(map(str, SAFE))} or later: make setup, or in conda: "
            "conda env update -f environment.yml"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a pickle that it goes on to refuse
            with _opened(path) as file:
                return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise _no_weights(path, error, again) from error


def _no_weights(path: Path, error: Exception, again: str) -> BadData:
    reason = (str(error).splitlines() or [""])[0][:200]
    return BadData(
        f"{path}: not a PyTorch weights file ({type(error).__name__}: {reason}); {again}"
    )


def tensors_digest(tensors: Mapping[str, "torch.Tensor"], text: str = "") -> str:
    """Digest of named tensors and a text: goes into the header of a safetensors file."""
    import torch

    found = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def check_digest(path: Path, header: Mapping[str, str], found: str, again: str) -> None:
    """BadData where a safetensors file says another digest; files of others say none."""
    if header.get("digest", found) != found:
        raise BadData(
            f"{path}: damaged since it was written: its content has the digest {found[:8]}…, its "
            f"header says {header['digest'][:8]!r}…; {again}"
        )


def _check_bytes(path: Path, again: str) -> None:
    """BadData where a digest or checksum in the file says that it has changed."""
    if sealed := read_seal(path):
        check_seal(path, sealed, again)
        return
    if has_mark(path) or not zipfile.is_zipfile(path):
        _refuse_archive_like(path, again)
        return
    with zipfile.ZipFile(path) as archive:
        odd = [one.filename for one in archive.infolist() if one.compress_type or one.flag_bits & 1]
        if any("/code/__torch__" in name for name in archive.namelist()):
            raise BadData(
                f"{path}: a TorchScript program, wanted weights; save its state_dict(), or {again}"
            )
        bad = odd[0] if odd else archive.testzip()
        if bad is not None or archive.comment:
            what = f"entry {bad!r} is damaged" if bad is not None else "its end is damaged"
            raise BadData(f"{path}: {what} (the archive's checksum differs); {again}")


def _refuse_archive_like(path: Path, again: str) -> None:
    """BadData for a file that begins as an archive and does not end as one."""
    with open(path, "rb") as file:
        if file.read(2) == b"PK":
            raise BadData(f"{path}: an archive whose end is damaged or missing; {again}")


@contextmanager
def _opened(path: Path) -> Iterator[Path | mmap.mmap]:
    """What `torch.load` reads: the path of an archive, the map of an older file.

    A map gives the bytes that are there; a file first makes room for as many as it is asked for.
    """
    with open(path, "rb") as file:
        if file.read(2) == b"PK":
            yield path
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield content
