"""Command line: `python -m facelib --help`. Each verb has `--help` with examples."""

import sys

from facelib.safety.guard import guarded


def main(arguments: list[str] | None = None) -> int:
    """`facelib.cli.main.main`; its imports take a second, and Ctrl-C in them is no traceback."""
    from facelib.cli.main import main

    return main(arguments)


if __name__ == "__main__":
    sys.exit(guarded(main))
