"""The verbs `study` and `doctor`."""

import argparse
import sys

from facelib.cli.common import add_verb, print_json


def add_study(verbs) -> None:
    """The verb `study`."""

    def run(options: argparse.Namespace) -> None:
        from facelib.runner.study import run_study

        index = run_study(only=options.only, force=options.force, further=options.all)
        sys.stdout.write(f"{index.as_uri()}\n")

    verb = add_verb(verbs, "study", "run the notebooks in order and build the site", run,
                 "study\nstudy --all\nstudy --only 02 03")  # fmt: skip
    verb.add_argument(
        "--only", action="extend", nargs="*", metavar="NN", help="these notebooks only"
    )
    verb.add_argument(
        "--all", action="store_true", help="the further chapters too (09 to 11, 14, 15)"
    )
    verb.add_argument("--force", action="store_true", help="run again what is up to date")


def add_doctor(verbs) -> None:
    """The verb `doctor`."""

    def run(options: argparse.Namespace) -> int:
        from facelib.doctor import INSTALL, check, check_packages, render

        if options.packages:
            wrong = check_packages()["mismatches"]
            if wrong:
                sys.stderr.write("\n".join([*wrong, f"next: {INSTALL}"]) + "\n")
            return 2 if wrong else 0
        found = check()
        print_json(found) if options.json else sys.stdout.write(render(found) + "\n")
        return 2 if found["problems"] else 0

    verb = add_verb(verbs, "doctor", "check versions, devices, disk, data and live runs", run,
                 "doctor\ndoctor --json")  # fmt: skip
    verb.add_argument("--packages", action="store_true", help="only compare installed packages")
    verb.add_argument("--json", action="store_true")
