"""The commands that messages of the package advise are parsed here, and run in test_advised.py."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from facelib.cli.main import build_parser
from facelib.paths import REPO
from tests.cli.test_advised import CASES

SAYS = "python -m facelib "
# What a message fills in, or leaves to the reader.
PLACES = {"RUN_DIR": "runs/run", "...": "", "TRAIN.npz": "train.npz"}
END = re.compile(r"[;,)`(<\n]|\.$|\. |  | and | writes | makes |: |'$")


def texts(path: Path):
    """The string constants of a file, with `{...}` of f-strings as the word VALUE."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):  # docstrings advise nobody
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = ""
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)
              for part in ast.walk(node) if part is not node}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(p.value) if isinstance(p, ast.Constant) else "VALUE"
                          for p in node.values)  # fmt: skip
        elif isinstance(getattr(node, "value", None), str) and id(node) not in inside:
            yield node.value


def advised():
    for path in sorted((REPO / "facelib").rglob("*.py")):
        for text in texts(path):
            for part in text.split(SAYS)[1:]:
                command = END.split(part)[0].strip()
                if command and not command.startswith("VALUE"):
                    yield f"{path.relative_to(REPO)}: {command}"


@pytest.mark.parametrize("where", sorted(set(advised())))
def test_every_advised_command_is_one_that_the_command_line_takes(where, capsys):
    # Catches: `--skip-bad` of a verb that has none; a verb that was renamed.
    words = shlex.split(where.partition(": ")[2])
    words = [PLACES.get(word, word) for word in words if PLACES.get(word, word)]
    try:
        options = build_parser().parse_args(words)
    except SystemExit as stop:
        complaint = capsys.readouterr().err
        named = len(words) == 1 and "the following arguments are required" in complaint
        assert stop.code == 0 or named, complaint  # a docstring may name a verb alone
        return
    assert callable(options.run)


def test_every_command_that_a_message_advises_is_run_by_a_test():
    # Catches: new advice that nobody has tried. Examples of the help are parsed only.
    found = {line.removeprefix("facelib/") for line in advised()}
    help_only = {f"cli/main.py: {words}" for words in (
        "doctor", "runs", "train --help", "train --set loss=infonce",
        "train --preset ms1m-arcface --set data=/data/ms1m-arcface --dry-run",
        "verify runs/RUN/scores/cfp_fp.npz --json")} | {"cli/train.py: settings NAME"}  # fmt: skip
    help_only |= {"runner/sources.py: study --only VALUE"}  # of a chapter: the gate
    assert found - help_only == set(CASES)


def test_the_advice_of_the_package_was_found():
    # Catches: a pattern that matches nothing, so that the test above has no case.
    found = " ".join(advised())
    assert len(set(advised())) > 25
    assert all(verb in found for verb in ("--skip-bad", "--rebuild-idx", "eval VALUE", "runs"))
