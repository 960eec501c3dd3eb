"""The verbs `sweep` and `report`."""

import argparse
import sys
from pathlib import Path

from facelib.cli import looks
from facelib.cli.common import add_settings, add_verb
from facelib.paths import check_folder_name
from facelib.runs.files import read_sweep_rows


def add_sweep(verbs) -> None:
    """The verb `sweep`."""

    def run(options: argparse.Namespace) -> None:
        from facelib.runner.sweep import run_sweep_command

        run_sweep_command(options)

    verb = add_verb(verbs, "sweep", "run a notebook over a grid of its parameters, resumable", run,
                 "sweep 03_infonce --grid global_batch=64,128 seed=0,1 --jobs 2")  # fmt: skip
    verb.add_argument("notebook", help="name or path of a notebook")
    verb.add_argument("--grid", action="extend", nargs="+", required=True, metavar="KEY=V1,V2")
    add_settings(verb)
    verb.add_argument("--jobs", type=int, default=1, help="cells of the grid side by side")
    verb.add_argument("--out", type=Path)


def _look_at_rows(publish: list[str], _: argparse.Namespace) -> None:
    check_folder_name(publish[1] if len(publish) > 1 else "", "--publish NAME")
    read_sweep_rows(Path(publish[0]))


def add_report(verbs) -> None:
    """The verb `report`."""

    def run(options: argparse.Namespace) -> None:
        if options.publish:
            results, name, *command = [*options.publish, ""][: max(2, len(options.publish))]
            from facelib.studies.records import publish_sweep

            found = publish_sweep(Path(results), name, " ".join(command), options.note)
            sys.stdout.write(f"{found}\n")
            return
        if options.readme:
            from facelib.paths import REPO
            from facelib.studies.front_picture import write_pictures
            from facelib.studies.readme import refresh_readme
            from facelib.studies.records import load_record

            refresh_readme(REPO / "README.md", options.readme)
            write_pictures(load_record(options.readme)[0], REPO / ".github")
            return
        if options.pdf:
            from facelib.runner.pdf import write_pdf

            sys.stdout.write(f"{write_pdf(options.out)}\n")
            return
        from facelib.runner.site import build_site

        sys.stdout.write(f"{build_site(out=options.out).as_uri()}\n")

    verb = add_verb(verbs, "report", "the site: executed notebooks, records and API as HTML", run,
                 "report\nreport --out /tmp/site\nreport --pdf", publish=_look_at_rows,
                    pdf=looks.site)  # fmt: skip
    verb.add_argument("--out", type=Path)
    verb.add_argument("--pdf", action="store_true", help="the site as one PDF, by Chromium")
    verb.add_argument("--publish", nargs="+", metavar=("RESULTS.jsonl", "NAME COMMAND"),
                      help="a sweep's rows as a committed record")  # fmt: skip
    verb.add_argument("--note", default="", help="what its readers must know beside the figures")
    verb.add_argument(
        "--readme", metavar="NAME", help="write a record into the README's results, and its picture"
    )
