"""The verb `overlap`: whom of a benchmark does a training set hold?"""

import argparse
import json
import sys
from pathlib import Path

from facelib.cli import looks
from facelib.cli.common import add_settings, add_verb, print_json, settings_of
from facelib.config import make_config
from facelib.errors import UserError


def add_overlap(verbs) -> None:
    """The verb `overlap`."""

    examples = (
        "overlap --train /data/ms1m-arcface --benchmark lfw cfp_fp --run ms1m-arcface\n"
        "overlap --train /data/mine --benchmark cfp_ff.bin --names people.txt --out exclude.txt\n"
        "overlap --train rendered --set data_planted=94 --benchmark lfw --json"
    )
    verb = add_verb(verbs, "overlap", "find a benchmark's people in a training set", _run,
                    examples, run_name=looks.weights_of, benchmark=looks.bins, train=looks.people,
                    names=looks.names, out=looks.written)  # fmt: skip
    verb.add_argument("--train", metavar="FOLDER", help="folder of train.rec or of people, or "
                      "rendered; without it, what --run was trained on")  # fmt: skip
    verb.add_argument("--benchmark", action="extend", nargs="+", required=True, metavar="BIN",
                      help=".bin files, or their names beside train.rec")  # fmt: skip
    verb.add_argument("--names", type=Path, help="lines id<TAB>name of the benchmark's people")
    verb.add_argument("--run", dest="run_name", help="a trained run: its network embeds both")
    verb.add_argument("--out", type=Path, help="write the list that training takes as exclude=")
    add_settings(verb, "rendered faces")
    verb.add_argument("--json", action="store_true")


def _run(options: argparse.Namespace) -> None:
    """Print one table (or JSON), write the exclusion list."""
    if not (options.train or options.run_name):
        raise UserError("overlap: give --train FOLDER, --train rendered, or a --run")
    from facelib.audit import checks
    from facelib.audit.overlap import TrainingSet, audit, summary
    from facelib.data.locate import benchmark_path, train_folder
    from facelib.runs.folder import load_run

    run = load_run(options.run_name) if options.run_name else None
    train = TrainingSet(train_folder(run.config) if not options.train else _folder(options))
    paths = [Path(name) if Path(name).is_file() else benchmark_path(name, train.folder)
             for name in options.benchmark]  # fmt: skip
    found = [audit(train, path, options.names, run) for path in paths]
    labels = sorted({label for one in found for label in one.labels})
    written = checks.write_exclusions(options.out, labels, train.names) if options.out else None
    if options.json:
        report = {"labels": labels, "lines_written": written, "benchmarks": {}}
        for one in found:
            people = one.people[one.people["signals"] > 0].drop(columns="labels").reset_index()
            rows = json.loads(people.to_json(orient="records"))
            report["benchmarks"][one.bench.name] = {**one.facts, "matches": rows}
        print_json(report)
        return
    sys.stdout.write(summary(found).to_string() + "\n")
    if written is not None:
        sys.stdout.write(f"{options.out}: {written} identities; train with exclude={options.out}\n")


def _folder(options: argparse.Namespace) -> Path:
    """The training set's folder: one that is there, or rendered faces with their settings."""
    from facelib.data.locate import train_folder

    if options.train != "rendered":
        return train_folder(make_config(data=str(Path(options.train).absolute())))
    return train_folder(make_config(**settings_of(options)))
