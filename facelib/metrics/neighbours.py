"""The nearest neighbours of unit vectors, exact, by blocks: what DBSCAN and L-GCN start from."""

from dataclasses import dataclass

import numpy as np
import torch

NEIGHBOURS = 64  # of each item in the graph
BLOCK = 1024  # rows at a time: 1,024 × 68,195 cosines are 280 MB


@dataclass(frozen=True, eq=False)
class Graph:
    """The k nearest neighbours of N items, nearest first, without the item itself.

    Attributes:
        cosine: (N, k) float32.
        neighbour: (N, k) int64.
    """

    cosine: np.ndarray
    neighbour: np.ndarray


def neighbour_graph(emb: np.ndarray, k: int = NEIGHBOURS, block: int = BLOCK) -> Graph:
    """Exact nearest neighbours by cosine of unit rows (N, d); k is cut to N − 1.

    Extra memory: block·N floats for the cosines of a block, N·k·12 bytes for the result.
    """
    x = torch.from_numpy(np.ascontiguousarray(emb, dtype=np.float32))
    items, k = len(x), min(k, len(x) - 1)
    cosine, neighbour = torch.empty(items, k), torch.empty(items, k, dtype=torch.int64)
    for start in range(0, items, block):
        cos = x[start : start + block] @ x.T  # (block, N)
        own = torch.arange(len(cos))
        cos[own, start + own] = -2.0  # below every cosine
        torch.topk(cos, k, dim=1, out=(cosine[start : start + block],
                                       neighbour[start : start + block]))  # fmt: skip
    return Graph(cosine.numpy(), neighbour.numpy())
