"""Verification: InsightFace's KFold loop against all figures at once, and the identity bootstrap.

    python -m tests.bench.bench_verification [--pairs 7000] [--repeats 5]

`insightface_loop_s` is a restatement of `calculate_roc`: ten folds, 400 thresholds, accuracy on
nine folds, TPR and FPR on the tenth. `all_figures_s` is everything of `verify_scores` (10 folds of
both protocols, TAR at five FARs, AUC, EER) and the ROC; `best_threshold_s` is the part that gives
the loop's accuracies. They take turns in this process on the same made-up scores. Prints one JSON
object: medians of the seconds and of the ratios inside a repeat (targets: `ratio` 50 and more,
`bootstrap_1000_s` under 5), and the largest difference of an accuracy (0: the same answer).
"""

import argparse
import json
import statistics
import sys
import time

import numpy as np
import repo  # noqa: F401

from facelib.metrics.scores import contiguous_tenths, make_scores
from facelib.metrics.verification import best_threshold_protocol, roc, verify_scores
from tests.evaluate.reference import insightface_roc, made_scores


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
    calls = {
        "insightface_loop": lambda: insightface_roc(2 - 2 * score, same)[2],
        "all_figures": lambda: (roc(score, same), verify_scores(scores)),
        "best_threshold": lambda: best_threshold_protocol(score, same, fold).accuracy,
        "bootstrap_1000": lambda: verify_scores(scores, bootstrap=1000),
    }
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(arguments.repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    loop = seconds["insightface_loop"]
    ratios = {
        key: round(statistics.median(a / b for a, b in zip(loop, seconds[name])), 1)
        for key, name in (("ratio", "all_figures"), ("ratio_of_accuracies", "best_threshold"))
    }
    difference = np.abs(calls["insightface_loop"]() - calls["best_threshold"]()).max()
    result = {
        "pairs": arguments.pairs,
        **{f"{name}_s": round(statistics.median(values), 5) for name, values in seconds.items()},
        **ratios,
        "largest_difference": float(difference),
    }
    json.dump(result, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
