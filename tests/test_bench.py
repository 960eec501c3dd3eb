"""Benchmarks start by the command that their record prints, from any folder."""

import os
import subprocess
import sys

import pytest

from facelib.paths import REPO

# One process for all, since libraries take seconds to import; each benchmark is a fork of its own.
START = """
import os, runpy, sys, accelerate, cv2, numba, pandas, scipy.stats, torch
for path in sys.argv[1:]:
    if not os.fork():
        sys.argv, sys.path[0] = [path, "--help"], os.path.dirname(path)
        runpy.run_path(path, run_name="__main__")
    if os.wait()[1]:
        sys.exit(f"{path} does not start")
"""


@pytest.mark.slow
def test_each_benchmark_starts_from_any_folder_with_nothing_on_python_s_path(tmp_path):
    # Mutations: `import repo` left out or put after the imports that need it.
    found = sorted(map(str, (REPO / "tests" / "bench").glob("bench_*.py")))
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", START, *found], cwd=tmp_path, env=clean,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: bench_") == len(found) > 0
