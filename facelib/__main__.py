"""Command line: `python -m facelib --help`. Each verb has `--help` with examples."""

import argparse
import logging
import sys
from pathlib import Path

from facelib.cli.cluster import add_cluster
from facelib.cli.common import add_verb, print_json, settings_of
from facelib.cli.frozen import add_frozen
from facelib.cli.prepare import add_prepare
from facelib.cli.protocols import add_ijb, add_megaface
from facelib.config import Config, make_config
from facelib.guard import guarded
from facelib.presets import PRESETS

EXAMPLES = """examples:
  python -m facelib doctor                          is everything here?
  python -m facelib train --set loss=infonce        train on rendered faces (a minute), evaluate
  python -m facelib train --preset ms1m-arcface --set data=/data/ms1m-arcface --dry-run
  python -m facelib verify runs/RUN/scores/cfp_fp.npz --json
  python -m facelib runs                            all runs and their figures
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one verb. Returns 0, 2 (wrong input, one clear line) or 130 (interrupted)."""
    options = build_parser().parse_args(arguments)
    level = logging.DEBUG if options.verbose else logging.INFO
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    return guarded(lambda: options.run(options))


def build_parser() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    parser = argparse.ArgumentParser(
        prog="python -m facelib",
        description="Face verification by contrastive learning: ArcFace against InfoNCE.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="debug messages")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for add in (_study, _doctor, add_prepare, _inspect, _train, _eval, add_frozen, _verify,
                _compare, add_ijb, add_megaface, add_cluster, _overlap, _sweep, _follow, _runs,
                _report):  # fmt: skip
        add(verbs)
    return parser


def _study(verbs) -> None:
    def run(options: argparse.Namespace) -> None:
        from facelib.runner.study import run_study

        index = run_study(only=options.only, force=options.force, further=options.all)
        sys.stdout.write(f"{index.as_uri()}\n")

    verb = add_verb(verbs, "study", "run the notebooks in order and build the site", run,
                 "study\nstudy --all\nstudy --only 02 03")  # fmt: skip
    verb.add_argument("--only", nargs="*", metavar="NN", help="these notebooks only")
    verb.add_argument("--all", action="store_true", help="the further chapters (09 to 11) too")
    verb.add_argument("--force", action="store_true", help="run again what is up to date")


def _doctor(verbs) -> None:
    def run(options: argparse.Namespace) -> int:
        from facelib.doctor import check, render

        found = check()
        print_json(found) if options.json else sys.stdout.write(render(found) + "\n")
        return 2 if found["problems"] else 0

    verb = add_verb(verbs, "doctor", "check versions, devices, disk, data and live runs", run,
                 "doctor\ndoctor --json")  # fmt: skip
    verb.add_argument("--json", action="store_true")


def _inspect(verbs) -> None:
    def run(options: argparse.Namespace) -> int:
        from facelib.prepare.inspection import inspect

        if options.rebuild_idx:
            from facelib.formats.recordio import rebuild_index

            count = rebuild_index(options.path)
            sys.stderr.write(f"train.idx written anew: {count} records\n")
        found = inspect(options.path, deep=options.deep)
        if options.json:
            print_json(found)
        else:
            lines = (f"{key:>24}: {value}" for key, value in found.items())
            sys.stdout.write("\n".join(lines) + "\n")
        return 2 if found["problems"] else 0

    verb = add_verb(verbs, "inspect", "report on a data file or folder of any known format", run,
                 "inspect .data/ms1m-arcface --json\ninspect lfw.bin --deep")  # fmt: skip
    verb.add_argument("path", type=Path)
    verb.add_argument("--deep", action="store_true", help="decode every image")
    verb.add_argument("--rebuild-idx", action="store_true", help="scan the .rec, write its .idx")
    verb.add_argument("--json", action="store_true")


def _train(verbs) -> None:
    def run(options: argparse.Namespace) -> None:
        from facelib.runs.folder import create_run, load_run
        from facelib.runs.launch import launch

        given = load_run(options.run_name).config if options.run_name else None
        cfg = given or make_config(options.preset, **settings_of(options))
        if options.dry_run:
            from facelib.training.plan import describe_plan, plan

            found = plan(cfg)
            print_json(found) if options.json else sys.stdout.write(describe_plan(found) + "\n")
            return
        if options.create:
            sys.stdout.write(f"{create_run(cfg).path}\n")
            return
        trained = launch(cfg, processes=options.processes)
        if not options.no_eval and cfg.benchmarks:
            _evaluate(trained.path, options.json)
        else:
            sys.stdout.write(f"{trained.path}\n")

    fields = ", ".join(Config.__dataclass_fields__)
    examples = (
        "train --set loss=infonce tau=0.1\n"
        "train --preset ms1m-arcface --set data=/data/ms1m-arcface processes=8 --dry-run\n"
        "train --run smoke-infonce          (resume by name)\n"
        f"settings: {fields}"
    )
    verb = add_verb(verbs, "train", "train a run (or resume it) and evaluate it", run, examples)
    verb.add_argument("--preset", default="smoke", help=", ".join(PRESETS))
    verb.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="other settings")
    verb.add_argument("--run", dest="run_name", help="an existing run, instead of preset and --set")
    verb.add_argument("--dry-run", action="store_true", help="estimate time, memory, disk; stop")
    verb.add_argument("--create", action="store_true",
                      help="make the run folder, print it, stop (accelerate, SLURM)")  # fmt: skip
    verb.add_argument("--processes", type=int, metavar="N",
                      help="go on with an elastic run on N processes")  # fmt: skip
    verb.add_argument("--no-eval", action="store_true")
    verb.add_argument("--json", action="store_true")


def _evaluate(run: Path | str, as_json: bool, benchmarks: list[str] | None = None,
              force: bool = False) -> None:  # fmt: skip
    from facelib.distributed import launched_ranks
    from facelib.evaluate.embed import evaluate_run
    from facelib.metrics.tables import figures_table

    with launched_ranks():
        report = evaluate_run(run, benchmarks or None, force=force)
    if not report:
        return  # another rank has the figures
    if as_json:
        print_json(report)
    else:
        sys.stdout.write(figures_table(report).to_string() + "\n")


def _eval(verbs) -> None:
    def run(options: argparse.Namespace) -> None:
        _evaluate(options.name, options.json, options.benchmarks, options.force)

    verb = add_verb(verbs, "eval", "evaluate a run on its benchmarks, or on others", run,
                 "eval smoke-arcface\neval smoke-arcface --benchmarks lfw.bin agedb_30.bin --json",
                 )  # fmt: skip
    verb.add_argument("name", help="run folder, run name, or a unique beginning of it")
    verb.add_argument("--benchmarks", nargs="*", metavar="BIN")
    verb.add_argument("--force", action="store_true", help="embed again")
    verb.add_argument("--json", action="store_true")


def _verify(verbs) -> None:
    def run(options: argparse.Namespace) -> None:
        from facelib.metrics.tables import figures_table
        from facelib.metrics.verification import verify_file

        found = verify_file(options.scores, bootstrap=options.bootstrap)
        if options.json:
            print_json(found)
        else:
            table = figures_table({"benchmarks": {options.scores.stem: found}})
            sys.stdout.write(table.to_string() + "\n")

    verb = add_verb(verbs, "verify", "all verification figures of a file of scores", run,
                 "verify scores.npz --json\nverify scores.npz --bootstrap 1000")  # fmt: skip
    verb.add_argument("scores", type=Path, help="npz: score (P,), same (P,), optional fold (P,)")
    verb.add_argument("--bootstrap", type=int, default=0, metavar="N", help="for intervals")
    verb.add_argument("--json", action="store_true")


def _compare(verbs) -> None:
    def run(options: argparse.Namespace) -> None:
        from facelib.metrics.compare import compare_files

        print_json(compare_files(options.a, options.b))

    verb = add_verb(verbs, "compare", "two files of scores of the same pairs: McNemar, bootstrap",
                 run, "compare runs/A/scores/cfp_fp.npz runs/B/scores/cfp_fp.npz")  # fmt: skip
    verb.add_argument("a", type=Path)
    verb.add_argument("b", type=Path)


def _overlap(verbs) -> None:
    def run(options: argparse.Namespace) -> None:
        from facelib.audit.overlap import run_overlap

        run_overlap(options)

    examples = (
        "overlap --train /data/ms1m-arcface --benchmark lfw cfp_fp --run ms1m-arcface\n"
        "overlap --train /data/mine --benchmark cfp_ff.bin --names people.txt --out exclude.txt\n"
        "overlap --train rendered --set data_planted=94 --benchmark lfw --json"
    )
    verb = add_verb(verbs, "overlap", "search a benchmark's people in a training set: names, "
                    "image hashes, embeddings", run, examples)  # fmt: skip
    verb.add_argument("--train", metavar="FOLDER", help="train.rec's folder, or rendered; without "
                      "it, what --run was trained on")  # fmt: skip
    verb.add_argument("--benchmark", nargs="+", required=True, metavar="BIN",
                      help=".bin files, or their names beside train.rec")  # fmt: skip
    verb.add_argument("--names", type=Path, help="lines id<TAB>name of the benchmark's people")
    verb.add_argument("--run", dest="run_name", help="a trained run: its network embeds both")
    verb.add_argument("--out", type=Path, help="write the list that training takes as exclude=")
    verb.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="rendered faces")
    verb.add_argument("--json", action="store_true")


def _sweep(verbs) -> None:
    def run(options: argparse.Namespace) -> None:
        from facelib.runner.sweep import run_sweep_command

        run_sweep_command(options)

    verb = add_verb(verbs, "sweep", "run a notebook over a grid of its parameters, resumable", run,
                 "sweep 03_infonce --grid global_batch=64,128 seed=0,1 --jobs 2")  # fmt: skip
    verb.add_argument("notebook", help="name or path of a notebook")
    verb.add_argument("--grid", nargs="+", required=True, metavar="KEY=V1,V2")
    verb.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    verb.add_argument("--jobs", type=int, default=1, help="cells of the grid side by side")
    verb.add_argument("--out", type=Path)


def _follow(verbs) -> None:
    def run(options: argparse.Namespace) -> None:
        from facelib.runs.folder import load_run
        from facelib.runs.launch import stop, wait_and_follow

        if options.stop:
            stop(load_run(options.name))
        sys.stdout.write(f"{wait_and_follow(options.name).state}\n")

    verb = add_verb(verbs, "follow", "watch a running training, or stop it", run,
                 "follow smoke-arcface\nfollow smoke-arcface --stop")  # fmt: skip
    verb.add_argument("name")
    verb.add_argument("--stop", action="store_true", help="save its checkpoint and stop it")


def _runs(verbs) -> None:
    def run(options: argparse.Namespace) -> None:
        from facelib.runs.folder import compare_configs, load_run, tabulate

        chosen = [load_run(name) for name in options.names] or None
        frame = compare_configs(chosen) if options.diff and chosen else tabulate(chosen)
        sys.stdout.write((frame.to_string() if len(frame) else "no runs yet") + "\n")

    verb = add_verb(verbs, "runs", "list runs and figures, or what changed between them", run,
                 "runs\nruns smoke-arcface smoke-infonce --diff")  # fmt: skip
    verb.add_argument("names", nargs="*")
    verb.add_argument("--diff", action="store_true", help="settings in which the runs differ")


def _report(verbs) -> None:
    def run(options: argparse.Namespace) -> None:
        from facelib.runner.report import build_site

        if options.publish:
            from facelib.studies.records import publish_sweep

            results, name, *command = options.publish
            found = publish_sweep(Path(results), name, " ".join(command), options.note)
            sys.stdout.write(f"{found}\n")
            return
        if options.readme:
            from facelib.paths import REPO
            from facelib.studies.records import refresh_readme

            refresh_readme(REPO / "README.md", options.readme)
            return
        sys.stdout.write(f"{build_site(out=options.out).as_uri()}\n")

    verb = add_verb(verbs, "report", "one HTML site of the executed notebooks", run,
                 "report\nreport --out /tmp/site")  # fmt: skip
    verb.add_argument("--out", type=Path)
    verb.add_argument("--publish", nargs="+", metavar=("RESULTS.jsonl", "NAME COMMAND"),
                      help="a sweep's rows as a committed record")  # fmt: skip
    verb.add_argument("--note", default="", help="what its readers must know beside the figures")
    verb.add_argument("--readme", metavar="NAME", help="write a record into the README's results")


if __name__ == "__main__":
    sys.exit(main())
