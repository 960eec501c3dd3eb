"""Audit a training set against benchmarks, as frames.

RUN/embeddings/overlap-FOLDER.npz   (2, N, d) sums of the training identities' unit embeddings
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from facelib.audit import checks
from facelib.audit.hashes import duplicates, hash_images, hash_threshold, mismatch_counts
from facelib.audit.people_names import match_names
from facelib.data.datasets import FaceRecords, Jpegs
from facelib.digests import digest_values
from facelib.errors import UserError
from facelib.evaluate.embed import cached_embeddings, embed_benchmark, embed_images
from facelib.formats.benchmarks import Benchmark, load_benchmark, person_of_image, read_people
from facelib.metrics.geometry import centroids, unit
from facelib.runs.folder import load_run
from facelib.runs.origin import file_digest
from facelib.training.trained import load_model

log = logging.getLogger(__name__)
CHUNK = 16_384  # images embedded before they are added to their identities

PEOPLE_FILE = "people.txt"


class TrainingSet:
    """A training set as an audit needs it; names, hashes and sums are made once."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.records = FaceRecords(folder, size=112)
        self.names: list[str] | None = self.records.names

    @cached_property
    def hashes(self) -> np.ndarray:
        """uint64 (T,), in the order of the records."""
        log.info("%s: hashing %d images", self.folder.name, len(self.records))
        return hash_images(self.records.jpeg(i) for i in range(len(self.records)))

    def halves(self, run_dir: Path | str) -> np.ndarray:
        """Sums (2, N, d) of the unit embeddings of even and odd images, by a run's network."""
        run = load_run(run_dir)
        model, checkpoint = load_model(run)
        content = file_digest(self.records.reader.rec_path)
        parts = [checkpoint, str(self.folder.resolve()), content]
        key = digest_values(parts)
        path = run.path / "embeddings" / f"overlap-{self.folder.name}.npz"
        found = cached_embeddings(path, key, lambda: tuple(self._sums(model, run.config)))
        return np.stack(found)

    def _sums(self, model, cfg) -> np.ndarray:
        labels, total = self.records.labels, None
        half = pd.Series(labels).groupby(labels).cumcount().to_numpy() % 2
        for start in range(0, len(labels), CHUNK):
            rows = np.arange(start, min(start + CHUNK, len(labels)))
            emb = self._embed(model, cfg, rows)
            if total is None:
                total = np.zeros((2, self.records.classes, emb.shape[1]), np.float32)
            np.add.at(total, (half[rows], labels[rows]), emb)
        return total

    def embed(self, run_dir: Path | str, rows: np.ndarray) -> np.ndarray:
        """Unit embeddings (R, d) of some images by a run's network."""
        run = load_run(run_dir)
        return self._embed(load_model(run)[0], run.config, rows)

    def _embed(self, model, cfg, rows: np.ndarray) -> np.ndarray:
        images = Jpegs(self.records, rows)
        return unit(embed_images(model, images, cfg.image_size, fill_border=cfg.fill_border)[0])


@dataclass(frozen=True, eq=False)
class Audit:
    """What an audit found.

    Attributes:
        bench: the benchmark. candidates: `checks.join_signals`. people: `checks.people_table`, with
            bench_name and train_name where known. images: near-duplicate image pairs (row, label,
            image, id, bits, mirrored). facts: thresholds and counts.
    """

    bench: Benchmark
    candidates: pd.DataFrame
    people: pd.DataFrame
    images: pd.DataFrame
    facts: dict

    @property
    def labels(self) -> list[int]:
        """Training identities that any signal matches with somebody of the benchmark."""
        return sorted(set(self.candidates.loc[self.candidates["signals"] > 0, "label"].tolist()))


def benchmark_images(run_dir: Path | str, bench: Benchmark) -> np.ndarray:
    """Unit embeddings (U, d) of a benchmark by a run's network, cached beside the run."""
    run = load_run(run_dir)
    cfg, (model, checkpoint) = run.config, load_model(run)
    found = embed_benchmark(run.path, bench, model, checkpoint, cfg.image_size, cfg.fill_border)
    return unit(found[0])


def audit(
    train: TrainingSet,
    benchmark: Path,
    names: Path | None = None,
    run: Path | str | None = None,
) -> Audit:
    """Search a benchmark's people in a training set by every signal that is at hand.

    Args:
        names: lines `id<TAB>name` of the benchmark's people; None takes people.txt beside the
            `.bin`, and no names if there is none, or the training set has none.
        run: a trained run, whose network embeds both; None leaves that signal out.
    """
    bench = load_benchmark(benchmark)
    of_image = person_of_image(bench)
    ids = np.unique(of_image)
    facts: dict = {"train": str(train.folder), "benchmark": bench.name, "people": len(ids)}
    facts |= {"identities": train.records.classes, "images": len(train.records)}
    beside = Path(benchmark).with_name(PEOPLE_FILE)
    known = read_people(names or beside) if names or beside.is_file() else {}
    by_name = _names(train, known, ids) if known and train.names else None
    images = _images(train, bench, of_image, facts)
    embedded, threshold = None, np.inf
    if run:
        halves = train.halves(run)
        threshold = checks.impostor_threshold(halves)
        means = centroids(benchmark_images(run, bench), np.searchsorted(ids, of_image))
        others = [frame[["id", "label"]] for frame in (by_name, images) if frame is not None]
        embedded = checks.match_embeddings(halves.sum(0), means, ids, also=pd.concat(others))
        facts |= {"similarity_threshold": threshold, "match_rate": checks.MATCH_RATE}
    candidates = checks.join_signals(by_name, images, embedded, threshold)
    people = checks.people_table(candidates, ids)
    people["bench_name"] = [known.get(int(i), "") for i in people.index]
    people["train_name"] = [
        train.names[i] if train.names and i >= 0 else "" for i in people["label"]
    ]
    used = {"by_name": by_name is not None, "by_hash": True, "by_embedding": embedded is not None}
    for column, title in checks.SIGNALS.items():
        matched = candidates.loc[candidates[column], "id"]
        facts[f"people_by_{title}"] = matched.nunique() if used[column] else None
    facts["people_by_any"] = candidates.loc[candidates["signals"] > 0, "id"].nunique()
    return Audit(bench, candidates, people, images, facts)


def _names(train: TrainingSet, known: dict[int, str], ids: np.ndarray) -> pd.DataFrame:
    numbers = [i for i in ids.tolist() if i in known]
    if not numbers:
        raise UserError(
            f"none of the {len(known)} ids of the names file is in the benchmark (its ids run from "
            f"{ids[0]} to {ids[-1]}); the ids must be those of its .meta.npz"
        )
    found = match_names(train.names, [known[i] for i in numbers])
    found = found.rename(columns={"train": "label"})
    return found.assign(id=[numbers[j] for j in found["bench"]])


def _images(train: TrainingSet, bench: Benchmark, of_image: np.ndarray, facts: dict):
    hashes = hash_images(bench.images)
    counts = mismatch_counts(hashes, of_image)
    most = hash_threshold(counts)
    facts |= {"hash_threshold_bits": most, "hash_known_mismatches": int(counts.sum())}
    found = duplicates(train.hashes, hashes, most).rename(
        columns={"train": "row", "bench": "image"}
    )
    return found.assign(label=train.records.labels[found["row"]], id=of_image[found["image"]])


def summary(found: Sequence[Audit]) -> pd.DataFrame:
    """One row per benchmark: people matched by each signal and by any, and the share of all."""
    rows = {}
    for one in found:
        row = {"people": one.facts["people"]}
        for title in [*checks.SIGNALS.values(), "any"]:
            count = one.facts[f"people_by_{title}"]
            row[title] = "not searched" if count is None else count
        row["share"] = f"{one.facts['people_by_any'] / one.facts['people']:.1%}"
        row["training identities"] = len(one.labels)
        rows[one.bench.name] = row
    return pd.DataFrame(rows).T.rename_axis("benchmark")
