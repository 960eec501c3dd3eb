"""The verbs `eval`, `verify` and `compare`."""

import argparse
import sys
from pathlib import Path

from facelib.cli import looks
from facelib.cli.common import add_verb, print_json


def show_evaluation(run: Path | str, as_json: bool, benchmarks: list[str] | None = None,
              force: bool = False) -> None:  # fmt: skip
    from facelib.distributed import launched_ranks
    from facelib.evaluate.embed import evaluate_run
    from facelib.metrics.tables import figures_table, warning_lines

    with launched_ranks():
        report = evaluate_run(run, benchmarks or None, force=force)
    if not report:
        return  # another rank has the figures
    if as_json:
        print_json(report)
    else:
        sys.stdout.write(figures_table(report).to_string() + "\n" + warning_lines(report))


def add_eval(verbs) -> None:
    """The verb `eval`."""

    def run(options: argparse.Namespace) -> None:
        show_evaluation(options.name, options.json, options.benchmarks, options.force)

    verb = add_verb(verbs, "eval", "evaluate a run on its benchmarks, or on others", run,
                 "eval smoke-arcface\neval smoke-arcface --benchmarks lfw.bin agedb_30.bin --json",
                 name=looks.to_evaluate, benchmarks=looks.bins)  # fmt: skip
    verb.add_argument("name", help="run folder, run name, or a unique beginning of it")
    verb.add_argument("--benchmarks", action="extend", nargs="*", metavar="BIN")
    verb.add_argument("--force", action="store_true", help="embed again")
    verb.add_argument("--json", action="store_true")


def add_verify(verbs) -> None:
    """The verb `verify`."""

    def run(options: argparse.Namespace) -> None:
        from facelib.metrics.operating import operating_points
        from facelib.metrics.scores import load_scores
        from facelib.metrics.tables import figures_table, operating_table, warning_lines
        from facelib.metrics.verification import verify_scores

        scores, name = load_scores(options.scores), options.scores.stem
        rates = options.threshold_for_fmr
        points = operating_points(scores, rates) if rates else operating_points(scores)
        found = verify_scores(scores, options.bootstrap).to_dict() | {"operating_points": points}
        if options.json:
            print_json(found)
        else:
            report = {"benchmarks": {name: found}}
            tables = figures_table(report), operating_table({name: points})
            sys.stdout.write("\n\n".join(table.to_string() for table in tables) + "\n")
            sys.stdout.write(warning_lines(report))

    verb = add_verb(verbs, "verify", "all verification figures of a file of scores", run,
                 "verify scores.npz --json\nverify scores.npz --bootstrap 1000\n"
                 "verify scores.npz --threshold-for-fmr 1e-3", scores=looks.scores)  # fmt: skip
    verb.add_argument("scores", type=Path, help="npz: score (P,), same (P,), optional fold (P,)")
    verb.add_argument("--bootstrap", type=int, default=0, metavar="N", help="for intervals")
    verb.add_argument("--threshold-for-fmr", type=float, action="append", metavar="FMR",
                      help="a threshold for use, with the false match rate to expect; default: "
                      "1e-2 to 1e-5")  # fmt: skip
    verb.add_argument("--json", action="store_true")


def add_compare(verbs) -> None:
    """The verb `compare`."""

    def run(options: argparse.Namespace) -> None:
        from facelib.metrics.compare import compare_files

        print_json(compare_files(options.a, options.b))

    verb = add_verb(verbs, "compare", "two files of scores of the same pairs: McNemar, bootstrap",
                 run, "compare runs/A/scores/cfp_fp.npz runs/B/scores/cfp_fp.npz",
                 a=looks.scores, b=looks.scores)  # fmt: skip
    verb.add_argument("a", type=Path)
    verb.add_argument("b", type=Path)
