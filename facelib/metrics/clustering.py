"""Face clustering: do the pictures of a person fall into one cluster, and nobody else's?

Figures (contingency n_ij = items of identity i in cluster j, N items):

    BCubed precision   mean over items of |cluster ∩ identity| / |cluster|  = Σ n_ij² / |j| / N
    BCubed recall      mean over items of |cluster ∩ identity| / |identity| = Σ n_ij² / |i| / N
    BCubed F           2PR / (P + R)                                   (Amigó et al. 2009)
    NMI                I(identity; cluster) / mean(H(identity), H(cluster)): arithmetic averaging

Methods: spherical K-means with K = the true number of identities, DBSCAN on cosine distance, and
L-GCN (`lgcn.py`). K is knowledge that the other two do not have. DBSCAN's noise counts as clusters
of one item. DBSCAN and L-GCN share one graph of nearest neighbours, found block by block: memory
grows with N·k, never with N².
"""

import logging
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy.sparse import coo_matrix, hstack
from scipy.sparse.csgraph import connected_components

from facelib.metrics.geometry import unit
from facelib.metrics.lgcn import LinkNetwork, lgcn
from facelib.metrics.neighbours import Graph, neighbour_graph

log = logging.getLogger(__name__)

BLOCK = 1024  # rows at a time: 1,024 × 68,195 cosines are 280 MB
ITERATIONS = 30  # of K-means, at most
MIN_SAMPLES = 3  # of DBSCAN, the item itself included
GRID = 60  # values of eps that are tried


def contingency(labels: np.ndarray, clusters: np.ndarray) -> tuple[np.ndarray, ...]:
    """Non-zero cells of identity × cluster.

    Args:
        labels, clusters: (N,) of any values that `np.unique` takes.

    Returns:
        Of each cell (C,): its count, the size of its identity, the size of its cluster, and the
        number of its identity, 0 … in sorted order.
    """
    _, row, identity_size = np.unique(labels, return_inverse=True, return_counts=True)
    _, column, cluster_size = np.unique(clusters, return_inverse=True, return_counts=True)
    cell, counts = np.unique(row * len(cluster_size) + column, return_counts=True)
    row, column = np.divmod(cell, len(cluster_size))
    return counts, identity_size[row], cluster_size[column], row


def bcubed(labels: np.ndarray, clusters: np.ndarray) -> tuple[float, float, float]:
    """BCubed precision, recall and F of clusters (N,) against identities (N,)."""
    counts, identity_size, cluster_size, _ = contingency(labels, clusters)
    squared, items = counts.astype(np.float64) ** 2, len(labels)
    precision = float(np.sum(squared / cluster_size) / items)
    recall = float(np.sum(squared / identity_size) / items)
    return precision, recall, 2 * precision * recall / (precision + recall)


def influence_on_f(labels: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Influence (N,) of each item on BCubed F: F − its mean over samples of people is about Σ ψ."""
    _, person = np.unique(labels, return_inverse=True)
    _, cluster = np.unique(clusters, return_inverse=True)
    _, cell = np.unique(person * (cluster.max() + 1) + cluster, return_inverse=True)
    shared, sizes = np.bincount(cell)[cell], [np.bincount(x)[x] for x in (cluster, person)]
    parts = [shared / size for size in sizes]  # of precision and of recall, by item
    precision, recall = (part.mean() for part in parts)
    slopes = 2 * np.square([recall, precision]) / (precision + recall) ** 2
    return sum(s * (part - part.mean()) for s, part in zip(slopes, parts)) / len(labels)


def variance_of_f(psi: np.ndarray, labels: np.ndarray, *clusterings: np.ndarray) -> float:
    """Variance of Σ psi: Σ ψ_a ψ_b over all people a and b who meet in a cluster, or are one.

    Merged people lose precision together: a variance over people alone is too small.

    Args:
        psi: (N,) influences, or their difference between two clusterings of the same items.
        clusterings: (N,) each; all that psi comes from.
    """
    _, person = np.unique(labels, return_inverse=True)
    own, ones = np.bincount(person, psi), np.ones(len(psi))
    indices = (np.unique(clusters, return_inverse=True)[1] for clusters in clusterings)
    inside = hstack([coo_matrix((ones, (person, cluster))) for cluster in indices], format="csr")
    meet = (inside @ inside.T) > 0
    return float(max(own @ (meet @ own), own @ own)) * len(own) / max(len(own) - 1, 1)


def nmi(labels: np.ndarray, clusters: np.ndarray) -> float:
    """Normalised mutual information, arithmetic averaging; 1 for one identity in one cluster.

    Older code (scikit-learn before 0.22) averages geometrically, which gives other digits.
    """
    counts, identity_size, cluster_size, _ = contingency(labels, clusters)
    items = len(labels)
    share = counts / items
    mutual = np.sum(share * np.log(counts * items / (identity_size * cluster_size)))
    # An identity's −p·log p, spread over its cells by counts.
    entropy = [-np.sum(share * np.log(size / items)) for size in (identity_size, cluster_size)]
    mean = sum(entropy) / 2
    return 1.0 if mean == 0 else float(np.clip(mutual / mean, 0, 1))


def figures(labels: np.ndarray, clusters: np.ndarray) -> dict[str, float]:
    """All figures of one clustering, under the keys of the command line's JSON."""
    precision, recall, f = bcubed(labels, clusters)
    return {
        "bcubed_precision": precision,
        "bcubed_recall": recall,
        "bcubed_f": f,
        "nmi": nmi(labels, clusters),
        "clusters": len(np.unique(clusters)),
    }


def spherical_kmeans(
    emb: np.ndarray, k: int, seed: int = 0, iterations: int = ITERATIONS
) -> np.ndarray:
    """K-means on the sphere: largest cosine to a centre, centre = unit mean of its items.

    Seeded as greedy k-means++ with the distance 1 − cos (Arthur and Vassilvitskii 2007, and
    scikit-learn). A centre that loses all items moves to the item farthest from its own centre.

    Args:
        emb: unit rows (N, d).
        k: clusters, at most N.

    Returns:
        Cluster (N,) int64 of each item.
    """
    x = torch.from_numpy(np.ascontiguousarray(emb, dtype=np.float32))
    centres = x[_spread_seeds(x, k, np.random.default_rng(seed))].clone()
    before = None
    for _ in range(iterations):
        cos, cluster = _assign(x, centres)
        if before is not None and torch.equal(cluster, before):
            break
        before = cluster
        centres.zero_().index_add_(0, cluster, x)
        empty = torch.bincount(cluster, minlength=k) == 0
        if empty.any():
            centres[empty] = x[cos.argsort()[: int(empty.sum())]]
        centres = torch.nn.functional.normalize(centres)
    return before.numpy()


def _spread_seeds(x: torch.Tensor, k: int, rng: np.random.Generator) -> list[int]:
    """Greedy k-means++: of 2 + ln k random items, far ones likelier, the one that helps most."""
    chosen = [int(rng.integers(len(x)))]
    distance = (1 - x @ x[chosen[0]]).clamp_(min=0)
    trials = 2 + int(np.log(k))
    while len(chosen) < k:
        heap = torch.cumsum(distance.double(), 0)
        draws = torch.searchsorted(heap, torch.from_numpy(rng.random(trials)) * heap[-1])
        draws.clamp_(max=len(x) - 1)
        left = torch.minimum(distance[:, None], (1 - x @ x[draws].T).clamp_(min=0))  # (N, trials)
        best = int(left.sum(0).argmin())
        chosen.append(int(draws[best]))
        distance = left[:, best].contiguous()
    return chosen


def _assign(x: torch.Tensor, centres: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    parts = [(rows @ centres.T).max(dim=1) for rows in x.split(BLOCK)]
    return torch.cat([p.values for p in parts]), torch.cat([p.indices for p in parts])


def dbscan(graph: Graph, eps: float, min_samples: int = MIN_SAMPLES) -> np.ndarray:
    """DBSCAN on cosine distance 1 − cos ≤ eps, over a graph of nearest neighbours.

    Core items have `min_samples` items within eps, themselves included (exact while
    min_samples ≤ k + 1). Core items within eps of each other share a cluster; links beyond the k
    nearest are not seen, so a cluster could split only where no chain of nearest neighbours joins
    it. Another item joins its nearest core item within eps (the original takes the first one that
    comes along); what is left is noise, a cluster of its own each.

    Returns:
        Cluster (N,) of each item.
    """
    near = graph.cosine >= 1 - eps
    core = near.sum(axis=1) + 1 >= min_samples
    linked = near & core[graph.neighbour]  # (N, k)
    row, place = np.nonzero(linked & core[:, None])
    joins = linked.any(axis=1) & ~core
    nearest = graph.neighbour[np.arange(len(core)), linked.argmax(axis=1)]
    a = np.r_[row, np.flatnonzero(joins)]
    b = np.r_[graph.neighbour[row, place], nearest[joins]]
    links = coo_matrix((np.ones(len(a), bool), (a, b)), shape=(len(core),) * 2)
    return connected_components(links, directed=False)[1]


def eps_grid(graph: Graph) -> np.ndarray:
    """60 equal steps over the cosine distances that occur in a graph (0.1st to 99.9th percentile).

    Label-free, and as fine as the embeddings need: a loss may press all faces into a small cap.
    """
    low, high = np.quantile(1 - graph.cosine, (0.001, 0.999))
    return np.linspace(max(low, 1e-6), max(high, 1e-6), GRID)


def choose_eps(graph: Graph, labels: np.ndarray) -> float:
    """The rule for eps with held-out identities: highest BCubed F on them, over `eps_grid`.

    Args:
        graph, labels: of items (N,) whose people are not clustered later.

    Returns:
        eps; where several reach the highest F, the middle one.
    """
    return _best_eps(graph, lambda clusters: bcubed(labels, clusters)[2])


def label_free_eps(graph: Graph) -> float:
    """The rule for eps without any label: highest modularity over `eps_grid`.

    Links are those of each item with its first MIN_SAMPLES − 1 neighbours. Modularity (Newman and
    Girvan 2004) is the share of links inside clusters, less the share that random links of the same
    degrees would have; it falls when clusters are torn and when they run together.
    """
    return _best_eps(graph, lambda clusters: modularity(graph, clusters, MIN_SAMPLES - 1))


def modularity(graph: Graph, clusters: np.ndarray, k: int) -> float:
    """Share of the links to the first k neighbours inside clusters (N,), beyond chance."""
    b = graph.neighbour[:, :k]
    degree = b.shape[1] + np.bincount(b.ravel(), minlength=len(b))
    inside = np.mean(clusters[:, None] == clusters[b])
    return float(inside - np.sum((np.bincount(clusters, degree) / degree.sum()) ** 2))


def _best_eps(graph: Graph, goodness: Callable[[np.ndarray], float]) -> float:
    grid = eps_grid(graph)
    found = np.array([goodness(dbscan(graph, eps)) for eps in grid])
    best = grid[found >= found.max() - 1e-9]
    return float(best[len(best) // 2])


def cluster_all(
    emb: np.ndarray,
    labels: np.ndarray,
    eps: float | None = None,
    links: LinkNetwork | None = None,
) -> dict[str, dict]:
    """K-means with the true K, DBSCAN, and L-GCN where a trained network is given.

    Args:
        emb: (N, d) of any length but 0; made unit here.
        labels: (N,) identities: for the figures and for K-means' K, nothing else.
        eps: of DBSCAN; None takes `label_free_eps`.
        links: a trained `lgcn.LinkNetwork`.

    Returns:
        Method ("kmeans", "dbscan", "lgcn") -> `figures` with `seconds`, and for DBSCAN `eps`,
        `eps_rule` and `min_samples`. The seconds of DBSCAN and of L-GCN
        both hold those of their common graph.
    """
    emb = unit(emb)
    people = len(np.unique(labels))
    report = {}

    def finish(name: str, clusters: np.ndarray, start: float, before: float = 0.0) -> dict:
        seconds = round(time.perf_counter() - start + before, 3)
        report[name] = figures(labels, clusters) | {"seconds": seconds}
        log.info("%s: BCubed F %.4f, %.1f s", name, report[name]["bcubed_f"], seconds)
        return report[name]

    start = time.perf_counter()
    finish("kmeans", spherical_kmeans(emb, people), start)
    start = time.perf_counter()
    graph = neighbour_graph(emb)
    shared, start = time.perf_counter() - start, time.perf_counter()
    rule = "label-free" if eps is None else "given"
    eps = label_free_eps(graph) if eps is None else eps
    entry = finish("dbscan", dbscan(graph, eps), start, shared)
    entry |= {"eps": eps, "eps_rule": rule, "min_samples": MIN_SAMPLES}
    if links is not None:
        start = time.perf_counter()
        finish("lgcn", lgcn(links, emb, graph), start, shared)
    return report
