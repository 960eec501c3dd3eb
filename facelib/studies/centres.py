"""Centres of a trained run, and its geometry as frames (formulas: `metrics/geometry.py`).

    RUN/embeddings/train.npz   emb (T, d) float32 of the training images, as the network gives them

A run's centres are of two kinds: "classifier" (the learned weights of ArcFace and the hybrid) and
"centroids" (unit mean of each training identity's unit embeddings), which every loss has.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
import torch

from facelib.config import Config
from facelib.data.datasets import FaceRecords, Jpegs, open_records
from facelib.data.split import split_records
from facelib.evaluate.embed import embed_once
from facelib.formats.benchmarks import person_of_image
from facelib.metrics import geometry as an
from facelib.metrics import intervals as iv
from facelib.metrics.scores import Scores
from facelib.studies.results import Result
from facelib.training.trained import load_model, load_trained

FAR = 0.01  # of the global threshold
SEED = 0  # of rotations and Gaussian draws
ROTATIONS = 5  # of the agreement's control
KEYS = ["benchmark", "loss", "centres"]


@dataclass(frozen=True)
class Geometry:
    """Embeddings, centres and pairs of an evaluated run; everything is read once, when needed."""

    result: Result
    _training: dict[str, tuple[np.ndarray, np.ndarray]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def train(self) -> tuple[np.ndarray, np.ndarray]:
        """`training_images` of the run's own config."""
        return self.training_images(self.result.config)

    def training_images(self, cfg: Config) -> tuple[np.ndarray, np.ndarray]:
        """The training images of `cfg`, which may be another run's, under this run's network.

        Unit embeddings (T, d), not mirrored, and labels (T,), 0 … N − 1 in the records' order.
        Cached beside the run under the checkpoint's digest; d·4 bytes per image (MS1M: 9 GB).
        """
        if cfg.digest() not in self._training:
            self._training[cfg.digest()] = self._embed_training(cfg)
        return self._training[cfg.digest()]

    def _embed_training(self, cfg: Config) -> tuple[np.ndarray, np.ndarray]:
        own, folder = self.result.config, self.result.folder
        records, chosen = training_records(cfg)
        checkpoint = load_trained(folder)["digest"]
        name, key = "train", checkpoint
        if cfg.digest() != own.digest():
            name, key = f"train-of-{cfg.digest()}", f"{checkpoint} {cfg.digest()}"
        emb = embed_once(
            folder / "embeddings" / f"{name}.npz", key, Jpegs(records, chosen), own.image_size,
            lambda: load_model(folder)[0], own.fill_border,
        )  # fmt: skip
        return an.unit(emb), np.unique(records.labels[chosen], return_inverse=True)[1]

    @cached_property
    def centres(self) -> dict[str, np.ndarray]:
        """Kind -> unit centres (N, d): "classifier" if the loss has one, and "centroids"."""
        weights = classifier_weights(load_trained(self.result.folder)["learner"])
        found = {} if weights is None else {"classifier": an.unit(weights)}
        return found | {"centroids": an.centroids(*self.train)}

    def images(self, name: str) -> np.ndarray:
        """Unit embeddings (U, d) of a benchmark's unique images (not mirrored)."""
        return an.unit(self.result.embeddings(name))

    def title(self, name: str) -> str:
        """The benchmark as tables call it: rendered faces are called so."""
        return self.result.title(name)

    def threshold(self, name: str) -> float:
        """One global cosine threshold: FAR 0.01 on all impostor pairs of one benchmark, pooled."""
        scores = self.result.scores(name)
        return an.global_threshold(scores.score, scores.same, FAR)


def training_records(cfg: Config) -> tuple[FaceRecords, np.ndarray]:
    """The records of a config, and the indices of those that train."""
    records = open_records(cfg)
    return records, split_records(cfg, records.labels)[0]


def classifier_weights(learner: dict[str, torch.Tensor]) -> np.ndarray | None:
    """The classifier's weights (N, d) from a checkpoint's learner, or None if the loss has none."""
    for key, tensor in learner.items():
        if key.startswith("criterion.") and key.endswith("weight") and tensor.ndim == 2:
            return tensor.float().numpy()
    return None


def snapping_table(runs: Sequence[Geometry]) -> pd.DataFrame:
    """Source A's table for positive pairs, by benchmark, loss and kind of centre."""
    return _frame(runs, lambda *of: an.snapping(*_cosines(*of)))


def null_table(runs: Sequence[Geometry]) -> pd.DataFrame:
    """Mean centre similarity of images A of positive pairs, beside that of the nulls.

    Columns: centre sim; isotropic, rotated, Gaussian (the nulls of `metrics/geometry.py`); nearest
    sample (largest cosine to a single training image); excess, lo, hi (centre sim − Gaussian, with
    a 95 % interval over identities); above 95 % (share of images above the Gaussian's 95th
    percentile; 0.05 without snapping); … closer (share of pairs whose similarity is below the
    centre similarity of A, of the rotated A, of a Gaussian draw).
    """

    def row(run: Geometry, kind: str, name: str) -> dict:
        scores = run.result.scores(name)
        emb = run.images(name)[scores.index1[scores.same]]
        nearest = an.nearest_centres(emb, run.train[0])[0].mean()
        return nulls_row(run, kind, name) | {"nearest sample": nearest}

    frame = _frame(runs, row)
    first = ["centre sim", "isotropic", "rotated", "Gaussian", "nearest sample"]
    return frame[[*first, *(column for column in frame if column not in first)]]


def nulls_row(run: Geometry, kind: str, name: str) -> dict:
    """A row of `null_table`, without the nearest sample."""
    rng = np.random.default_rng(SEED)
    scores, emb, centres = run.result.scores(name), run.images(name), run.centres[kind]
    a = scores.index1[scores.same]
    pair, real, _ = _cosines(run, kind, name)
    rotated = an.nearest_centres(an.random_rotation(emb, rng)[a], centres)[0]
    drawn = an.nearest_centres(an.gaussian_like(emb[a], len(a), rng), centres)[0]
    excess = an.mean_interval(real - drawn.mean(), scores.id1[scores.same])
    return {
        "centre sim": real.mean(),
        "isotropic": an.expected_maximum(*centres.shape),
        "rotated": rotated.mean(),
        "Gaussian": drawn.mean(),
        **dict(zip(("excess", "lo", "hi"), excess)),
        "above 95 %": np.mean(real > np.percentile(drawn, 95)),
        "A closer": np.mean(real > pair),
        "rotated closer": np.mean(rotated > pair),
        "Gaussian closer": np.mean(drawn > pair),
    }


def unseen_table(runs: Sequence[Geometry]) -> pd.DataFrame:
    """Are strangers closer to people of the training than to other strangers?

    For images A of positive pairs: mean cosine to the nearest centroid of the benchmark's other
    people ("unseen people"), and to that of as many random training people with as many images each
    ("training people"; the benchmark's median). Their difference with a 95 % interval over
    identities is what training pulled towards its own centres.
    """
    return _plain_frame(runs, unseen_row)


def unseen_row(run: Geometry, name: str) -> dict:
    """A row of `unseen_table`."""
    scores, emb = run.result.scores(name), run.images(name)
    a, person = scores.index1[scores.same], person_of_image(scores)
    counts = np.unique(person, return_counts=True)[1]
    train, labels = run.train
    people, each = min(len(counts) - 1, labels.max() + 1), int(np.median(counts))
    rows, kept = an.thinned(labels, people, each, np.random.default_rng(SEED))
    unseen = an.nearest_others(emb, person)[a]
    trained = an.nearest_centres(emb[a], an.centroids(train[rows], kept))[0]
    difference = an.mean_interval(trained - unseen, person[a])
    sides = {"unseen people": unseen.mean(), "training people": trained.mean()}
    difference = dict(zip(("difference", "lo", "hi"), difference))
    return {"people": people, "images each": each} | sides | difference


def agreement_table(runs: Sequence[Geometry], threshold_from: str) -> pd.DataFrame:
    """Do both sides snap to one centre, and are those pairs verified correctly?

    A pair is verified correctly if it is accepted (positive) or refused (impostor) at the run's
    global threshold, taken from the benchmark `threshold_from`.

    Columns: shares, counts, odds ratio with lo, hi, corrected (`geometry.TwoByTwo`); rotated …: the
    same for five random rotations of the embeddings, whose pairs are as similar while the centres
    mean nothing.
    """
    frames = []
    for kind, same in (("positive", True), ("impostor", False)):
        frame = _frame(runs, lambda *key, same=same: agreement_row(*key, same, threshold_from))
        frames.append(frame.assign(pairs=kind).set_index("pairs", append=True))
    return pd.concat(frames).sort_index(level=KEYS, sort_remaining=False, key=_order)


def agreement_row(run: Geometry, centres: str, name: str, same: bool, threshold_from: str) -> dict:
    """A row of `agreement_table`."""
    scores = run.result.scores(name)
    rows = scores.same == same
    correct = (scores.score[rows] > run.threshold(threshold_from)) == same
    emb, rng = run.images(name), np.random.default_rng(SEED)

    def snapped(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        which = an.nearest_centres(images, run.centres[centres])[1]
        return which[scores.index1[rows]], which[scores.index2[rows]]

    a, b = snapped(emb)
    share, chance = an.agreement(a, b)
    people = iv.People(scores.id1[rows], scores.id2[rows], rows.sum())
    table = an.two_by_two(a == b, correct, people)
    turned = [np.equal(*snapped(an.random_rotation(emb, rng))) for _ in range(ROTATIONS)]
    control = an.two_by_two(np.concatenate(turned), np.tile(correct, ROTATIONS))
    (both, wrong), (other, neither) = table.counts
    cells = ("same & correct", "same & wrong", "other & correct", "other & wrong")
    odds = {"odds ratio": table.odds_ratio, "lo": table.lo, "hi": table.hi}
    return {
        "same centre": share,
        "by chance": chance,
        "correct if same": both / (both + wrong) if both + wrong else np.nan,
        "correct if not": other / (other + neither) if other + neither else np.nan,
        **dict(zip(cells, table.counts.ravel())),
        **odds,
        "corrected": table.corrected,
        "rotated same": np.mean(turned),
        "rotated odds": control.odds_ratio,
    }


def spread_table(runs: Sequence[Geometry]) -> pd.DataFrame:
    """Alignment, uniformity, effective dimensions, mean similarities and their gap.

    One row per benchmark and loss; the spectrum is that of the benchmark's unit embeddings.
    """

    def row(run: Geometry, name: str) -> dict:
        scores, emb = run.result.scores(name), run.images(name)
        sides = emb[scores.index1[scores.same]], emb[scores.index2[scores.same]]
        figures = {"alignment": an.alignment(*sides), "uniformity": an.uniformity(emb)}
        dimension, gap = an.effective_dimension(an.spectrum(emb)), similarities(scores)
        return figures | dict(zip(("participation ratio", "exp-entropy"), dimension)) | gap

    return _plain_frame(runs, row)


def similarities(scores: Scores) -> dict[str, float]:
    """Mean cosines of positive and negative pairs, and their gap."""
    figures = an.similarity_gap(scores.score, scores.same)
    return dict(zip(("positives", "negatives", "gap"), figures))


def spectrum_frame(runs: Sequence[Geometry], name: str) -> pd.DataFrame:
    """Cumulated share of the variance over the dimension: dimension, share, name (the loss)."""
    frames = []
    for run in runs:
        frame = {"share": np.cumsum(an.spectrum(run.images(name))), "name": run.result.label}
        frames.append(pd.DataFrame(frame).rename_axis("dimension").reset_index())
    return pd.concat(frames, ignore_index=True).assign(dimension=lambda f: f["dimension"] + 1)


def threshold_table(runs: Sequence[Geometry], threshold_from: str) -> pd.DataFrame:
    """The global threshold of each run, and the TAR and FAR that it gives on every benchmark."""

    def row(run: Geometry, name: str) -> dict:
        scores, threshold = run.result.scores(name), run.threshold(threshold_from)
        passed = scores.score > threshold
        shares = {"TAR": passed[scores.same].mean(), "FAR": passed[~scores.same].mean()}
        return {"threshold": threshold} | shares

    return _plain_frame(runs, row)


def _cosines(run: Geometry, kind: str, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(P,) each of the positive pairs: pair similarity, centre similarity of A and of B."""
    scores = run.result.scores(name)
    best, _ = an.nearest_centres(run.images(name), run.centres[kind])
    same = scores.same
    return scores.score[same], best[scores.index1[same]], best[scores.index2[same]]


def _frame(runs: Sequence[Geometry], figures) -> pd.DataFrame:
    """figures(run, kind of centre, benchmark) as rows, indexed by benchmark, loss and centres."""
    rows = {
        (run.title(name), run.result.label, kind): figures(run, kind, name)
        for run in runs
        for kind in run.centres
        for name in run.result.benchmarks
    }
    return _sorted(rows, KEYS)


def _plain_frame(runs: Sequence[Geometry], figures) -> pd.DataFrame:
    """figures(run, benchmark) as rows, indexed by benchmark and loss."""
    rows = {(run.title(n), run.result.label): figures(run, n)
            for run in runs for n in run.result.benchmarks}  # fmt: skip
    return _sorted(rows, KEYS[:2])


def _sorted(rows: dict[tuple, dict], keys: list[str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows).T.infer_objects().rename_axis(keys)
    return frame.sort_index(level=0, sort_remaining=False, kind="stable", key=_order)


def _order(level: pd.Index) -> pd.Index:
    """Values of an index level by first appearance."""
    return level.map({value: i for i, value in enumerate(dict.fromkeys(level))})
