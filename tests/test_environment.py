"""The environment: one pinned list with reasons, its lock, made by `make setup` with pip."""

import json
import os
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from facelib.paths import REPO

LINES = (REPO / "environment.yml").read_text().splitlines()
LOCK = ".lock/requirements.txt"
LOCKED = re.sub(r"(?m)^#.*\n", "", (REPO / LOCK).read_text()).replace("\\\n    ", "").splitlines()
TINY = "dependencies:\n  - pip:\n      - packaging==24.0  # a reason\n      - -e .\n"


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A checkout without a pip that would download: the Makefile with a tiny list."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(REPO / name, tmp_path / name)
    (tmp_path / "environment.yml").write_text(TINY)
    (tmp_path / ".lock").mkdir()
    (tmp_path / LOCK).write_text("packaging==24.0 ; os_name == 'posix' \\\n    --hash=sha256:00\n")
    return tmp_path


def fake_python(folder: Path, version_fits: bool) -> dict[str, str]:
    """An environment whose every Python makes a .venv with a pip that only notes its arguments."""
    (folder / "bin").mkdir()
    pip = folder / "bin" / "recorder"
    pip.write_text('#!/bin/sh\n[ "$1" = -c ] && exec test -z "$2"\necho "$@" >> calls\n')
    script = (
        "#!/bin/sh\n"
        f'[ "$1" = -c ] && exit {0 if version_fits else 1}\n'
        f'[ "$2" = venv ] && mkdir -p .venv/bin && cp "${{0%/*}}/recorder" .venv/bin/python\n'
    )
    for name in ("python3.11", "python3"):
        (folder / "bin" / name).write_text(script)
    for path in (folder / "bin").iterdir():
        path.chmod(0o755)
    path = f"{folder / 'bin'}:/usr/bin:/bin"
    return {"PATH": path, "HOME": str(folder)}


def make(folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess:
    kept = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "PYTHON")}
    kept = {k: v for k, v in kept.items() if k not in ("FACELIB_PYTHON", "CONDA_DEFAULT_ENV")}
    return subprocess.run(["make", "setup"], cwd=folder, env=kept | environment,
                          capture_output=True, text=True)  # fmt: skip


def test_every_dependency_is_pinned_and_has_a_reason():
    # Catches: a package added without a version, or without saying why.
    inside = LINES[LINES.index("  - pip:") + 1 :]
    packages = [line for line in inside if line.strip().startswith("- ") and "-e ." not in line]
    assert len(packages) > 20
    for line in packages:
        assert re.fullmatch(r"      - [\w.-]+==[\w.+!]+( ; [^#]+)? +# .{10,}", line), line


def test_setup_installs_the_list_and_the_checkout_and_is_done_at_once_afterwards(checkout):
    # Catches: packages whose hashes are not asked for, a source archive that runs its own code, a
    # second call that installs again, a changed list or a moved checkout that is not noticed.
    environment = fake_python(checkout, version_fits=True)
    assert make(checkout, environment).returncode == 0
    calls = (checkout / "calls").read_text().splitlines()
    assert f"--require-hashes --only-binary :all: -r {LOCK}" in calls[0]
    assert [" -e ." in call for call in calls] == [False, True]
    assert make(checkout, environment).returncode == 0
    assert (checkout / "calls").read_text().splitlines() == calls
    later = (checkout / ".venv/.ready").stat().st_mtime + 5
    os.utime(checkout / "environment.yml", (later, later))
    make(checkout, environment)
    assert len((checkout / "calls").read_text().splitlines()) == 4
    moved = checkout.rename(checkout.with_name("moved"))
    moved_environment = environment | {"PATH": f"{moved / 'bin'}:/usr/bin:/bin"}
    assert "Installing into .venv" in make(moved, moved_environment).stdout


def test_setup_refuses_a_lock_that_lacks_a_pin(checkout):
    # Catches: a package that is added to environment.yml and silently not installed.
    (checkout / "environment.yml").write_text(TINY.replace("packaging==24.0", "Pack_aging==24.0"))
    done = make(checkout, fake_python(checkout, version_fits=True))
    assert done.returncode == 2
    assert "pack-aging==24.0 of environment.yml is not in .lock/requirements.txt" in done.stderr
    assert "make lock" in done.stderr
    assert not (checkout / "calls").exists()


def test_without_python_3_11_one_message_says_what_to_install(checkout):
    # Catches: a venv of another Python, a traceback.
    done = make(checkout, fake_python(checkout, version_fits=False))
    assert done.returncode == 2
    assert "no Python 3.11 with venv found" in done.stderr
    assert "conda env create -f environment.yml" in done.stderr
    assert not (checkout / ".venv").exists()


def test_a_venv_of_another_python_is_left_alone(checkout):
    # Catches: Python 3.11 installed over a person's own environment of another version.
    (checkout / ".venv/bin").mkdir(parents=True)
    python = checkout / ".venv/bin/python"
    python.write_text("#!/bin/sh\nexit 0\n")  # "is it another Python?": yes
    python.chmod(0o755)
    done = make(checkout, fake_python(checkout, version_fits=True))
    assert done.returncode == 2
    assert "another Python than 3.11: rm -r .venv" in done.stderr
    assert [path.name for path in (checkout / ".venv").rglob("*")] == ["bin", "python"]


def test_a_failed_installation_is_not_taken_for_a_complete_one(checkout):
    # Catches: a stamp after pip failed; no next command.
    environment = fake_python(checkout, version_fits=True)
    (checkout / "bin" / "recorder").write_text('#!/bin/sh\n[ "$1" = -c ]\n')
    done = make(checkout, environment)
    assert done.returncode == 2
    assert "setup: pip failed; again: make setup" in done.stderr
    assert not (checkout / ".venv/.ready").exists()


def test_conda_reads_the_same_list():
    # Catches: a list that only our rule understands.
    blocks = yaml.safe_load("\n".join(LINES))["dependencies"]
    assert next(block["pip"] for block in blocks if isinstance(block, dict))[-1] == "-e ."


def locked() -> list[Requirement]:
    return [Requirement(line.partition(" --hash")[0]) for line in LOCKED]


def test_the_lock_holds_names_versions_and_hashes_only():
    # Catches: a package without a hash, an address or a folder of the machine that made the lock.
    assert len(LOCKED) > 150
    for line in LOCKED:
        pattern = r"[a-z\d][a-z\d.-]*==[\w.]+ ;[()\w.'<>=! ]+( --hash=sha256:[\da-f]{64})+"
        assert re.fullmatch(pattern, line), line


def test_the_lock_has_every_pin_of_the_list_on_the_platforms_of_the_list():
    # Catches: a list that was changed and a lock that was not (make lock).
    blocks = yaml.safe_load("\n".join(LINES))["dependencies"]
    lines = next(block["pip"] for block in blocks if isinstance(block, dict))
    versions = {pin.name: pin for pin in locked()}
    places = [
        {"sys_platform": system, "platform_machine": machine, "os_name": "posix",
         "python_full_version": "3.11.9", "implementation_name": "cpython"}
        for system, machine in [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64")]
    ]  # fmt: skip
    for pin in (Requirement(line) for line in lines if "==" in line):
        entry = versions.get(canonicalize_name(pin.name))
        assert entry and entry.specifier == pin.specifier, f"{pin}: make lock"
        for place in places:
            wanted = pin.marker is None or pin.marker.evaluate(place)
            assert entry.marker.evaluate(place) == wanted, f"{pin} on {place}"


def test_the_lock_has_whatever_its_packages_need():
    # Catches: an entry taken out by hand; pip would refuse the whole lock.
    here = {pin.name: pin for pin in locked() if pin.marker.evaluate()}
    for distribution in metadata.distributions():
        name = canonicalize_name(distribution.name)
        if name not in here or not here[name].specifier.contains(distribution.version, True):
            continue
        for need in map(Requirement, distribution.requires or []):
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                entry = here.get(canonicalize_name(need.name))
                version = next(iter(entry.specifier)).version if entry else None
                assert version and need.specifier.contains(version, True), f"{name} needs {need}"


def test_the_parts_list_names_the_packages_of_the_lock():
    # Catches: an SBOM of another lock; one that changes each time it is made.
    parts = json.loads((REPO / ".lock/sbom.cdx.json").read_text())
    assert parts["bomFormat"] == "CycloneDX"
    assert "serialNumber" not in parts and "timestamp" not in parts["metadata"]
    found = [f"{part['name']}=={part['version']}" for part in parts["components"]]
    assert found == [f"{pin.name}{pin.specifier}" for pin in locked()]
