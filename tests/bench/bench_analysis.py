"""Nearest of N centres at MS1M's size: seconds, and peak memory beyond the inputs.

    python tests/bench/bench_analysis.py [--centres 85742] [--queries 14000] [--dim 512]

Prints one JSON object. Memory is the process's peak (VmHWM) during the call minus what it held
before, so that the matrix library's own buffers count; the inputs do not.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import repo  # noqa: F401

from facelib.metrics.geometry import BLOCK, nearest_centres


def memory_mb(key: str) -> float:
    """A field of /proc/self/status in MB: VmRSS (now) or VmHWM (peak)."""
    line = next(r for r in Path("/proc/self/status").read_text().splitlines() if r.startswith(key))
    return int(line.split()[1]) / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--centres", type=int, default=85_742)
    parser.add_argument("--queries", type=int, default=14_000)
    parser.add_argument("--dim", type=int, default=512)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((arguments.centres, arguments.dim), np.float32)
    queries = rng.standard_normal((arguments.queries, arguments.dim), np.float32)
    before = memory_mb("VmRSS")
    start = time.perf_counter()
    cosine, _ = nearest_centres(queries, centres)
    result = {
        **vars(arguments),
        "block": BLOCK,
        "seconds": round(time.perf_counter() - start, 2),
        "extra_mb": round(memory_mb("VmHWM") - before, 1),
        "mean_cosine": round(float(cosine.mean()), 4),
    }
    json.dump(result, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
