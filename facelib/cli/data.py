"""The verb `inspect`."""

import argparse
import sys
from pathlib import Path

from facelib.cli.common import add_verb, print_json


def add_inspect(verbs) -> None:
    """The verb `inspect`."""

    def run(options: argparse.Namespace) -> int:
        from facelib.prepare.inspection import inspect

        if options.rebuild_idx:
            from facelib.formats.rebuild import rebuild_index

            count = rebuild_index(options.path)
            sys.stderr.write(f"train.idx leads to {count} records\n")
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
    verb.add_argument(
        "--rebuild-idx",
        action="store_true",
        help="scan the .rec; write its .idx if that leads to more",
    )
    verb.add_argument("--json", action="store_true")
