"""The parser of all verbs, and what a person sees of an error."""

import argparse
import logging
import sys

from facelib.cli.ask import add_embed, add_evaluate_on, add_export, add_same
from facelib.cli.cluster import add_cluster
from facelib.cli.data import add_inspect
from facelib.cli.evaluate import add_compare, add_eval, add_verify
from facelib.cli.explore import add_explore
from facelib.cli.frozen import add_frozen
from facelib.cli.looks import look_first
from facelib.cli.notebooks import add_report, add_sweep
from facelib.cli.overlap import add_overlap
from facelib.cli.prepare import add_prepare
from facelib.cli.protocols import add_ijb, add_megaface
from facelib.cli.settings import add_settings
from facelib.cli.start import add_doctor, add_study
from facelib.cli.train import add_follow, add_runs, add_train
from facelib.safety.guard import guarded

PROG = "python -m facelib"
GROUPS = {
    "start": (add_study, add_doctor),
    "data": (add_prepare, add_inspect, add_overlap),
    "train": (add_train, add_follow, add_runs, add_settings),
    "evaluate": (
        add_eval,
        add_evaluate_on,
        add_same,
        add_embed,
        add_export,
        add_verify,
        add_compare,
        add_frozen,
        add_ijb,
        add_megaface,
        add_cluster,
    ),
    "study": (add_sweep, add_explore, add_report),
}
EXAMPLES = """examples:
  python -m facelib doctor                          # is everything here?
  python -m facelib train --set loss=infonce        # train on rendered faces
  python -m facelib train --preset ms1m-arcface --set data=/data/ms1m-arcface --dry-run
  python -m facelib verify runs/RUN/scores/cfp_fp.npz --json
  python -m facelib runs                            # all runs and their figures

Settings and examples of one verb: python -m facelib train --help
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one verb. Returns 0, 2 (wrong input, one clear line) or 130 (interrupted)."""
    options = build_parser().parse_args(arguments)
    level = logging.DEBUG if options.verbose else logging.INFO
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    return guarded(lambda: look_first(options) or options.run(options))


def build_parser() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    parser = argparse.ArgumentParser(
        prog=PROG,
        usage=f"{PROG} [-h] [-v] VERB ...",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="debug messages")
    # argparse knows no groups of verbs: its own list is hidden, ours stands in the description.
    verbs = parser.add_subparsers(
        prog=PROG, metavar="VERB", dest="verb", required=True, help=argparse.SUPPRESS
    )
    lines = ["Face verification by contrastive learning: ArcFace against InfoNCE."]
    for group, adders in GROUPS.items():
        lines += ["", f"{group}:"]
        for add in adders:
            add(verbs)
            name, verb = list(verbs.choices.items())[-1]
            lines.append(f"  {name:<13}{verb.description}")
    parser.description = "\n".join(lines)
    return parser
