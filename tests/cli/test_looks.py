"""What is cheap and can refuse goes before what is dear: every file of a command, before torch."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from facelib.__main__ import main
from facelib.cli.main import build_parser
from facelib.errors import UserError

# Read without torch at all, or by the verb itself before torch:
LIGHT = {"prepare", "inspect", "train", "follow", "runs", "settings", "sweep", "doctor", "study"}
# Of the other verbs: read beside an argument that is looked at, or no file.
BESIDE = {
    "probe_folder", "distractor_folder", "features", "images", "benchmark", "model",
    "out", "threshold_for_fmr", "as_name", "only", "grid",
}  # fmt: skip
PATHS = ("name", "names", "runs", "run_name", "export", "benchmarks", "weights", "data", "train")


def parsers() -> dict[str, argparse.ArgumentParser]:
    (verbs,) = [a for a in build_parser()._actions if a.dest == "verb"]
    return verbs.choices


def test_every_argument_that_names_a_file_is_looked_at_first():
    # Mutation: a new verb, or a new argument, whose file is read behind the import of torch.
    missing = [
        f"{name} {action.dest}"
        for name, parser in parsers().items()
        if name not in LIGHT
        for action in parser._actions
        if (action.type is Path or (action.dest in PATHS and not action.choices))
        and action.dest not in {*BESIDE, *parser.get_default("looks")}
        and action.metavar != "NAME"
    ]
    assert missing == []


def test_each_look_refuses_a_file_that_is_not_there_and_imports_no_torch(tmp_path):
    # Mutation: a look that looks at nothing, or a module on its way that imports torch.
    code = """import argparse, inspect, json, sys
from pathlib import Path
from facelib.cli import looks
from facelib.errors import UserError
gone, refused = Path(sys.argv[1]), []
options = argparse.Namespace(
    benchmark=None, skip_bad=False, benchmarks=None, distractor_folder=None, export=None,
    features=None, images=None, model="generic-vit", name=None, probe_folder=None, suffix=".bin")
values = {"bins": [gone], "explored": [gone], "landmarks": f"{gone}.csv"}
for name, look in inspect.getmembers(looks, inspect.isfunction):
    if look.__module__ != looks.__name__ or name.startswith("_") or name in ("look_first", "site"):
        continue
    try:
        look(values.get(name, gone), options)
    except UserError:
        refused.append(name)
print(json.dumps([refused, "torch" in sys.modules]))"""
    gone = tmp_path / "file" / "gone"
    (tmp_path / "file").touch()
    done = subprocess.run([sys.executable, "-c", code, gone], capture_output=True, text=True)
    refused, torch = json.loads(done.stdout or f'["{done.stderr[-300:]}", 1]')
    # Names of `.bin` files may lie beside train.rec, weights may be in the hub's cache.
    assert len(refused) >= 12 and not set(refused) & {"bins", "foundation"} and not torch, refused


def test_a_file_that_cannot_be_written_is_said_before_the_work(tmp_path, capsys, monkeypatch):
    # Mutation: embeddings of an hour, and then no place for them.
    monkeypatch.setenv("FACELIB_RUNS", str(tmp_path))
    from facelib.cli import looks

    for bad in (tmp_path, Path(__file__) / "x.npz"):
        with pytest.raises(UserError, match="give another name"):
            looks.written(bad)
    assert main(["export", "nobody", "--onnx", str(tmp_path)]) == 2
    assert "nobody" in capsys.readouterr().err
