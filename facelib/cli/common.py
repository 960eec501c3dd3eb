"""What the verbs of the command line share."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from facelib.config import parse_settings


def add_verb(
    verbs, name: str, text: str, run: Callable, examples: str, /, **looks: Callable
) -> argparse.ArgumentParser:
    """A verb with a line for `--help`, run by `run(options)`.

    `looks`: what looks at an argument first, by its name (`facelib.cli.looks`). An example is a
    command that can be pasted: a remark in it stands behind a `#`.
    """
    lines = "examples:\n" + "\n".join(f"  python -m facelib {e}" for e in examples.split("\n"))
    verb = verbs.add_parser(
        name,
        description=text[0].upper() + text[1:] + ".",
        epilog=lines,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.set_defaults(run=run, looks=looks)
    return verb


def add_settings(verb: argparse.ArgumentParser, text: str | None = None) -> None:
    """The option `--set KEY=VALUE ...`; it may be given several times."""
    verb.add_argument(
        "--set", action="extend", nargs="*", default=[], metavar="KEY=VALUE", help=text
    )


def print_json(content: dict) -> None:
    """JSON on standard output."""
    sys.stdout.write(json.dumps(content, indent=1) + "\n")


def settings_of(options: argparse.Namespace) -> dict:
    """Typed `--set` values; a data path that exists from here becomes absolute."""
    settings = parse_settings(options.set)
    for key in ("data", "exclude", "init"):
        if key in settings and Path(settings[key]).exists():
            settings[key] = str(Path(settings[key]).resolve())
    if "benchmarks" in settings:
        names = [name.strip() for name in settings["benchmarks"].split(",")]
        here = [str(Path(n).resolve()) if Path(n).is_file() else n for n in names]
        settings["benchmarks"] = ",".join(here)
    return settings
