"""Command line: `python -m facelib --help`. Each verb has `--help` with examples."""

import sys

from facelib.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
