"""The environment is made from one pinned list, or says in one line why it cannot be."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from facelib import setup_env
from facelib.setup_env import Requirement, SetupError

SCRIPT = Path(setup_env.__file__)
PACKAGE = Requirement("a_package", "1.0", "", "")


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """An empty checkout with one package on its list."""
    (tmp_path / "environment.yml").write_text(
        "dependencies:\n  - pip:\n    - a_package==1.0  # w\n"
    )
    monkeypatch.setattr(setup_env, "REPO", tmp_path)
    monkeypatch.setattr(setup_env, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(setup_env, "ENVIRONMENT", tmp_path / "environment.yml")
    return tmp_path


def test_every_dependency_is_pinned_and_has_a_reason():
    # Catches: a package added without a version or without saying why.
    requirements = setup_env.read_requirements()
    assert len(requirements) > 20
    assert [r.name for r in requirements if len(r.reason) < 10] == []


def test_the_list_reads_as_yaml_reads_it():
    # Catches: a line that this parser and conda's understand differently (marker, comment).
    import yaml

    blocks = yaml.safe_load(setup_env.ENVIRONMENT.read_text())["dependencies"]
    wanted = next(block["pip"] for block in blocks if isinstance(block, dict))
    assert [r.line for r in setup_env.read_requirements()] == [line.strip() for line in wanted]


@pytest.mark.parametrize(
    ("system", "machine", "holds"),
    [("linux", "x86_64", True), ("linux", "aarch64", False), ("darwin", "x86_64", False)],
)
def test_mxnet_is_wanted_only_where_it_has_a_wheel(monkeypatch, system, machine, holds):
    # Catches: `and` read as `or`, or a marker that is ignored.
    monkeypatch.setattr(setup_env.sys, "platform", system)
    monkeypatch.setattr(setup_env.platform, "machine", lambda: machine)
    mxnet = next(r for r in setup_env.read_requirements() if r.name == "mxnet")
    assert setup_env.applies(mxnet.marker) is holds


def test_a_marker_it_cannot_judge_is_an_error():
    # Catches: an unknown marker silently taken as true.
    with pytest.raises(SetupError, match="python_version"):
        setup_env.applies('python_version < "3.9"')


@pytest.mark.parametrize(
    ("installed", "sentence"),
    [
        ({}, "a_package is missing (wanted 1.0)"),
        ({"A.Package": "2.0"}, "a_package is 2.0 (wanted 1.0)"),
        ({"a-package": "1.0+cpu"}, None),
    ],
)
def test_a_missing_or_other_version_is_named(installed, sentence):
    # Catches: names compared as typed (a-package, A.Package), a local version taken as another.
    assert setup_env.find_mismatches(installed, [PACKAGE]) == ([sentence] if sentence else [])


def test_a_complete_environment_is_left_alone_at_once(checkout, monkeypatch):
    # Catches: a stamp that is written but not read, or not tied to the list's hash.
    digest = hashlib.sha256((checkout / "environment.yml").read_bytes()).hexdigest()
    stamp = json.dumps({"environment.yml": digest, "venv": str(checkout / ".venv")})
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "facelib-stamp.json").write_text(stamp)
    monkeypatch.setattr(setup_env, "_make_venv", lambda _: pytest.fail("it installed again"))
    assert setup_env.make_environment() is False
    (checkout / "environment.yml").write_text("  - pip:\n    - a_package==1.1\n")
    with pytest.raises(pytest.fail.Exception):
        setup_env.make_environment()


def test_a_failed_installation_shows_pips_words_and_the_next_command(checkout, monkeypatch, capsys):
    # Catches: a bare exit code, or a stamp on a broken environment.
    monkeypatch.setattr(setup_env, "_make_venv", lambda _: (checkout / ".venv").mkdir())
    monkeypatch.setattr(setup_env, "_venv_python", lambda: str(checkout / "pip_that_fails"))
    fake = checkout / "pip_that_fails"
    fake.write_text("#!/bin/sh\necho 'ERROR: no such version'\nexit 1\n")
    fake.chmod(0o755)
    assert setup_env.main([]) == 2
    error = capsys.readouterr().err
    assert "ERROR: no such version" in error
    assert "make setup" in error
    assert not (checkout / ".venv" / "facelib-stamp.json").exists()


def test_a_half_made_environment_is_made_anew(checkout):
    # Catches: an interrupted `python -m venv` that blocks every later setup.
    (checkout / ".venv" / "bin").mkdir(parents=True)
    assert setup_env._is_usable() is False
    assert not (checkout / ".venv").exists()


def test_without_python_3_11_it_says_what_to_install(checkout, monkeypatch):
    # Catches: a traceback, or a venv of the wrong Python.
    monkeypatch.setattr(setup_env, "_version_of", lambda _: (3, 12))
    with pytest.raises(SetupError, match=r"no Python 3\.11 found.*apt-get install python3\.11"):
        setup_env.find_python()


def test_a_full_disk_is_noticed_before_the_download(checkout, monkeypatch):
    # Catches: pip dying after four gigabytes.
    usage = type("usage", (), {"free": int(2e9)})
    monkeypatch.setattr(setup_env.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(SetupError, match=r"2\.0 GB free .* 8\.0 GB needed"):
        setup_env.make_environment()


def test_the_script_needs_nothing_but_the_standard_library():
    # Catches: an import of facelib or of a package, absent when the environment is made.
    command = [sys.executable, "-I", "-S", str(SCRIPT), "--wrong"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "setup: unknown argument '--wrong': allowed is --here, or none\n"
