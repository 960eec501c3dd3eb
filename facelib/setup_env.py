"""Make the Python environment that `environment.yml` describes, with the standard library alone.

    python3 facelib/setup_env.py          make (or finish) .venv; a later call returns at once
    python3 facelib/setup_env.py --here   only check the running interpreter, say of a conda env

A stamp inside `.venv` holds the sha256 of `environment.yml`: a changed list, an interrupted
installation or a moved checkout is noticed, and the installation goes on from what is there.
It runs under any Python 3.8 or later, since its first task is to find a Python 3.11.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

REPO = Path(__file__).resolve().parent.parent
ENVIRONMENT = REPO / "environment.yml"
VENV = REPO / ".venv"
PYTHON = (3, 11)
DISK_GB = 8.0  # torch brings its CUDA libraries: 7 GB installed
LIST_VERSIONS = (
    "import json; from importlib import metadata as m; "
    "print(json.dumps({d.metadata['Name']: d.version for d in m.distributions()}))"
)


class SetupError(Exception):
    """The environment cannot be made; the message says why and what to type next."""


class Requirement(NamedTuple):
    """One pinned package of `environment.yml`."""

    name: str
    version: str
    marker: str
    reason: str

    @property
    def line(self) -> str:
        """The line that pip reads."""
        pin = f"{self.name}=={self.version}"
        return f"{pin} ; {self.marker}" if self.marker else pin


def read_requirements(path: Path = ENVIRONMENT) -> list[Requirement]:
    """Read the pip block of `environment.yml`, without a yaml package.

    Raises:
        SetupError: the file is missing, or a line of the block is not `name==version`.
    """
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise SetupError(f"{path}: {error.strerror}: run this in a complete checkout") from error
    found, inside = [], False
    for number, line in enumerate(lines, start=1):
        if line.strip() == "- pip:":
            inside = True
        elif inside and line.strip().startswith("- "):
            text, _, reason = line.strip()[2:].partition(" #")
            pin, _, marker = text.partition(";")
            match = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.+!]+)", pin.strip())
            if not match:
                raise SetupError(f"{path.name}, line {number}: wanted name==version, got {pin!r}")
            found.append(Requirement(*match.groups(), marker.strip(), reason.strip()))
    if not found:
        raise SetupError(f"{path}: no '- pip:' block with packages found")
    return found


def applies(marker: str) -> bool:
    """Whether a marker such as `sys_platform == "linux" and platform_machine == "x86_64"` holds.

    Raises:
        SetupError: a marker with anything else than ==, != and `and`.
    """
    known = {"sys_platform": sys.platform, "platform_machine": platform.machine()}
    for part in filter(None, marker.split(" and ")):
        match = re.fullmatch(r"""\s*(\w+)\s*(==|!=)\s*["']([^"']*)["']\s*""", part)
        if not match or match[1] not in known:
            raise SetupError(f"marker {part!r}: wanted {' or '.join(known)} == or != a string")
        if (known[match[1]] == match[3]) != (match[2] == "=="):
            return False
    return True


def find_mismatches(installed: dict[str, str], wanted: list[Requirement]) -> list[str]:
    """Sentences about packages that are missing or of another version than `environment.yml`'s."""
    versions = {_normalise(name): version for name, version in installed.items() if name}
    sentences = []
    for requirement in wanted:
        if not applies(requirement.marker):
            continue
        version = versions.get(_normalise(requirement.name))
        if version is None:
            sentences.append(f"{requirement.name} is missing (wanted {requirement.version})")
        elif version.split("+")[0] != requirement.version:
            sentences.append(f"{requirement.name} is {version} (wanted {requirement.version})")
    return sentences


def make_environment() -> bool:
    """Make or finish `.venv`; return False when its stamp says that nothing is to be done.

    Raises:
        SetupError: no Python 3.11, no room on the disk, or pip failed.
    """
    if _read_stamp() == _stamp():
        return False
    with _lock():
        if _read_stamp() == _stamp():
            return True
        requirements = read_requirements()
        interpreter = None if _is_usable() else find_python()
        _check_disk()
        print(
            f"Setting up {VENV} ({len(requirements)} packages and what they need): about 4 GB to "
            f"download, {DISK_GB:.0f} GB on disk, 3 to 8 minutes. Later calls return at once.",
            flush=True,
        )
        if interpreter:
            _make_venv(interpreter)
        _install(requirements)
        _link_checkout()
        _stamp_path().write_text(_stamp())
    return True


def find_python() -> str:
    """Path of a Python 3.11 that has venv and pip's bootstrap.

    Raises:
        SetupError: none was found; says what to install.
    """
    wanted = ".".join(map(str, PYTHON))
    candidates = [sys.executable, *map(shutil.which, [f"python{wanted}", "python3", "python"])]
    candidates += [f"/usr/bin/python{wanted}", f"/usr/local/bin/python{wanted}"]
    candidates += sorted(map(str, Path.home().glob(f".pyenv/versions/{wanted}*/bin/python")))
    without_venv = None
    for candidate in dict.fromkeys(filter(None, candidates)):
        if _version_of(candidate) != PYTHON:
            continue
        if _runs(candidate, "import venv, ensurepip"):
            return candidate
        without_venv = without_venv or candidate
    if without_venv:
        raise SetupError(
            f"{without_venv} has no venv module: apt-get install python{wanted}-venv, "
            "then run the same command again"
        )
    here = ".".join(map(str, sys.version_info[:3]))
    raise SetupError(
        f"no Python {wanted} found (this is {here} at {sys.executable}): install it "
        f"(apt-get install python{wanted} python{wanted}-venv, brew install python@{wanted}, or "
        f"pyenv install {wanted}), or use conda: conda env create -f environment.yml; "
        "then run the same command again"
    )


def check_here() -> None:
    """Check that the running interpreter has every pinned package.

    Raises:
        SetupError: another Python or other packages; names the first few.
    """
    if sys.version_info[:2] != PYTHON:
        raise SetupError(f"{sys.executable} is Python {platform.python_version()}, wanted 3.11")
    installed = {d.metadata["Name"]: d.version for d in metadata.distributions()}
    mismatches = find_mismatches(installed, read_requirements())
    if mismatches:
        more = f" and {len(mismatches) - 3} more" if len(mismatches) > 3 else ""
        raise SetupError(
            f"{sys.executable}: {'; '.join(mismatches[:3])}{more}: "
            "conda env update -f environment.yml, or leave PYTHON unset to use .venv"
        )


def _normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _stamp_path() -> Path:
    return VENV / "facelib-stamp.json"


def _stamp() -> str:
    """What the stamp holds when the environment is complete (its scripts hold its own path)."""
    digest = hashlib.sha256(ENVIRONMENT.read_bytes()).hexdigest() if ENVIRONMENT.exists() else ""
    return json.dumps({"environment.yml": digest, "venv": str(VENV)})


def _read_stamp() -> str:
    try:
        return _stamp_path().read_text()
    except OSError:
        return ""


@contextlib.contextmanager
def _lock():
    """Let a second `make` wait for the first instead of installing into the same folder."""
    with open(f"{VENV}-lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _is_usable() -> bool:
    """Whether `.venv` can be continued; a half-made one is removed, a foreign one is an error."""
    if not VENV.exists() and not VENV.is_symlink():
        return False
    python = _venv_python()
    version = _version_of(python)
    if version is not None and version != PYTHON:
        found = ".".join(map(str, version))
        raise SetupError(f"{VENV} holds Python {found}, wanted 3.11: rm -r {VENV}, then try again")
    # A venv that was moved or copied still points pip's scripts at its old place.
    if version and _runs(python, f"import pip, sys; sys.exit(sys.prefix != {str(VENV)!r})"):
        return True
    print(f"{VENV} is half-made: making it anew", flush=True)
    if VENV.is_symlink():
        raise SetupError(f"{VENV} is a link to a broken environment: remove it, then try again")
    shutil.rmtree(VENV)
    return False


def _check_disk() -> None:
    used = sum(f.stat().st_size for f in VENV.rglob("*") if f.is_file() and not f.is_symlink())
    needed = max(1.0, DISK_GB - used / 1e9)
    free = shutil.disk_usage(REPO).free / 1e9
    if free < needed:
        raise SetupError(
            f"{free:.1f} GB free on the disk of {REPO}, {needed:.1f} GB needed: "
            "free some space, then run the same command again"
        )


def _make_venv(interpreter: str) -> None:
    command = [interpreter, "-m", "venv", str(VENV)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        tail = (done.stdout + done.stderr).strip().splitlines()[-3:]
        raise SetupError(f"{' '.join(command)} failed: {' / '.join(tail)}")


def _install(requirements: list[Requirement]) -> None:
    """Run pip, its output in a log file, one line of progress every ten seconds."""
    listing, log = VENV / "requirements.txt", VENV / "install.log"
    listing.write_text("".join(f"{requirement.line}\n" for requirement in requirements))
    command = [_venv_python(), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    command += ["--progress-bar", "off", "-r", str(listing)]
    start = told = time.monotonic()
    with open(log, "w") as output:
        pip = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        while pip.poll() is None:
            time.sleep(0.2)
            if time.monotonic() - told >= 10:
                told = time.monotonic()
                line = next(iter(_tail(log, 1)), "").strip()
                there = len(list(VENV.glob("lib/*/site-packages/*.dist-info")))
                print(f"  {told - start:4.0f} s  {there} installed; {line[:70]}", flush=True)
    finally:
        if pip.poll() is None:
            pip.terminate()
            pip.wait()
    if pip.returncode:
        tail = "\n".join(f"  {line}" for line in _tail(log, 12))
        raise SetupError(
            f"pip failed (exit code {pip.returncode}); its last lines, from {log}:\n{tail}\n"
            "try again: make setup    (it goes on from what is installed; "
            "if that fails too: rm -r .venv && make setup)"
        )
    listed = subprocess.run([_venv_python(), "-c", LIST_VERSIONS], capture_output=True, text=True)
    mismatches = find_mismatches(json.loads(listed.stdout), requirements)
    if mismatches:
        raise SetupError(f"pip ended well, but {'; '.join(mismatches)}: rm -r .venv && make setup")
    print(f"  {time.monotonic() - start:4.0f} s  installed; the log is {log}", flush=True)


def _link_checkout() -> None:
    """Let notebooks import facelib from any folder, in any editor that uses this environment."""
    for packages in VENV.glob("lib/python*/site-packages"):
        (packages / "facelib-checkout.pth").write_text(f"{REPO}\n")


def _tail(path: Path, count: int) -> list[str]:
    lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
    return [line for line in lines if not line.startswith("WARNING:")][-count:]


def _venv_python() -> str:
    return str(VENV / "bin" / "python")


def _version_of(python: str) -> tuple[int, int] | None:
    code = "import sys; print(*sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60)
        major, minor = done.stdout.split()
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return int(major), int(minor)


def _runs(python: str, code: str) -> bool:
    return subprocess.run([python, "-c", code], capture_output=True, timeout=60).returncode == 0


def main(arguments: list[str]) -> int:
    """Command line: no argument, or `--here`. Exit code 2 with one clear message on an error."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if arguments == ["--here"]:
            check_here()
        elif arguments:
            raise SetupError(f"unknown argument {arguments[0]!r}: allowed is --here, or none")
        else:
            make_environment()
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("setup: interrupted; make setup goes on from what is installed", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    os.chdir(REPO)
    sys.exit(main(sys.argv[1:]))
