"""Time and memory of face clustering at the size of source B: 68,195 × 512 of 1,845 identities.

    python tests/bench/bench_clustering.py           K-means, DBSCAN with the label-free rule, L-GCN
    python tests/bench/bench_clustering.py --items 5000 --identities 150

The embeddings are drawn around random unit centres (in 512 dimensions a Gaussian around a unit
vector, made unit, is a von Mises-Fisher cluster to a good approximation), identity sizes are
lognormal. The L-GCN is trained for a few steps only: its time counts here, not its figures.
"""

import argparse
import json
import logging
import sys

import numpy as np
import repo  # noqa: F401
import torch

from facelib.metrics.clustering import cluster_all
from facelib.metrics.geometry import unit
from facelib.metrics.lgcn import train_links
from facelib.metrics.neighbours import NEIGHBOURS

LIMIT_MB = 4096


def memory_mb(field: str) -> float:
    """A field of /proc/self/status in megabytes: VmRSS (now) or VmHWM (peak)."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def draw_faces(items: int, identities: int, dim: int, spread: float, seed: int):
    """Unit rows (items, dim) around random unit centres, and labels (items,), all identities."""
    rng = np.random.default_rng(seed)
    share = rng.lognormal(0, 0.8, identities)
    drawn = rng.choice(identities, items - identities, p=share / share.sum())
    labels = rng.permutation(np.r_[np.arange(identities), drawn])
    emb = unit(rng.standard_normal((identities, dim)))[labels]
    for start in range(0, items, 4096):  # no second array of this size in float64
        rows = emb[start : start + 4096]
        rows += (spread / np.sqrt(dim)) * rng.standard_normal(rows.shape, np.float32)
    return unit(emb), labels


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=68_195)
    parser.add_argument("--identities", type=int, default=1_845)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--spread", type=float, default=1.3)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    size = arguments.dim, arguments.spread
    links = train_links(*draw_faces(3000, 100, *size, seed=1), steps=10)
    emb, labels = draw_faces(arguments.items, arguments.identities, *size, seed=0)
    report = cluster_all(emb, labels, links=links)
    peak = memory_mb("VmHWM")
    result = {**vars(arguments), "neighbours": NEIGHBOURS, "threads": torch.get_num_threads()}
    result |= {"peak_mb": round(peak), "limit_mb": LIMIT_MB, **report}
    json.dump(result, sys.stdout, indent=1)
    sys.stdout.write("\n")
    if peak > LIMIT_MB:
        sys.exit(f"peak memory {peak:.0f} MB is above {LIMIT_MB} MB")


if __name__ == "__main__":
    main()
