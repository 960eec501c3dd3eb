"""Face clustering of trained runs as frames and pictures for notebooks (`evaluate/clustering.py`).

    RUN/embeddings/lgcn-KEY.safetensors   the run's L-GCN, trained on its training identities

The test people are split: for each count n the first n are clustered, so that the sets are nested,
and the last n are held out to choose DBSCAN's eps.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from string import ascii_uppercase

import numpy as np
import pandas as pd

from facelib.digests import digest_values
from facelib.errors import UserError
from facelib.metrics import clustering as cl
from facelib.metrics import intervals as iv
from facelib.metrics.geometry import unit
from facelib.metrics.lgcn import LinkNetwork, lgcn, load_links, save_links, train_links
from facelib.studies.centres import Geometry
from facelib.studies.labelled_runs import run_items
from facelib.studies.results import Result
from facelib.training.trained import load_trained

log = logging.getLogger(__name__)

METHODS = {"kmeans": "K-means", "dbscan": "DBSCAN", "dbscan-free": "DBSCAN, label-free eps",
           "lgcn": "L-GCN"}  # fmt: skip
STEPS = 1000  # of 16 pivots each
KEYS = ["embedding", "method"]


@dataclass(frozen=True)
class Faces:
    """Test faces of an evaluated run, with its L-GCN; everything is made once, when needed."""

    result: Result
    benchmark: str = ""  # "": all benchmarks together (rendered faces)
    steps: int = STEPS  # of the L-GCN's training

    @cached_property
    def items(self) -> tuple[np.ndarray, np.ndarray, list[bytes]]:
        """Unit embeddings (U, d), identities (U,), encoded images; each image once."""
        emb, label, images = run_items(self.result, self.benchmark)
        return unit(emb), label, images

    @cached_property
    def links(self) -> LinkNetwork:
        """The L-GCN of this run, trained on its training identities, kept beside the run."""
        folder = self.result.folder
        parts = [load_trained(folder)["digest"], self.steps]
        key = digest_values(parts, digits=12)
        path = folder / "embeddings" / f"lgcn-{key}.safetensors"
        if not path.is_file():
            log.info("%s: training its L-GCN, %d steps", folder.name, self.steps)
            save_links(train_links(*Geometry(self.result).train, steps=self.steps), path)
        return load_links(path)

    def split(self, counts: Sequence[int]) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each count n, rows of the first n people, and of the last n, who choose eps.

        As many held-out people as are clustered, since the best eps falls with their number.
        """
        label = self.items[1]
        people = np.unique(label)
        if not counts or min(counts) < 2 or len(people) < 2 * max(counts):
            raise UserError(
                f"counts={list(counts)}: the benchmarks show {len(people)} people; wanted counts "
                f"from 2 to half of them ({len(people) // 2}), the other half chooses eps"
            )
        chosen = [(people[:n], people[-n:]) for n in counts]
        return [tuple(np.flatnonzero(np.isin(label, p)) for p in both) for both in chosen]


@dataclass(frozen=True, eq=False)
class Clustering:
    """One clustering: rows (R,) of the faces, their labels (R,) and clusters (R,)."""

    faces: Faces
    method: str
    people: int
    rows: np.ndarray
    labels: np.ndarray
    clusters: np.ndarray
    eps: float | None = None

    @cached_property
    def figures(self) -> dict[str, float]:
        return cl.figures(self.labels, self.clusters)

    @cached_property
    def influence(self) -> np.ndarray:
        """Influence (R,) of each face on BCubed F."""
        return cl.influence_on_f(self.labels, self.clusters)


def cluster_faces(faces: Faces, counts: Sequence[int]) -> list[Clustering]:
    """Every method on every nested count of people."""
    emb, label, _ = faces.items
    found = []
    for people, (rows, held_out) in zip(counts, faces.split(counts)):
        graph = cl.neighbour_graph(emb[rows])
        chosen = cl.choose_eps(cl.neighbour_graph(emb[held_out]), label[held_out])
        free = cl.label_free_eps(graph)
        for method, clusters, eps in (
            ("kmeans", cl.spherical_kmeans(emb[rows], people, 0), None),
            ("dbscan", cl.dbscan(graph, chosen), chosen),
            ("dbscan-free", cl.dbscan(graph, free), free),
            ("lgcn", lgcn(faces.links, emb[rows], graph), None),
        ):
            found.append(Clustering(faces, method, people, rows, label[rows], clusters, eps))
    return found


def figures_frame(found: Sequence[Clustering]) -> pd.DataFrame:
    """One row per clustering: embedding, method, people, figures, eps, and lo, hi of BCubed F."""
    rows = []
    for c in found:
        variance = cl.variance_of_f(c.influence, c.labels, c.clusters)
        lo, hi = iv.wilson(c.figures["bcubed_f"], variance, c.people)
        row = {"embedding": c.faces.result.label, "method": METHODS[c.method], "people": c.people}
        rows.append(row | {"items": len(c.rows)} | c.figures | {"lo": lo, "hi": hi, "eps": c.eps})
    return pd.DataFrame(rows)


def table(frame: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """`figures_frame` as text "BCubed F / NMI", percent, a column a count; published beside it."""
    text = [f"{100 * f:.1f} / {100 * nmi:.1f}" for f, nmi in zip(frame["bcubed_f"], frame["nmi"])]
    here = frame.assign(text=text, people=frame["people"].map("{:,} people".format))
    here = here.pivot(index=KEYS, columns="people", values="text")[here["people"].unique()]
    both = pd.concat({"rendered, here": here, "published (source B)": published}, axis=1)
    names = list(dict.fromkeys([*frame["embedding"], *published.index.levels[0]]))
    rank = [*METHODS.values()].index
    rows = sorted(both.index, key=lambda key: (names.index(key[0]), rank(key[1])))
    return both.loc[rows].fillna("").rename_axis(KEYS)


def difference_frame(pairs: Sequence[tuple[Clustering, Clustering]]) -> pd.DataFrame:
    """BCubed F of a − b in points with its 95 % interval over people; both of the same items."""
    rows = []
    for a, b in pairs:
        psi = a.influence - b.influence
        reach = 100 * iv.Z * np.sqrt(cl.variance_of_f(psi, a.labels, a.clusters, b.clusters))
        names = [f"{c.faces.result.label}, {METHODS[c.method]}" for c in (a, b)]
        difference = 100 * (a.figures["bcubed_f"] - b.figures["bcubed_f"])
        lo, hi = difference - reach, difference + reach
        row = {"a": names[0], "b": names[1], "people": a.people, "a − b": difference}
        rows.append(row | {"lo": lo, "hi": hi, "excludes 0": bool(lo > 0 or hi < 0)})
    return pd.DataFrame(rows)


def examples(c: Clustering) -> dict[str, tuple[np.ndarray, list[str]]]:
    """A good cluster, a split person, a merged cluster: rows of at most 20 faces, their titles.

    Good: the cluster of one person only that holds most of it (of equals the larger). Split: the
    person with most clusters of two or more pictures; its clusters are called A, B, … by size, and
    "–" if the picture is alone. Merged: the cluster with most pictures of its second person.
    """
    counts = pd.crosstab(c.labels, c.clusters)
    sizes, person = counts.sum(0), counts.sum(1)
    pure = counts.loc[:, (counts > 0).sum(0) == 1]
    share = pd.DataFrame({"share": pure.max(0) / person[pure.idxmax(0)].array, "size": pure.max(0)})
    good = share.sort_values(["share", "size"]).index[-1]
    split = (counts >= 2).sum(1).idxmax()
    merged = counts.apply(lambda column: column.nlargest(2).iloc[-1]).idxmax()
    parts = counts.loc[split].sort_values(ascending=False, kind="stable")
    letters = dict(zip(parts.index[parts > 0], ascii_uppercase))
    people = np.array([f"person {label}" for label in c.labels])
    marks = np.array([letters.get(k, "–") if sizes[k] > 1 else "–" for k in c.clusters])

    def shown(chosen: np.ndarray, titles: np.ndarray) -> tuple[np.ndarray, list[str]]:
        inside = np.flatnonzero(chosen)
        inside = inside[np.argsort(titles[inside], kind="stable")][:20]
        return c.rows[inside], titles[inside].tolist()

    good, merged = shown(c.clusters == good, people), shown(c.clusters == merged, people)
    return {"good": good, "split": shown(c.labels == split, marks), "merged": merged}


def what_we_learned(losses_apart, most, ours, last, counts, names) -> str:
    """What the clustering methods and embeddings make of the faces."""
    gains, falls = (ours["lo"] > 0).sum(), (ours["hi"] < 0).sum()
    mean = 100 * most.groupby("method")[["bcubed_precision", "bcubed_recall"]].mean()
    both = "; ".join("{} {:.0f} and {:.0f}".format(m, *mean.loc[m]) for m in ("L-GCN", "K-means"))
    eps = most.dropna(subset=["eps"]).pivot(index="embedding", columns="method", values="bcubed_f")
    eps = "; ".join(
        f"{name} {100 * row['DBSCAN']:.1f} against {100 * row['DBSCAN, label-free eps']:.1f}"
        for name, row in eps.iterrows()
    )
    beside = losses_apart[losses_apart["excludes 0"]]
    apart = "; ".join(f"{row['a']} {row['a − b']:+.1f}" for _, row in beside.iterrows())
    return (
        f"Rendered faces:\n\n- L-GCN − K-means with the true K, {', '.join(map(str, counts))} "
        f"people: {ours['a − b'].min():+.1f} to {ours['a − b'].max():+.1f} points of BCubed F; its "
        f"interval lies above 0 in {gains} of {len(ours)} cases, below 0 in {falls}.\n"
        f"- Mean precision and recall, {last} people: {both}\n"
        f"- DBSCAN, eps from held-out people against the label-free eps, {last} people: {eps}\n"
        f"- Against {names[0]}, {last} people, {len(beside)} of {len(losses_apart)} differences "
        f"between embeddings exclude 0 (not corrected for their number): {apart}"
    )
