"""The environment: one pinned list with reasons, made by `make setup` with pip."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from facelib.paths import REPO

LINES = (REPO / "environment.yml").read_text().splitlines()
TINY = "dependencies:\n  - pip:\n      - packaging==24.0  # a reason\n      - -e .\n"


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A checkout without a pip that would download: the Makefile with a tiny list."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(REPO / name, tmp_path / name)
    (tmp_path / "environment.yml").write_text(TINY)
    return tmp_path


def fake_python(folder: Path, version_fits: bool) -> dict[str, str]:
    """An environment whose every Python makes a .venv with a pip that only notes its arguments."""
    (folder / "bin").mkdir()
    pip = folder / "bin" / "recorder"
    pip.write_text('#!/bin/sh\necho "$@" >> calls\n')
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
    # Catches: markers or reasons handed to pip, a second call that installs again, a changed list
    # or a moved checkout that is not noticed.
    environment = fake_python(checkout, version_fits=True)
    assert make(checkout, environment).returncode == 0
    assert (checkout / ".venv/requirements.txt").read_text().strip() == "packaging==24.0"
    calls = (checkout / "calls").read_text().splitlines()
    assert [("-r" in call, "-e ." in call) for call in calls] == [(True, False), (False, True)]
    assert make(checkout, environment).returncode == 0
    assert (checkout / "calls").read_text().splitlines() == calls
    later = (checkout / ".venv/.ready").stat().st_mtime + 5
    os.utime(checkout / "environment.yml", (later, later))
    make(checkout, environment)
    assert len((checkout / "calls").read_text().splitlines()) == 4
    moved = checkout.rename(checkout.with_name("moved"))
    moved_environment = environment | {"PATH": f"{moved / 'bin'}:/usr/bin:/bin"}
    assert "Installing into .venv" in make(moved, moved_environment).stdout


def test_without_python_3_11_one_message_says_what_to_install(checkout):
    # Catches: a venv of another Python, a traceback.
    done = make(checkout, fake_python(checkout, version_fits=False))
    assert done.returncode == 2
    assert "no Python 3.11 with venv found" in done.stderr
    assert "conda env create -f environment.yml" in done.stderr
    assert not (checkout / ".venv").exists()


def test_conda_reads_the_same_list():
    # Catches: a list that only our rule understands.
    blocks = yaml.safe_load("\n".join(LINES))["dependencies"]
    assert next(block["pip"] for block in blocks if isinstance(block, dict))[-1] == "-e ."
