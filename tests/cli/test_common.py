"""The command line as a person meets it: help, one clear error, exit codes, JSON."""

import importlib
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from facelib.__main__ import main
from facelib.cli.main import build_parser
from facelib.config import make_config, parse_settings
from facelib.formats.decode import encode_jpeg
from facelib.formats.recordio import Header, RecordWriter, pack, write_face_records
from facelib.paths import REPO

VERBS = next(a.choices for a in build_parser()._actions if a.dest == "verb")


def test_the_help_lists_every_verb_in_its_group_and_comes_at_once():
    # Catches: help that imports torch; a verb without a line; lines that a terminal breaks.
    code = (
        "import sys; from facelib.cli.main import build_parser as build;"
        "text = build().format_help();"
        "assert not {'torch', 'pandas', 'matplotlib'} & set(sys.modules); print(text)"
    )
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    for group in ("start", "data", "train", "evaluate", "study"):
        listed = text.split(f"\n{group}:\n")[1].split("\n\n")[0].splitlines()
        assert len(listed) > 1 and all(len(line) <= 80 for line in listed)
    for verb in VERBS:
        assert len(re.findall(rf"^  {verb} +[A-Z].*\.$", text, re.M)) == 1


@pytest.mark.parametrize("verb", VERBS)
def test_the_examples_of_a_verb_are_commands_that_it_takes(verb):
    # Catches: a verb without example, or one with an option or setting that was renamed.
    lines = [s for s in VERBS[verb].epilog.splitlines() if s.startswith("  python -m facelib ")]
    assert any(f"facelib {verb}" in line for line in lines)
    for line in lines:
        options = build_parser().parse_args(shlex.split(line, comments=True)[3:])
        settings = parse_settings(getattr(options, "set", []))
        make_config(getattr(options, "preset", None) or "smoke", **settings)


def test_facelib_is_an_installed_command():
    # Catches: an entry point that is gone or leads elsewhere.
    scripts = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["scripts"]
    name, _, function = scripts["facelib"].partition(":")
    assert getattr(importlib.import_module(name), function)(["verify", "/nowhere.npz"]) == 2


def test_a_missing_package_is_one_line_with_the_command_that_installs_it():
    # Catches: a traceback in an environment that is not ours (python -S sees no packages).
    code = "import sys; from facelib.cli.main import main; sys.exit(main(['doctor', '--packages']))"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=REPO, capture_output=True,
                          text=True)  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "has no package 'psutil': make setup" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--preset", "smok"], "preset 'smok': allowed are smoke"),
        (["train", "--set", "los=arcface"], "unknown setting 'los' (did you mean 'loss'?)"),
        (["train", "--set", "data=/nowhere", "benchmarks="], "no train.rec in /nowhere"),
        (["train", "--run", "nothing"], "run 'nothing': matching runs: none"),
        (["eval", "nothing"], "run 'nothing': matching runs: none"),
        (["verify", "/nowhere.npz"], "/nowhere.npz"),
        (["inspect", "/nowhere"], "/nowhere: no such file"),
        (["prepare", "folder", "/nowhere", "--out", "/tmp/x"], "/nowhere"),
        (["prepare", "cfp", "/nowhere", "--protocol", "FF", "--out", "/tmp/x.bin"], "/nowhere"),
    ],
)
def test_wrong_input_is_one_clear_line_and_exit_code_2(arguments, message, runs_folder, capsys):
    # Catches: a traceback, exit code 1, or a message without the bad value.
    assert main(arguments) == 2
    error = capsys.readouterr().err
    last = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(last) == 1
    assert message in last[0]
    assert "Traceback" not in error


def test_verify_prints_the_figures_of_a_file_as_json(tmp_path, capsys):
    # Catches: a table where JSON was asked for; missing keys.
    rng = np.random.default_rng(0)
    same = np.tile(np.repeat([True, False], 30), 10)
    np.savez(tmp_path / "s.npz", score=np.tanh(rng.normal(same * 2.0, 0.7)), same=same)
    assert main(["verify", str(tmp_path / "s.npz"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pairs"] == 600
    assert found["folds"] == 10
    assert {"accuracy", "std", "threshold", "threshold_std", "tar", "far"} <= set(found["strict"])
    assert {"accuracy", "std", "threshold"} <= set(found["best"])
    assert main(["verify", str(tmp_path / "s.npz")]) == 0
    assert "best-threshold acc." in capsys.readouterr().out


@pytest.mark.slow
def test_a_training_by_command_line_ends_with_its_figures(tiny_records, runs_folder, capsys):
    # Catches: --set not reaching the run; a second call that trains again; runs that do not list.
    tiny = [
        "width=4",
        "image_size=16",
        "dim=8",
        "global_batch=16",
        "images_seen=64",
        "val_fraction=0.25",
    ]
    line = ["train", "--no-eval", "--set", f"data={tiny_records}", "loss=infonce", *tiny]
    assert main(line) == 0
    assert main(line) == 0
    folders = list(runs_folder.glob("smoke-infonce-*"))
    assert len(folders) == 1
    capsys.readouterr()
    assert main(["runs"]) == 0
    listed = capsys.readouterr().out
    assert folders[0].name in listed
    assert "done" in listed
    assert main([*line, "chunk=4", "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["steps"], plan["chunk"]) == (4, 4)
    assert plan["negatives_per_anchor"] == 14  # of the batch, not of a chunk


@pytest.mark.slow
def test_labels_with_gaps_stop_a_training_and_the_named_setting_mends_it(
    tmp_path, runs_folder, capsys
):
    # Catches: a message that names a setting which no command line has.
    picture = encode_jpeg(np.full((32, 32, 3), 120, np.uint8))
    (tmp_path / "gaps").mkdir()
    with RecordWriter(tmp_path / "gaps") as writer:
        for key, label in enumerate((0, 0, 2, 2)):
            writer.write(key, pack(Header(0, float(label), key, 0), picture))
    sizes = ("width=4", "image_size=16", "dim=8", "global_batch=4", "images_seen=8")
    line = ["train", "--no-eval", "--set", f"data={tmp_path / 'gaps'}", "benchmarks="]
    line += ["val_fraction=0", *sizes]
    assert main(line) == 2
    assert "missing is 1" in capsys.readouterr().err
    assert main([*line, "relabel=true"]) == 0


def test_damaged_records_stop_a_training_with_the_place(tmp_path, runs_folder, capsys):
    # Catches: training on garbage; a message that does not say which record.
    images = [(label, b"no jpeg at all" * 3) for label in range(4) for _ in range(4)]
    write_face_records(tmp_path / "bad", images, size=(32, 32))
    sizes = [
        "width=4",
        "image_size=16",
        "dim=8",
        "global_batch=4",
        "images_seen=16",
        "val_fraction=0",
    ]
    line = ["train", "--no-eval", "--set", f"data={tmp_path / 'bad'}", "benchmarks=", *sizes]
    assert main(line) == 2
    assert "record 1" in capsys.readouterr().err


def test_set_may_be_given_twice_but_a_setting_only_once(tmp_path, runs_folder, capsys):
    # Catches: the last --set replaces the others; a value that another one overrides silently.
    line = ["train", "--create", "--set", "loss=infonce", "--set", "tau=0.2", "seed=3"]
    assert main(line) == 0
    made = Path(capsys.readouterr().out.strip())
    config = json.loads((made / "config.json").read_text())
    assert (config["loss"], config["tau"], config["seed"]) == ("infonce", 0.2, 3)
    assert main([*line, "--set", "tau=0.3"]) == 2
    assert "tau is given twice: tau=0.2 and tau=0.3" in capsys.readouterr().err


def test_a_bad_benchmark_is_refused_before_a_training_starts(tmp_path, runs_folder, capsys):
    # Catches: a training of hours whose figures cannot be made.
    (tmp_path / "bad.bin").write_bytes(b"\x80\x03.")
    for name, words in ((tmp_path / "bad.bin", "not a readable pickle"), ("none", "not at")):
        assert main(["train", "--set", "data=shapes", f"benchmarks={name}"]) == 2
        assert words in capsys.readouterr().err
    assert not list(runs_folder.glob("smoke-*"))
