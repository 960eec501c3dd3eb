"""A two-dimensional map of some people's images by UMAP (arXiv 1802.03426)."""

import warnings

import numpy as np
import pandas as pd

from facelib.metrics.scores import Scores

NEIGHBOURS = 30
SPREAD_OUT = 1.5  # UMAP's min_dist and spread: faces need room
SEED = 0


def people_of(scores: Scores, people: int = 12) -> pd.DataFrame:
    """The images of the `people` with most images in a benchmark: image (its row), person.

    Equal counts are resolved by the lower identity, so that every run gets the same people.
    """
    sides = {"image": np.r_[scores.index1, scores.index2], "person": np.r_[scores.id1, scores.id2]}
    frame = pd.DataFrame(sides).drop_duplicates("image")
    counts = frame["person"].value_counts(sort=False).sort_index()
    frame = frame[frame["person"].isin(counts.nlargest(people).index)]
    return frame.sort_values(["person", "image"]).reset_index(drop=True)


def umap(emb: np.ndarray) -> np.ndarray:
    """Positions (U, 2) of unit embeddings (U, d): who is near whom; distances mean nothing more.

    Neighbours are found exactly by cosine here, which also saves compiling the approximate search:
    the first call of a process compiles for some seconds, the package's first import for more. One
    thread and a fixed seed give the same map again on the same machine.
    """
    from umap import UMAP

    neighbours = min(NEIGHBOURS, len(emb) - 1)  # of each image, itself included
    distance = np.clip(1 - emb @ emb.T, 0, None)
    np.fill_diagonal(distance, -1)  # oneself first, also before an equal image
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :neighbours]
    near = np.take_along_axis(distance, nearest, axis=1).clip(0)
    settings = {"metric": "cosine", "min_dist": SPREAD_OUT, "spread": SPREAD_OUT}
    settings |= {"n_neighbors": neighbours, "random_state": SEED, "n_jobs": 1}
    settings["precomputed_knn"] = nearest.astype(np.int32), near.astype(np.float32)
    settings["force_approximation_algorithm"] = True  # or small sets ignore the given neighbours
    with warnings.catch_warnings():
        # It regrets that new points cannot be placed later, which nobody asks for here.
        warnings.filterwarnings("ignore", message=".*knn_search_index.*")
        return UMAP(**settings).fit_transform(emb).astype(np.float64)


def map_frame(scores: Scores, emb: np.ndarray, people: int = 12) -> pd.DataFrame:
    """`people_of` with their positions x, y; emb: (U, d) unit, of the benchmark's images."""
    frame = people_of(scores, people)
    x, y = umap(emb[frame["image"]]).T
    return frame.assign(x=x, y=y)


def separation(frame: pd.DataFrame, emb: np.ndarray) -> tuple[float, float]:
    """Share of images whose nearest image is one of the same person: on the map, in the embedding.

    A map (`map_frame`) that looks better than the embedding (U, d) that it was made from misleads.
    """
    person = frame["person"].to_numpy()
    points = frame[["x", "y"]].to_numpy()
    flat = ((points[:, None] - points[None]) ** 2).sum(2)
    chosen = emb[frame["image"]]
    shares = []
    for distance in (flat, 1 - chosen @ chosen.T):
        np.fill_diagonal(distance, np.inf)
        shares.append(float(np.mean(person[distance.argmin(1)] == person)))
    return shares[0], shares[1]
