"""The doctor names each problem with the command that solves it."""

import json
import socket

import psutil
import pytest

from facelib import doctor
from facelib.config import make_config
from facelib.locks import bf16_units
from facelib.runs.folder import create_run, write_json


@pytest.fixture
def empty_place(tmp_path, monkeypatch):
    monkeypatch.setenv("FACELIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path / "data"))
    return tmp_path


def test_this_machine_passes_and_the_report_is_json(empty_place):
    # Catches: a Path or a version object in the report, a folder made by looking at it.
    report = doctor.check()
    assert json.loads(json.dumps(report)) == report
    assert report["packages"]["mismatches"] == []
    assert "make study" in doctor.render(report) or report["problems"]
    assert list(empty_place.iterdir()) == []


def test_a_wrong_version_is_a_problem_with_a_command(empty_place, monkeypatch):
    # Catches: a mismatch that is counted but not told.
    real = doctor.metadata.version
    monkeypatch.setattr(doctor.metadata, "version", lambda n: "2.0" if n == "numpy" else real(n))
    sentence = "numpy is 2.0 (wanted ==1.26.4)"
    report = doctor.check()
    assert report["packages"]["mismatches"] == [sentence]
    assert report["problems"][0]["problem"] == sentence
    assert f"problem   {sentence}\n          next: make setup" in doctor.render(report)


def test_a_package_that_is_missing_and_a_local_version_are_told_apart(monkeypatch):
    # Catches: a traceback where a package is missing; torch 2.14.1+cpu taken for another version.
    real = doctor.metadata.version

    def version(name):
        if name == "numpy":
            raise doctor.metadata.PackageNotFoundError(name)
        return real(name).partition("+")[0] + "+cpu" if name == "torch" else real(name)

    monkeypatch.setattr(doctor.metadata, "version", version)
    assert doctor.check_packages()["mismatches"] == ["numpy is missing (wanted ==1.26.4)"]


def test_another_python_is_a_problem(monkeypatch):
    # Catches: an environment of Python 3.12 whose packages are right.
    monkeypatch.setattr(doctor.sys, "version_info", (3, 12, 1))
    assert "(wanted 3.11)" in doctor.check_packages()["mismatches"][0]


def test_a_live_run_is_shown_with_its_step(empty_place):
    # Catches: only counts of runs; a live run listed as a problem.
    run = create_run(make_config())
    me = psutil.Process()
    run.set_status(state="running", step=5, steps=9, pid=me.pid, pid_started=me.create_time(),
                   host=socket.gethostname())  # fmt: skip
    report = doctor.check()
    assert f"running   {run.name}, step 5 of 9" in doctor.render(report)
    assert not any(run.name in problem["problem"] for problem in report["problems"])


def test_a_killed_run_is_found_with_its_resume_command(empty_place):
    # Catches: believing status.json of a process that is dead.
    run = create_run(make_config())
    write_json(run.path / "status.json", {"state": "running", "step": 5, "steps": 9, "pid": -1})
    report = doctor.check()
    assert report["runs"][0]["state"] == "died"
    assert any(f"train --run {run.name}" in p["next"] for p in report["problems"])


def test_data_sets_are_listed_and_a_missing_index_is_a_problem(empty_place):
    # Catches: a half-copied data set that looks complete.
    folder = empty_place / "data" / "mine"
    folder.mkdir(parents=True)
    (folder / "train.rec").write_bytes(b"x" * 1000)
    (folder / "lfw.bin").write_bytes(b"x")
    report = doctor.check()
    assert report["data"][0]["holds"] == "lfw.bin, train.rec"
    assert "no train.idx" in report["problems"][0]["problem"]


def test_little_disk_is_a_problem_for_data_and_runs(empty_place, monkeypatch):
    # Catches: looking only at the disk of the checkout.
    usage = type("usage", (), {"free": int(1e9)})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage)
    told = [
        p["next"].split("=")[0] for p in doctor.check()["problems"] if "GB free" in p["problem"]
    ]
    assert told[:2] == ["export FACELIB_DATA", "export FACELIB_RUNS"]


@pytest.mark.parametrize(("flags", "units"), [("avx512f amx_bf16 avx512_bf16", 2), ("avx2", 0)])
def test_bf16_units_are_read_from_the_processor_s_flags(flags, units, tmp_path):
    # Catches: a flag found inside another name, a file that is not there.
    path = tmp_path / "cpuinfo"
    assert bf16_units(path) == []
    path.write_text(f"model name\t: x\nflags\t\t: fpu {flags} sse\nbugs\t\t: avx512_bf16\n")
    assert len(bf16_units(path)) == units
