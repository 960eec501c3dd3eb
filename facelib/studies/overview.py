"""The geometry of any number of finished runs in one table; training centroids for all.

Every run whose network maps images to embeddings can be added: with a classifier or without, of any
dimension, fully trained or with adapters.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from facelib.config import Config
from facelib.errors import UserError
from facelib.metrics import geometry as an
from facelib.runs.folder import load_run
from facelib.studies import centres
from facelib.studies.centres import Geometry
from facelib.studies.results import evaluate, finished

CENTRES = "centroids"  # the kind of centre that every loss has


def add_finished(
    runs: Sequence[Geometry], configs: Sequence[Config] = (), names: str = ""
) -> list[Geometry]:
    """`runs`, then those of `configs` that are finished, then the runs `names`; nothing is trained.

    Args:
        configs: runs of the study; one that is not finished is left out.
        names: run folders or unique beginnings of their names, comma-separated. Their labels carry
            the run's digest where another run has the same label.

    Raises:
        UserError: a run of `names` is not finished, or lacks a benchmark of the first run.
    """
    found = [*runs, *(Geometry(r) for cfg in configs if (r := finished(cfg)))]
    for name in filter(None, (part.strip() for part in names.split(","))):
        run = load_run(name)
        if run.state != "done":
            raise UserError(
                f"{run.name} is {run.state}: only finished runs can be added; train it with: "
                f"python -m facelib train --run {run.ref}"
            )
        found.append(Geometry(evaluate(run)))
    unique: dict[Path, Geometry] = {}
    for run in found:
        result = run.result
        if missing := set(found[0].result.benchmarks) - set(result.benchmarks):
            raise UserError(f"{result.folder.name} was not evaluated on {', '.join(missing)}")
        if result.folder in unique:
            continue
        if result.label in {other.result.label for other in unique.values()}:
            run = Geometry(replace(result, label=f"{result.label} ({result.config.digest()})"))
        unique[result.folder] = run
    return [*unique.values()]


def overview_table(runs: Sequence[Geometry], name: str, threshold_from: str) -> pd.DataFrame:
    """One row per run on one benchmark: snapping, its nulls, agreement, spread.

    Columns as in the tables of `centres`; pull, pull lo, pull hi: nearest training person − nearest
    unseen person, equal numbers; odds: same centre × verified, positive pairs; dimension:
    participation ratio; gap: of the mean cosines.
    """
    return pd.DataFrame({run.result.label: _row(run, name, threshold_from) for run in runs}).T


def _row(run: Geometry, name: str, threshold_from: str) -> dict:
    nulls = centres.nulls_row(run, CENTRES, name)
    agreed = centres.agreement_row(run, CENTRES, name, True, threshold_from)
    unseen = centres.unseen_row(run, name)
    scores, emb = run.result.scores(name), run.images(name)
    pull = {"pull": unseen["difference"], "pull lo": unseen["lo"], "pull hi": unseen["hi"]}
    return {
        "d": emb.shape[1],
        "pair sim": scores.score[scores.same].mean(),
        **{key: nulls[key] for key in ("centre sim", "A closer", "Gaussian", "excess")},
        **pull,
        **{key: agreed[key] for key in ("same centre", "rotated same", "odds ratio")},
        "odds lo": agreed["lo"],
        "odds hi": agreed["hi"],
        "rotated odds": agreed["rotated odds"],
        "dimension": an.effective_dimension(an.spectrum(emb))[0],
        "gap": centres.similarities(scores)["gap"],
    }
