"""The hardest pairs of several runs: are they the same pairs, and what do they look like?

A pair is hard if it is an impostor pair of high cosine or a genuine pair of low cosine. Each run
has its own scale of cosines; the ranks inside a run are what is compared.
"""

from collections.abc import Sequence
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from facelib.metrics.scores import Scores
from facelib.studies.plots import draw_pairs, hardest, head
from facelib.studies.results import Result

GENUINE, IMPOSTOR = "genuine, lowest cosine", "impostor, highest cosine"
KINDS = {GENUINE: True, IMPOSTOR: False}


def shared_hardest(results: Sequence[Result], name: str, k: int = 50) -> pd.DataFrame:
    """How many of the k hardest pairs any two runs share, by kind.

    Columns: shared (pairs), by chance (k²/n, for n pairs of the kind without the protocol's
    repetitions), all (shared by every run of `results`), k (fewer where there are fewer pairs).
    """
    rows = {}
    for kind, same in KINDS.items():
        sets, pairs = {}, 0
        for result in results:
            scores = result.scores(name)
            rank = hardest(scores, same, len(scores.same))
            sets[result.label], pairs = set(_keys(scores, rank[:k])), len(rank)
        everyone = len(set.intersection(*sets.values()))
        for a, b in combinations(sets, 2):
            rows[kind, a, b] = {
                "shared": len(sets[a] & sets[b]),
                "by chance": len(sets[a]) * len(sets[b]) / pairs,
                "all": everyone,
                "k": len(sets[a]),
            }
    return pd.DataFrame(rows).T.rename_axis(["pairs", "run", "other run"])


def _keys(scores: Scores, rows: np.ndarray) -> list[tuple[int, int]]:
    """What a pair is, whichever side comes first: benchmarks list some pairs twice."""
    sides = np.sort(np.c_[scores.index1[rows], scores.index2[rows]], axis=1)
    return [tuple(side) for side in sides.tolist()]


def hardest_by_run(
    results: Sequence[Result], name: str, kind: str, k: int = 5, size: int = 64, note: str = ""
) -> Figure:
    """A row of pictures per run: its k hardest pairs of a kind, `GENUINE` or `IMPOSTOR`.

    A star marks pairs that are among the k hardest of every run shown.
    """
    images = results[0].benchmark(name).images
    figure = plt.figure(figsize=(1.7 * k, 1.35 * len(results) + 0.3))
    ranked = [(r, s := r.scores(name), hardest(s, KINDS[kind], k)) for r in results]
    everyone = set.intersection(*(set(_keys(scores, rows)) for _, scores, rows in ranked))
    for part, (result, scores, rows) in zip(figure.subfigures(len(results), 1), ranked):
        stars = [" *" if key in everyone else "" for key in _keys(scores, rows)]
        draw_pairs(part, images, scores, rows, size, k, stars)
        head(part, result.label, fontsize=10, fontweight="bold")
    head(figure, f"{kind[0].upper()}{kind[1:]}", note)
    return figure
