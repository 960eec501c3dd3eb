"""What the verbs of the command line share."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from facelib.config import parse_settings
from facelib.runs.folder import Run, load_run


def add_verb(verbs, name: str, text: str, run: Callable, examples: str) -> argparse.ArgumentParser:
    """A verb with a line for `--help`, run by `run(options)`.

    An example is a command that can be pasted: a remark in it stands behind a `#`.
    """
    lines = "examples:\n" + "\n".join(f"  python -m facelib {e}" for e in examples.split("\n"))
    verb = verbs.add_parser(
        name,
        description=text[0].upper() + text[1:] + ".",
        epilog=lines,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.set_defaults(run=run)
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


def check_benchmarks(paths: Iterable[Path | str]) -> None:
    """Read the `.bin` files among these: a bad one is refused before any slow work.

    Raises:
        BadData: as `facelib.formats.bins.read_bin`.
    """
    from facelib.formats.bins import read_bin

    for path in filter(Path.is_file, map(Path, paths)):
        read_bin(path)


def find_run(name: Path | str) -> Run:
    """A run whose weights are whole: a wrong name or file is said before torch is imported."""
    from facelib.runs.weights import check_run

    return check_run(load_run(name))
