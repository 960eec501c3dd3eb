"""People held out of training, before and after: two runs that differ in these people alone.

The *full* run trains on all its training identities, the *held-out* run on the same ones without
some of them, for as many steps, with the same settings. The same images of these people are then
embedded by both networks: by the full one as people it was trained on, by the other as strangers.
Two more groups say what else changes between the two runs: people whom both trained on, and the
benchmark's people, whom neither knows.

Every group is measured against the same centres: unit means of the people that both runs trained
on, one's own centre left out. Symbols: U images, P pairs, K people in both, d dimensions.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from facelib.config import Config
from facelib.data.datasets import open_records
from facelib.data.locate import exclusion_file
from facelib.data.split import split_records
from facelib.digests import digest
from facelib.errors import UserError
from facelib.formats.benchmarks import person_of_image
from facelib.metrics import geometry as an
from facelib.paths import atomic_file, data_root
from facelib.safety.readers import read_rows
from facelib.studies.centres import SEED, Geometry, training_records

FIGURES = {
    "own pairs": "mean cosine of two images of one person",
    "own centre": "mean cosine to the centre of the person's other images",
    "nearest other": "mean cosine to the nearest centre of another person, trained on by both",
    "closer": "share of pairs whose first image is nearer to that centre than to its partner",
    "same centre": "share of pairs whose images have the same nearest other centre",
    "verified": "share of pairs above the run's global threshold",
}
TRAINED, STRANGERS = "trained on", "held out"
GROUPS = ("the held-out people", "people of both trainings", "the benchmark's people")


@dataclass(frozen=True)
class Embedded:
    """Images of some people, their pairs, and the centres they are compared with."""

    emb: np.ndarray  # (U, d) unit rows
    person: np.ndarray  # (U,) identity
    a: np.ndarray  # (P,) images of each genuine pair
    b: np.ndarray  # (P,)
    centres: np.ndarray  # (K, d) unit rows
    own: np.ndarray  # (U,) which of the K centres is the image's own, −1 if none
    threshold: float  # cosine above which a pair is accepted


def held_out_labels(cfg: Config, people: int) -> np.ndarray:
    """Labels (people,), ascending: a random choice among the training identities of a config.

    Raises:
        UserError: fewer than two people, or fewer than two left to train on.
    """
    records, chosen = training_records(cfg)
    trained = np.unique(records.labels[chosen])
    if not 2 <= people <= len(trained) - 2:
        raise UserError(
            f"held out people={people}: allowed are 2 … {len(trained) - 2}, since "
            f"{len(trained)} identities are trained on"
        )
    return np.sort(np.random.default_rng(SEED).choice(trained, people, replace=False))


def without(cfg: Config, people: np.ndarray) -> Config:
    """The config that trains on all training identities of `cfg` but the labels `people`.

    Where validation takes whole identities, these are left out as well and validation is switched
    off: drawn anew among fewer identities, it would fall on others, and the two runs would differ
    in more than `people`. The list lies among the data sets and is named by its content, so that
    the run's folder is the same on every machine.
    """
    records = open_records(cfg)
    left_out = np.asarray(people)
    if cfg.split == "identity":
        left_out = np.r_[left_out, np.unique(records.labels[split_records(cfg, records.labels)[1]])]
    before = exclusion_file(cfg)
    lines = read_rows(before, "one name or label a line") if before else []
    lines += [str(label) for label in np.unique(records.stored[np.isin(records.labels, left_out)])]
    text = "".join(f"{line}\n" for line in lines if line.strip())
    name = f"held-out-{digest(text, digits=8)}.txt"
    with atomic_file(data_root() / name) as temporary:
        temporary.write_text(text, encoding="utf-8")
    changes = {"val_fraction": 0.0} if cfg.split == "identity" else {}
    return cfg.replace(exclude=name, **changes)


def genuine_pairs(person: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs (P,), (P,) of two images of one person; person (U,)."""
    rows = [np.flatnonzero(person == k) for k in np.unique(person)]
    found = [r[np.array(np.triu_indices(len(r), 1))] for r in rows]
    return tuple(np.concatenate(found, axis=1))


def embedded(
    full: Geometry, heldout: Geometry, people: np.ndarray, name: str, group: str
) -> tuple[Embedded, Embedded]:
    """A group of `GROUPS` under both networks; `people`: of `held_out_labels`.

    `name` is the benchmark of the third group and of both runs' global thresholds.
    """
    cfg = full.result.config
    records, chosen = training_records(cfg)
    trained = np.unique(records.labels[chosen])
    out = np.isin(trained, people)
    centre_of = np.full(len(trained), -1)
    centre_of[~out] = np.arange((~out).sum())
    chosen = out
    if group == GROUPS[1]:  # as many as were held out
        kept = np.random.default_rng(SEED).choice(np.flatnonzero(~out), out.sum(), replace=False)
        chosen = np.isin(np.arange(len(trained)), kept)
    return tuple(_of_run(run, cfg, name, group, centre_of, chosen) for run in (full, heldout))


def _of_run(run: Geometry, cfg: Config, name, group, centre_of, chosen) -> Embedded:
    emb, label = run.training_images(cfg)
    kept = centre_of[label] >= 0
    centres = an.centroids(emb[kept], centre_of[label[kept]])
    if group == GROUPS[2]:
        scores, emb = run.result.scores(name), run.images(name)
        person = person_of_image(scores)
        a, b = scores.index1[scores.same], scores.index2[scores.same]
        own = np.full(len(emb), -1)
    else:
        rows = np.flatnonzero(chosen[label])
        emb, person, own = emb[rows], label[rows], centre_of[label[rows]]
        a, b = genuine_pairs(person)
    return Embedded(emb, person, a, b, centres, own, run.threshold(name))


def measure(of: Embedded) -> dict[str, np.ndarray]:
    """Figures of `FIGURES` as values (P,) of the genuine pairs, images as those of side a."""
    nearest, which = an.nearest_centres(of.emb, of.centres, skip=of.own)
    pair = np.einsum("pd,pd->p", of.emb[of.a], of.emb[of.b])
    values = {
        "own pairs": pair,
        "own centre": own_centre(of.emb, of.person)[of.a],
        "nearest other": nearest[of.a],
        "closer": nearest[of.a] > pair,
        "same centre": which[of.a] == which[of.b],
        "verified": pair > of.threshold,
    }
    return {key: values[key].astype(np.float64) for key in FIGURES}


def own_centre(emb: np.ndarray, person: np.ndarray) -> np.ndarray:
    """Cosine (U,) of unit rows (U, d) to the mean of their person's *other* rows; NaN if alone."""
    _, row, counts = np.unique(person, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), emb.shape[1]))
    np.add.at(sums, row, emb)
    others = sums[row] - emb
    alone = counts[row] == 1
    length = np.where(alone, np.nan, np.linalg.norm(others, axis=1))
    return np.einsum("ud,ud->u", emb, others) / length


def strangers_table(
    full: Geometry, heldout: Geometry, people: np.ndarray, name: str
) -> pd.DataFrame:
    """Before (full run) and after, by figure and group: both means, and their paired change.

    lo and hi: 95 % interval of the change over identities. It knows these two runs
    only: how far two trainings differ anyway, the other two groups show.
    """
    rows = {}
    for group in GROUPS:
        sides = embedded(full, heldout, people, name, group)
        before, after = (measure(side) for side in sides)
        ids = sides[0].person[sides[0].a]
        for figure in FIGURES:
            change = an.mean_interval(after[figure] - before[figure], ids)
            rows[figure, group] = {
                TRAINED: before[figure].mean(),
                STRANGERS: after[figure].mean(),
                **dict(zip(("change", "lo", "hi"), change)),
            }
    return pd.DataFrame(rows).T.rename_axis(["figure", "people"]).loc[list(FIGURES)]


def similarity_frame(sides: Mapping[str, Embedded]) -> pd.DataFrame:
    """Long frame for histograms: run (the mapping's key), kind, cosine."""
    found = {run: measure(side) for run, side in sides.items()}
    kinds = ("own pairs", "nearest other")
    frames = [pd.DataFrame({"run": run, "kind": kind, "cosine": values[kind]})
              for run, values in found.items() for kind in kinds]  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def nearest_faces(
    full: Geometry, heldout: Geometry, people: np.ndarray, count: int
) -> tuple[list[bytes], list[str]]:
    """Held-out people beside the person that either network takes for the nearest: a grid.

    3·count encoded images and their titles, row by row: `count` held-out people (the image nearest
    to the own centre under the full run), then whom the full run and whom the held-out run puts
    nearest, each shown by the image nearest to that person's centre.
    """
    cfg = full.result.config
    records, chosen = training_records(cfg)
    labels = full.training_images(cfg)[1]
    trained = np.unique(records.labels[chosen])
    out = np.isin(trained[labels], people)
    emb = full.train[0]
    own = own_centre(emb[out], labels[out])
    best = pd.DataFrame({"row": np.flatnonzero(out), "person": labels[out], "own": own})
    best = best.sort_values("own").groupby("person").tail(1).sort_values("person")
    queries = best["row"].to_numpy()[np.linspace(0, len(best) - 1, count).round().astype(int)]
    rows, titles = [queries], ["person"] * count
    for run, told in ((full, "known"), (heldout, "held out")):
        emb = run.training_images(cfg)[0]
        centres = an.centroids(emb[~out], np.unique(labels[~out], return_inverse=True)[1])
        cosine, which = an.nearest_centres(emb[queries], centres)
        shown = [np.flatnonzero(~out)[(emb[~out] @ centres[w]).argmax()] for w in which]
        rows.append(np.array(shown))
        titles += [f"{told} {c:.2f}" for c in cosine]
    return [records.jpeg(chosen[row]) for row in np.concatenate(rows)], titles
