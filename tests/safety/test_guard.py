"""How a command ends: one line and 2 for what a person can mend, and no traceback."""

import json
import os
import subprocess
import sys

import pytest

from facelib.__main__ import main
from facelib.config import make_config
from facelib.errors import BadData, UserError
from facelib.runs.folder import create_run, write_json
from facelib.safety import guard


def shell(line: str, **variables: str) -> tuple[int, str]:
    """Exit code and standard error of a shell line in which `$F` is the command."""
    found = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True,
        env=os.environ | {"F": f"{sys.executable} -m facelib"} | variables,
    )  # fmt: skip
    return found.returncode, found.stderr


@pytest.mark.parametrize("name", ["/no/such", "a**", "[", "../x", "x" * 300, "no-such"])
@pytest.mark.parametrize("verb", [["eval"], ["runs"], ["follow"], ["train", "--run"]])
def test_a_run_that_is_not_there_is_one_line(runs_folder, capsys, verb, name):
    # Mutation: `runs_root().glob(f"{name}*")`: NotImplementedError, "Invalid pattern".
    assert main([*verb, name]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("error: ")


def test_one_damaged_run_is_marked_and_all_others_are_listed(runs_folder, capsys):
    # Mutation: a list of all runs that is a traceback because of one file.
    good = create_run(make_config(seed=1))
    good.set_status(state="done", step=3, steps=3)
    write_json(
        good.path / "eval.json",
        {"benchmarks": {"lfw": {"best": {"accuracy": 0.5}, "strict": {"accuracy": 0.5}}}},
    )
    contents = [b"{}", b"[]", b"3", b"[" * 100_000, b"\xff\xfe",
                b'{"state": "running", "pid": "x"}',
                b'{"benchmarks": 3}', b'{"step": "a", "loss": null}\n{}\n']  # fmt: skip
    files = ("config.json", "status.json", "metrics.jsonl", "eval.json")
    for i, content in enumerate(contents):
        for j, file in enumerate(files):
            run = create_run(make_config(seed=100 + 10 * i + j))
            (run.path / file).write_bytes(content)
    assert main(["runs"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 2 + len(contents) * len(files)
    assert sum("damaged" in row for row in rows) >= 28
    assert any(good.name in row and "done" in row and "50.0" in row for row in rows)


def test_output_that_nobody_takes_is_one_line_or_silent(runs_folder):
    # Mutation: "Exception ignored in ... BrokenPipeError", AttributeError of None.
    for line in ("$F runs >&-", "$F runs > /dev/full"):
        code, error = shell(line)
        assert code == 2 and error.count("\n") == 1 and error.startswith("error: "), error
    code, error = shell("set -o pipefail; $F runs | (exec <&-; sleep 1)")
    assert "Traceback" not in error and "Exception ignored" not in error


def test_a_folder_that_no_variable_can_mean_is_one_line():
    # Mutation: RuntimeError: Could not determine home directory.
    code, error = shell("$F runs", FACELIB_RUNS="~nosuchuser/runs")
    assert code == 2 and error.startswith("error: FACELIB_RUNS='~nosuchuser/runs'")
    assert error.count("\n") == 1


@pytest.mark.parametrize("kind", [UserError, BadData])
def test_an_error_is_one_line_whatever_signs_a_name_has(kind):
    # Mutation: a name that breaks the line, or that a terminal takes as a command.
    assert str(kind("a\n\u2028\x1b[2J é")) == r"a\n\u2028\x1b[2J é"
    assert str(UserError("a", "b\nc\x07")) == "a\nb\nc\\x07"


def test_what_lacks_is_said_by_its_name():
    # Mutation: "free space" where memory lacks; a bug shown as a person's mistake.
    assert "memory" in guard.explain(MemoryError())
    assert "memory" in guard.explain(OSError(12, "Cannot allocate memory"))
    assert "memory" in guard.explain(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    assert (
        guard.explain(OSError(28, "No space left"), "x")
        == "x: No space left; free space, run again"
    )
    assert guard.explain(UserError("so")) == "so"
    assert guard.explain(KeyError("bug")) is None and guard.explain(RuntimeError("bug")) is None


def test_ctrl_c_while_importing_is_no_traceback(capsys):
    # Mutation: imports outside of the guard.
    def interrupted() -> int:
        raise KeyboardInterrupt

    assert guard.guarded(interrupted) == 130
    assert capsys.readouterr().err == "interrupted; the same command continues\n"
    light = (
        "import sys, facelib.__main__; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", light], capture_output=True, text=True)
    assert json.loads(found.stdout) == []
