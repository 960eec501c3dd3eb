"""The spaces of ArcFace and InfoNCE over repeats: how tight people are, if one maps to the other.

    python -m facelib.studies.spaces runs/sweeps/rendered-breadth/results.jsonl

measures the finished runs of a sweep of 14_breadth_and_depth and writes the record
`rendered-spaces`.
"""

import argparse
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from facelib.formats.benchmarks import person_of_image
from facelib.metrics import geometry as an
from facelib.metrics.verification import auc
from facelib.paths import runs_root
from facelib.runs.files import read_sweep_rows
from facelib.runs.folder import load_run
from facelib.safety.guard import guarded
from facelib.studies import breadth
from facelib.studies.centres import Geometry, unseen_row
from facelib.studies.claims import correct, family_note, points_by
from facelib.studies.records import publish, t_interval
from facelib.studies.results import evaluate
from facelib.studies.source_a import BENCHMARKS
from facelib.studies.transfer import corrected_ranks, rank_correlation, rank_text

RECORD = "rendered-spaces"
PARTNER = {"arcface": "infonce", "infonce": "arcface"}
# Column of a record -> what it is.
FIGURES = {
    "trained": "spread of trained people",
    "unseen": "spread of unseen people",
    "pull": "pull towards trained people",
    "explained": "variance that the partner's space explains",
    "mapped": "AUC of mapped pictures against the partner's",
}


def measure(rows: Sequence[tuple[str, Geometry]]) -> list[list[dict]]:
    """Figures of runs by method: those of a run on each of its benchmarks.

    Args:
        rows: method and run; the partner of a run is the other method's on the same people, order
            and seed, if it is among them.

    Returns:
        For each run, a row per benchmark: trained and unseen (`geometry.class_spread` of training
        and of test people), pull (cosine to the nearest training person less that to the nearest
        other test person), and, fitted on the training images by least squares from the partner's
        space to the run's: explained (share of the variance of test images), mapped (AUC of pairs
        whose first picture comes from the partner's space), auc (both from the run's own).
    """
    known = {(method, _people(run)): run for method, run in rows}
    return [_lines(run, known.get((PARTNER.get(m), _people(run)))) for m, run in rows]


def _people(run: Geometry) -> tuple:
    """What two runs must share to be partners: training images, their order, and the length."""
    cfg = run.result.config
    shape = cfg.data, cfg.subset, cfg.data_identities, cfg.data_images, cfg.data_seed
    return *shape, cfg.seed, cfg.images_seen


def _lines(run: Geometry, partner: Geometry | None) -> list[dict]:
    emb, labels = run.train
    weights = partner and an.fit_linear(partner.train[0], emb)
    trained, lines = an.class_spread(emb, labels), []
    for name in run.result.benchmarks:
        scores, images = run.result.scores(name), run.images(name)
        line = {
            "benchmark": name,
            "rendered": run.result.rendered,
            "trained": trained,
            "unseen": an.class_spread(images, person_of_image(scores)),
            "pull": unseen_row(run, name)["difference"],
            "auc": auc(_cosines(images, images, scores), scores.same),
            "accuracy": run.result.report["benchmarks"][name]["best"]["accuracy"],
        }
        if partner:
            mapped = an.apply_linear(partner.images(name), weights)
            left = ((images - mapped) ** 2).sum() / ((images - images.mean(0)) ** 2).sum()
            cosines = _cosines(an.unit(mapped), images, scores)
            line |= {"explained": 1 - left, "mapped": auc(cosines, scores.same)}
        lines.append(line)
    return lines


def _cosines(first: np.ndarray, second: np.ndarray, scores) -> np.ndarray:
    return (first[scores.index1] * second[scores.index2]).sum(1)


def table(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Mean [95 % t interval over repeats] of each figure, by shape and method, on one benchmark."""
    part, rows = frame[frame["benchmark"] == name], {}
    for key, runs in part.groupby(["people", "shape", "method"]):
        found = {label: t_interval(runs[column].to_numpy()) for column, label in FIGURES.items()}
        rows[key[1:]] = {
            label: f"{m:.3f} [{lo:.3f}, {hi:.3f}]" for label, (m, lo, hi) in found.items()
        }
    index = pd.MultiIndex.from_tuples(rows, names=["people × pictures", "method"])
    return pd.DataFrame([*rows.values()], index).rename(index=breadth.METHODS, level="method")


def gaps(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """ArcFace − InfoNCE in spread and pull on each shape, in hundredths: one family."""
    rows = []
    for column in ("trained", "unseen", "pull"):
        found = breadth.points_of(frame, column, name)
        for shape in breadth.shapes_of(frame):
            gap = found["arcface", shape] - found["infonce", shape]
            rows.append(breadth.gap_row(gap, figure=FIGURES[column], shape=shape))
    return correct(pd.DataFrame(rows))


def mapped_gaps(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """AUC of mapped pictures against the partner's, less that of the run's own, in hundredths.

    By direction (`into`: the method whose space is the target) and shape: one family.
    """
    gap = breadth.points_of(frame, "mapped", name) - breadth.points_of(frame, "auc", name)
    rows = [
        breadth.gap_row(gap[method, shape], into=breadth.METHODS[method], shape=shape)
        for method in PARTNER
        for shape in breadth.shapes_of(frame)
    ]
    return correct(pd.DataFrame(rows))


def predictions(frame: pd.DataFrame) -> pd.DataFrame:
    """Does the spread of people predict accuracy? Rank correlations over runs, one family.

    All shapes and methods together; runs are taken as independent.
    """
    rows = []
    for name, column in product(breadth.POSES, ("trained", "unseen")):
        part = frame[frame["benchmark"] == name]
        found = rank_correlation(-part[column], part["accuracy"], "runs")
        rows.append({"people": column, "benchmark": BENCHMARKS[name], **found})
    return corrected_ranks(rows)


def sentences(frame: pd.DataFrame, name: str) -> list[str]:
    """What the repeats say of the two spaces, on one benchmark."""
    found, into = gaps(frame, name), mapped_gaps(frame, name)
    lines = [f"ArcFace − InfoNCE, {figure}: {points_by(part, 'shape')}"
             for figure, part in found.groupby("figure", sort=False)]  # fmt: skip
    lines += [f"pictures mapped into {method}'s space, AUC less its own: {points_by(part, 'shape')}"
              for method, part in into.groupby("into", sort=False)]  # fmt: skip
    lines.append(family_note(found, into).replace("percentage points", "above, hundredths"))
    for row in predictions(frame).to_dict("records"):
        lines.append(
            f"rank correlation of the tightness of {row['people']} people and the accuracy on "
            f"{row['benchmark']}, over {row['repeats']} runs of all shapes and methods: "
            f"{rank_text(row)}"
        )
    return lines


def main() -> None:
    """Measure the finished runs of a sweep of 14_breadth_and_depth and write their record."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("results", type=Path, nargs="+", help="results.jsonl of a sweep")
    options = parser.parse_args()
    rows = [row for path in options.results for row in read_sweep_rows(path)]
    runs = [Geometry(evaluate(load_run(runs_root() / row["run"]), bootstrap=0)) for row in rows]
    found = measure([(row["method"], run) for row, run in zip(rows, runs)])
    rows = [{k: v for k, v in row.items() if k != "report"} | {"lines": lines}
            for row, lines in zip(rows, found)]  # fmt: skip
    names = " ".join(
        f"runs/sweeps/{path.resolve().parent.name}/{path.name}" for path in options.results
    )
    publish(rows, RECORD, f"python -m facelib.studies.spaces {names}")


if __name__ == "__main__":
    raise SystemExit(guarded(main))
