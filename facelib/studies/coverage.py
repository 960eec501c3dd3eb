"""Do the printed intervals hold the truth? Simulated people, whose truth is known.

A person has a lean towards high impostor scores and another towards high genuine scores, so that
pairs that share a person are alike. Two models see the same people; the second is a little worse,
and their leans and errors are correlated. The truth of a figure is its mean over many data sets:
what the protocol measures on average, the choice of the threshold on other folds included. An
interval covers if it holds that mean; a 95 % interval should, in 95 % of the data sets.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import norm

from facelib.audit.overlap_pairs import accuracy_by_overlap, inflation
from facelib.metrics import geometry as an
from facelib.metrics.clustering import bcubed, bootstrap_f
from facelib.metrics.compare import report_differences
from facelib.metrics.intervals import People, wilson
from facelib.metrics.operating import threshold_for
from facelib.metrics.scores import Scores
from facelib.metrics.verification import verify_scores
from facelib.studies.records import t_interval
from facelib.studies.source_a import published_figures

FOLDS, PEOPLE = 10, 500
APART = {"weak": 0.15, "strong": 0.5}  # mean genuine − mean impostor score: about 71 and 97 %
ALIKE = 0.7  # correlation of the two models' leans and errors
PAIRS = (3000, 6000, 7000)


@dataclass(frozen=True)
class Design:
    """Half of the pairs are genuine; `disjoint`: no person is in two folds."""

    pairs: int
    disjoint: bool
    strength: str

    def draw(self, rng: np.random.Generator) -> tuple[Scores, Scores]:
        """One data set under both models."""
        half = self.pairs // 2
        fold = np.tile(np.arange(half) * FOLDS // half, 2)
        first, other, group = 0, PEOPLE, np.zeros(self.pairs, int)
        if self.disjoint:
            other = PEOPLE // FOLDS
            group = fold * other
        first = rng.integers(0, other, self.pairs)
        second = (first + rng.integers(1, other, self.pairs)) % other
        same = np.arange(self.pairs) < half
        id1, id2 = group + first, group + np.where(same, first, second)
        low, high = _twice(rng, 0.06, PEOPLE), _twice(rng, 0.08, PEOPLE)
        noise = _twice(rng, 1.0, self.pairs)
        scores = []
        for a, h, e, gap in zip(low, high, noise, (0, 0.02)):
            genuine = APART[self.strength] - gap + 0.05 + h[id1] + 0.12 * e
            score = np.where(same, genuine, 0.05 + a[id1] + a[id2] + 0.09 * e)
            score = np.clip(score, -1, 1)
            scores.append(Scores(score, same, fold, np.arange(FOLDS), id1=id1, id2=id2))
        return tuple(scores)


def _twice(rng: np.random.Generator, spread: float, count: int) -> np.ndarray:
    """(2, count) normal values of two models, correlated by `ALIKE`."""
    mixed = np.linalg.cholesky([[1, ALIKE], [ALIKE, 1]])
    return spread * mixed @ rng.normal(size=(2, count))


def designs() -> Iterator[Design]:
    """All designs of the table."""
    for pairs, disjoint, strength in product(PAIRS, (True, False), APART):
        yield Design(pairs, disjoint, strength)


def _one_set(design: Design, rng, replicates: int) -> dict[str, tuple]:
    """Figure -> (estimate, interval or None) of one data set."""
    a, b = design.draw(rng)
    report = verify_scores(a, replicates)
    found = {name: (value, report.intervals[name]) for name, value in report.figures().items()}
    for name, pair in report_differences(report, verify_scores(b), replicates).items():
        if pair:
            found[f"difference of {name}"] = pair["difference"], pair["interval"]
    return {name: both for name, both in found.items() if both[0] is not None}


def coverage(design: Design, sets: int, replicates: int = 300) -> pd.DataFrame:
    """One row per figure: truth, its spread over data sets, coverage, misses, mean width."""
    rng = np.random.default_rng([design.pairs, design.disjoint, design.strength == "weak"])
    found = [_one_set(design, rng, replicates) for _ in range(sets)]
    return pd.DataFrame([vars(design) | {"figure": name} | held([one[name] for one in found])
                         for name in found[0]])  # fmt: skip


def held(found: list[tuple]) -> dict[str, float]:
    """How often the intervals of (estimate, interval or None) hold the mean of the estimates."""
    values = np.array([value for value, _ in found])
    truth = values.mean()
    row = {"truth": truth, "sd": values.std(), "sets": len(values)}
    if any(limits is None for _, limits in found):
        return row | {"coverage": np.nan}
    lo, hi = np.array([limits for _, limits in found]).T
    above, below = (lo > truth).mean(), (hi < truth).mean()
    return row | {"coverage": 1 - above - below, "above": above, "below": below,
                  "width": (hi - lo).mean()}  # fmt: skip


def other_intervals(sets: int, seed: int = 0) -> pd.DataFrame:
    """The intervals that are not of a verification report, one row each; `held` says the columns.

    Repeats of a training; means and shares over people with 1 to 9 pairs each; the odds ratio of
    two answers that people share (its log); BCubed F of people of 5 to 14 pictures, some split in
    two clusters, some merged with the next person; shares by overlap, of half of the people; the
    FMR to expect at a threshold for use (its truth is the FMR of that threshold itself).
    """
    rng = np.random.default_rng(seed)
    found = [_other_set(rng) for _ in range(sets)]
    rows = [{"figure": name} | held([one[name] for one in found]) for name in found[0]]
    return pd.DataFrame(rows)


def _other_set(rng) -> dict[str, tuple]:
    mean, *limits = t_interval(expit(rng.normal(3.5, 0.4, 5)), share=True)
    found = {"five repeats, share": (mean, limits)}
    mean, *limits = t_interval(rng.normal(0.5, 0.4, 5))
    found["five repeats, difference"] = mean, limits
    person = np.repeat(np.arange(150), rng.integers(1, 10, 150))
    value = rng.normal(size=150)[person] + rng.normal(size=len(person))
    for name, values in (("mean", value), ("share", value > -2)):
        mean, *limits = an.mean_interval(values, person)
        found[f"{name} over people"] = mean, limits
    other = value + rng.normal(size=150)[person] + rng.normal(size=len(person))
    table = an.two_by_two(value > 0, other > 0, People(person, person, len(person)))
    found["log odds ratio"] = np.log(table.odds_ratio), np.log([table.lo, table.hi])
    person = np.repeat(np.arange(150), rng.integers(5, 15, 150))
    merged, split = rng.random(150) < 0.2, rng.random(150) < 0.4
    cluster = 2 * (person - (person % 2) * merged[person])
    cluster += split[person] & (rng.random(len(person)) < 0.3)
    f = bcubed(person, cluster)[2]
    found["BCubed F"] = f, wilson(f, bootstrap_f(person, cluster, 300).var(), 150)
    a, b = Design(3000, False, "strong").draw(rng)
    for name, frame in (
        ("share by overlap", accuracy_by_overlap(a, range(PEOPLE // 2))),
        ("gain by overlap", inflation(a, b, range(PEOPLE // 2))),
    ):
        rows = frame[(frame["kind"] == "accuracy") & (frame["protocol"] == "best threshold")]
        for row in rows.to_dict("records"):
            found[f"{name}, {row['group']}"] = row["value"], [row["lo"], row["hi"]]
    use = threshold_for(a, 1e-2)
    fmr = norm.sf((use["threshold"] - 0.05) / np.sqrt(0.09**2 + 2 * 0.06**2))
    found["FMR to expect − FMR"] = 0.0, np.array(use["expected"]) - fmr
    return found


def record_table() -> pd.DataFrame:
    """The record: coverage (%) over the designs by figure, of the old and the new method."""
    parts = {}
    for name, how in (("before", "identity bootstrap"), ("after", "over people")):
        found = published_figures(f"coverage/{name}").groupby("figure", sort=False)["coverage"]
        for column in ("mean", "min", "max"):
            parts[how, column] = (100 * found.agg(column)).round(1)
    table = pd.DataFrame(parts).fillna("no interval")
    others = published_figures("coverage/others").set_index("figure")["coverage"]
    for figure, value in others.items():
        table.loc[figure, ("over people", "mean")] = round(100 * value, 1)
    return table.rename_axis("coverage, %").fillna("")


def main() -> None:
    """`python -m facelib.studies.coverage --sets 2000`: the table as CSV on standard output."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--sets", type=int, default=2000, help="data sets per design")
    parser.add_argument("--replicates", type=int, default=300)
    parser.add_argument("--others", action="store_true", help="intervals outside verification")
    options = parser.parse_args()
    if options.others:
        print(other_intervals(options.sets).to_csv(index=False, float_format="%.5f"), end="")
        return
    for number, design in enumerate(designs()):
        table = coverage(design, options.sets, options.replicates)
        text = table.to_csv(index=False, header=number == 0, float_format="%.5f")
        print(text, end="", flush=True)


if __name__ == "__main__":
    main()
