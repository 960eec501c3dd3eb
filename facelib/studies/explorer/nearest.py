"""Whom of the training a picture is near: a run's class centres, each with that person's picture.

A loss without class centres gets the mean embeddings of a sample of its training people.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facelib.data.datasets import Jpegs
from facelib.errors import BadData, UserError
from facelib.evaluate.embed import embed_once
from facelib.metrics import geometry as an
from facelib.studies.centres import classifier_weights, training_records
from facelib.studies.results import Result
from facelib.training.trained import load_model, load_trained

log = logging.getLogger(__name__)
NEAREST = 3  # centres of each picture
PEOPLE, IMAGES = 1000, 5  # of a sample: training people, pictures of each
FACES = 8000  # training people with a picture in one page: those that are nearest most often
NO_FACE = 65535


@dataclass(frozen=True)
class Centres:
    """Unit centres (N, d) of training people, with a name and an encoded picture of each."""

    kind: str
    unit: np.ndarray
    names: Sequence[str]
    pictures: Sequence[bytes]


def training_centres(result: Result) -> Centres | None:
    """The centres of a run; None, and a line in the log, where weights or data are gone."""
    try:
        weights = classifier_weights(load_trained(result.folder)["learner"])
        records, chosen = training_records(result.config)
        people, first, label = np.unique(
            records.labels[chosen], return_index=True, return_inverse=True
        )
        if weights is not None and len(weights) == len(people):
            kind, unit, shown = "class centres", an.unit(weights), np.arange(len(people))
        else:
            count = min(PEOPLE, len(people))
            rows, new = an.thinned(label, count, IMAGES, np.random.default_rng(0))
            kind = f"mean embeddings of {count} of {len(people)} training people"
            model, checkpoint = load_model(result.folder)
            emb = embed_once(
                Path(result.folder) / "embeddings" / "sample.npz",
                f"{checkpoint} {PEOPLE} {IMAGES}", Jpegs(records, chosen[rows]),
                result.config.image_size, lambda: model, result.config.fill_border,
            )  # fmt: skip
            unit = an.centroids(emb, new)
            shown = label[rows[np.unique(new, return_index=True)[1]]]
    except (UserError, BadData, OSError) as error:
        log.info("%s: no nearest training people (%s)", result.label, error)
        return None
    names = [str(records.names[p]) if records.names else str(p) for p in people[shown]]
    return Centres(kind, unit, names, Jpegs(records, chosen[first[shown]]))


class Faces:
    """The training people of all runs of a page, each person's picture once."""

    def __init__(self, results: Sequence[Result]):
        self.centres = [training_centres(result) for result in results]
        self.found: dict[tuple[int, str], tuple[np.ndarray, np.ndarray]] = {}
        self.count: Counter[tuple[str, bytes]] = Counter()

    def kinds(self) -> list[str]:
        """What each run's centres are; "" where it has none."""
        return [centres.kind if centres else "" for centres in self.centres]

    def look(self, number: int, name: str, emb: np.ndarray) -> None:
        """Find the nearest centres of a benchmark's embeddings (U, d) under a run."""
        centres = self.centres[number]
        if centres is None:
            return
        which, cosine = nearest_few(an.unit(emb), centres.unit)
        people, inverse, often = np.unique(which, return_inverse=True, return_counts=True)
        keys = [(centres.names[p], centres.pictures[p]) for p in people]
        self.count.update(dict(zip(keys, often.tolist(), strict=True)))
        self.found[number, name] = keys, inverse.reshape(which.shape), cosine

    def shown(self) -> dict[tuple[str, bytes], int]:
        """The people of the page: (name, picture) -> number."""
        return {key: i for i, (key, _) in enumerate(self.count.most_common(FACES))}

    def of(self, number: int, name: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Numbers of the nearest people (U, 3), `NO_FACE` where left out, and their cosines."""
        if (number, name) not in self.found:
            return None
        keys, which, cosine = self.found[number, name]
        shown = self.shown()
        return np.array([shown.get(key, NO_FACE) for key in keys])[which], cosine


def nearest_few(
    emb: np.ndarray, centres: np.ndarray, count: int = NEAREST, block: int = 1024
) -> tuple[np.ndarray, np.ndarray]:
    """The `count` nearest centres (U, count) of unit embeddings (U, d), and their cosines."""
    parts = []
    for start in range(0, len(emb), block):
        cosine = emb[start : start + block] @ centres.T
        top = np.argsort(-cosine, axis=1, kind="stable")[:, :count]
        parts.append((top, np.take_along_axis(cosine, top, 1)))
    which, cosine = zip(*parts)
    return np.concatenate(which), np.concatenate(cosine)
