"""The verb `explore`."""

import argparse
import sys
from pathlib import Path

from facelib.cli import looks
from facelib.cli.common import add_verb


def add_explore(verbs) -> None:
    """The verb `explore`."""

    def run(options: argparse.Namespace) -> None:
        from facelib.studies.explorer.page import write_explorer

        names = [Path(name).stem for name in options.benchmarks or ()]
        path = write_explorer(options.runs, options.out, names)
        sys.stdout.write(f"{path}: {path.stat().st_size / 1e6:.1f} MB; open it in a browser\n")

    verb = add_verb(verbs, "explore", "write a page that shows the scores and pairs of evaluated "
                    "runs", run, "explore smoke-arcface smoke-infonce\n"
                    "explore smoke-arcface --benchmarks cfp_fp --out cfp.html",
                    runs=looks.explored, out=looks.written)  # fmt: skip
    verb.add_argument("runs", nargs="+", metavar="RUN", help="run folder, run name, or a unique "
                      "beginning of it")  # fmt: skip
    verb.add_argument("--benchmarks", action="extend", nargs="+", metavar="NAME",
                      help="names; default: all that the runs share")  # fmt: skip
    verb.add_argument("--out", type=Path, default=Path("explorer.html"), metavar="FILE")
