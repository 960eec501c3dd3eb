"""Imported first by each benchmark: `facelib` and `tests` are this checkout's, from any folder.

A script finds the modules beside it, then what is installed: another copy of facelib, and `tests`
of some other package.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
