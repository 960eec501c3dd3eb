"""The verbs `train`, `follow` and `runs`."""

import argparse
import sys

from facelib.cli import looks
from facelib.cli.common import add_settings, add_verb, print_json, settings_of
from facelib.cli.evaluate import show_evaluation
from facelib.cli.settings import settings_table
from facelib.config import EMBEDDED, Config, make_config
from facelib.errors import UserError, printable
from facelib.presets import PRESETS
from facelib.runs.folder import Run


def add_train(verbs) -> None:
    """The verb `train`."""

    def run(options: argparse.Namespace) -> None:
        from facelib.runs.folder import create_run, load_run
        from facelib.runs.launch import launch
        from facelib.runs.origin import check_name

        given = load_run(options.run_name) if options.run_name else None
        root = given and given.path.parent
        if given:
            if fresh := _of_new_runs(options):
                raise UserError(
                    f"{fresh} with --run: that run keeps its settings; without --run they make"
                    " another run"
                )
            check_name(given)
        cfg = given.config if given else _new_config(options)
        if options.images_seen:
            if not given:
                raise UserError("--images-seen wants --run NAME; a new run: --set images_seen=N")
            from facelib.training.continued import longer

            cfg, given = longer(given, options.images_seen, options.skip_bad), None
        if options.create:
            sys.stdout.write(f"{create_run(cfg, root).path}\n")
            return
        _check_inputs(cfg, given, options)
        if options.dry_run:
            from facelib.training.plan import describe_plan, plan

            found = plan(cfg)
            print_json(found) if options.json else sys.stdout.write(describe_plan(found) + "\n")
            return
        if given and options.skip_bad:
            given.set_status(skip_bad=True)
        if cfg.data in EMBEDDED:
            from facelib.data.locate import train_folder

            train_folder(cfg)  # drawn here, where its progress is seen
        trained = launch(cfg, processes=options.processes, root=root)
        if cfg.benchmarks and not options.no_eval:
            show_evaluation(trained.path, options.json)
        else:
            sys.stdout.write(f"{trained.path}\n")

    examples = (
        "train --set loss=infonce tau=0.1\n"
        "train --preset ms1m-arcface --set processes=8 global_batch=2704 --dry-run\n"
        "train --run smoke-infonce          # resume by name\n"
        "train --run smoke-infonce --images-seen 80_000   # longer, from where it ended"
    )
    verb = add_verb(verbs, "train", "train a run (or resume it) and evaluate it", run, examples)
    head = "settings for --set (more on one: python -m facelib settings NAME):"
    verb.epilog += f"\n\n{head}\n{settings_table()}"
    verb.add_argument("--preset", help=f"{', '.join(PRESETS)} (default: smoke)")
    add_settings(verb, "other settings")
    verb.add_argument("--run", dest="run_name", help="an existing run, instead of preset and --set")
    verb.add_argument("--dry-run", action="store_true", help="estimate time, memory, disk; stop")
    verb.add_argument("--create", action="store_true",
                      help="make the run folder, print it, stop (accelerate, SLURM)")  # fmt: skip
    verb.add_argument("--processes", type=int, metavar="N",
                      help="go on with an elastic run on N processes")  # fmt: skip
    verb.add_argument("--images-seen", type=int, metavar="N",
                      help="with --run: a new run, from a finished one on to N images")  # fmt: skip
    verb.add_argument("--skip-bad", action="store_true",
                      help="skip and count records that are no image")  # fmt: skip
    verb.add_argument("--allow-empty", action="store_true",
                      help="take an exclude list that matches nobody")  # fmt: skip
    verb.add_argument("--no-eval", action="store_true")
    verb.add_argument("--json", action="store_true")


def _new_config(options: argparse.Namespace) -> Config:
    """The configuration that preset and settings describe."""
    flags = {"skip_bad": options.skip_bad, "exclude_nobody": options.allow_empty}
    given = {name: True for name, value in flags.items() if value}
    return make_config(options.preset or "smoke", **settings_of(options), **given)


def _of_new_runs(options: argparse.Namespace) -> str:
    """The given options that mean nothing to a run that is there."""
    given = {"--preset": options.preset, "--set": options.set, "--allow-empty": options.allow_empty}
    return ", ".join(name for name, value in given.items() if value)


def _check_inputs(cfg: Config, given: Run | None, options: argparse.Namespace) -> None:
    """Read what a training will, as far as that needs no torch: a bad file is said at once."""
    from facelib.data.locate import benchmark_paths
    from facelib.data.people import people_of
    from facelib.data.split import checked_split
    from facelib.runs.weights import check_init, check_run

    last = given and given.path / "checkpoints" / "last.pt"
    if last and last.is_file():
        check_run(given, last)
        return
    check_init(cfg)
    if cfg.benchmarks and cfg.data != "rendered" and not (options.no_eval or options.dry_run):
        looks.bins(benchmark_paths(cfg))  # rendered faces make theirs
    if cfg.exclude or cfg.data not in EMBEDDED:
        labels = people_of(cfg.replace(skip_bad=cfg.skip_bad or options.skip_bad)).labels
        if not given:
            checked_split(cfg, labels)


def add_follow(verbs) -> None:
    """The verb `follow`."""

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


def add_runs(verbs) -> None:
    """The verb `runs`."""

    def run(options: argparse.Namespace) -> None:
        from facelib.runs.folder import compare_configs, load_run, tabulate

        chosen = [load_run(name) for name in options.names] or None
        frame = compare_configs(chosen) if options.diff and chosen else tabulate(chosen)
        lines = frame.to_string().split("\n") if len(frame) else ["no runs yet"]
        sys.stdout.write("\n".join(map(printable, lines)) + "\n")

    verb = add_verb(verbs, "runs", "list runs and figures, or what changed between them", run,
                 "runs\nruns smoke-arcface smoke-infonce --diff")  # fmt: skip
    verb.add_argument("names", nargs="*")
    verb.add_argument("--diff", action="store_true", help="settings in which the runs differ")
