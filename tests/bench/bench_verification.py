"""Verification: InsightFace's KFold loop against one histogram, and the identity bootstrap.

    python -m tests.bench.bench_verification [--pairs 7000] [--repeats 5]

Both run in this process, in turn, on the same made-up scores. Prints one JSON object: median
seconds, their ratio, and the largest difference of an accuracy (0 means the same answer).
"""

import argparse
import json
import statistics
import sys
import time

import numpy as np

from facelib.evaluate.scores import contiguous_tenths, make_scores
from facelib.evaluate.verification import best_threshold_protocol, verify_scores
from tests.evaluate.reference import insightface_kfold, made_scores


def timed(function, repeats: int) -> tuple[float, object]:
    """Median seconds of `repeats` calls, and the last result."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=7000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    score, same = made_scores("random", arguments.pairs, seed=0)
    fold = contiguous_tenths(arguments.pairs)
    rng = np.random.default_rng(1)
    id1 = fold * 50 + rng.integers(0, 50, arguments.pairs)
    id2 = np.where(same, id1, fold * 50 + (id1 + rng.integers(1, 50, arguments.pairs)) % 50)
    scores = make_scores(score, same, fold, id1=id1, id2=id2)
    slow, wanted = timed(lambda: insightface_kfold(2 - 2 * score, same), arguments.repeats)
    fast, found = timed(lambda: best_threshold_protocol(score, same, fold), arguments.repeats)
    report, _ = timed(lambda: verify_scores(scores), arguments.repeats)
    bootstrap, _ = timed(lambda: verify_scores(scores, bootstrap=1000), 1)
    result = {
        "pairs": arguments.pairs,
        "insightface_loop_s": round(slow, 5),
        "best_threshold_s": round(fast, 5),
        "ratio": round(slow / fast, 1),
        "largest_difference": float(np.abs(wanted - found.accuracy).max()),
        "all_figures_s": round(report, 5),
        "bootstrap_1000_s": round(bootstrap, 3),
    }
    json.dump(result, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
