"""Do the printed intervals hold the truth? Simulated people, whose truth is known.

A person has a lean towards high impostor scores and another towards high genuine scores, so that
pairs that share a person are alike. Two models see the same people; the second is a little worse,
and their leans and errors are correlated. The truth of a figure is its mean over many data sets:
what the protocol measures on average, the choice of the threshold on other folds included. An
interval covers if it holds that mean; a 95 % interval should, in 95 % of the data sets.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from zlib import crc32

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import norm

from facelib.audit.overlap_pairs import accuracy_by_overlap, inflation
from facelib.metrics import geometry as an
from facelib.metrics.clustering import bcubed, influence_on_f, variance_of_f
from facelib.metrics.compare import report_differences
from facelib.metrics.intervals import People, Z, wilson
from facelib.metrics.operating import threshold_for
from facelib.metrics.scores import Scores
from facelib.metrics.tables import markdown_table
from facelib.metrics.verification import verify_scores
from facelib.paths import atomic_file, published_root, runs_root
from facelib.studies.records import t_interval
from facelib.studies.source_a import published_figures

FOLDS, PEOPLE = 10, 500
APART = {"weak": 0.15, "strong": 0.5}  # mean genuine − mean impostor score: about 71 and 97 %
ALIKE = 0.7  # correlation of the two models' leans and errors
PAIRS = (3000, 6000, 7000)
PART = 50  # data sets between two writings
OTHERS = 4  # times as many data sets of the other intervals, which have one design


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


def draw_sets(one: Callable, name: str, sets: int, folder: Path | None = None) -> list[dict]:
    """Figure -> (estimate, interval or None) of many data sets, in parts with seeds of their own.

    Args:
        one: makes one data set with a generator. name: of the design. folder: parts that are there
            are read, the others are written.
    """
    found: list[dict] = []
    for part in range(0, sets, PART):
        path = folder and folder / f"{name}-{part}.json"
        if path is None or not path.is_file():
            rng = np.random.default_rng([crc32(name.encode()), part])
            text = json.dumps([one(rng) for _ in range(PART)], default=np.ndarray.tolist)
            if path:
                with atomic_file(path) as temporary:
                    temporary.write_text(text)
        found += json.loads(path.read_text() if path else text)
    return found


def coverage(
    design: Design, sets: int, replicates: int = 1000, folder: Path | None = None
) -> pd.DataFrame:
    """One row per figure: truth, its spread over data sets, coverage, misses, mean width."""
    one = partial(_one_set, design, replicates=replicates)
    name = f"{design.pairs}-{'disjoint' if design.disjoint else 'shared'}-{design.strength}"
    found = draw_sets(one, name, sets, folder)
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


def other_intervals(sets: int, folder: Path | None = None) -> pd.DataFrame:
    """The intervals that are not of a verification report, one row each; `held` says the columns.

    Repeats of a training; means and shares over people with 1 to 9 pairs each; the odds ratio of
    two answers that people share (its log); BCubed F of people of 5 to 14 pictures, some split in
    two clusters, some merged with the next person; shares by overlap, of half of the people; the
    FMR to expect at a threshold for use (its truth is the FMR of that threshold itself).
    """
    found = draw_sets(_other_set, "others", sets, folder)
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
    found |= _clustered(rng)
    a, b = Design(3000, False, "strong").draw(rng)
    for name, frame in (
        ("share by overlap", accuracy_by_overlap(a, range(PEOPLE // 2))),
        ("gain by overlap", inflation(a, b, range(PEOPLE // 2))),
    ):
        for row in frame[frame["kind"] == "accuracy"].to_dict("records"):
            figure = f"{name}, {row['group']}, {row['protocol']}"
            found[figure] = row["value"], [row["lo"], row["hi"]]
    for rate in (1e-2, 1e-3):
        use = threshold_for(a, rate)
        fmr = norm.sf((use["threshold"] - 0.05) / np.sqrt(0.09**2 + 2 * 0.06**2))
        found[f"FMR to expect at {rate:g}"] = 0.0, np.array(use["expected"]) - fmr
    return found


def _clustered(rng) -> dict[str, tuple]:
    """Two clusterings of 150 people, who lean the same way in both: merged with the next, split."""
    person = np.repeat(np.arange(150), rng.integers(5, 15, 150))
    lean = norm.cdf(_twice(rng, 1.0, 300))
    clusters = []
    for merged, split in zip(lean[:, :150] < 0.2, lean[:, 150:] < 0.4):
        cluster = 2 * (person - (person % 2) * merged[person])
        clusters.append(cluster + (split[person] & (rng.random(len(person)) < 0.3)))
    f, other = (bcubed(person, cluster)[2] for cluster in clusters)
    psi, beside = (influence_on_f(person, cluster) for cluster in clusters)
    reach = Z * np.sqrt(variance_of_f(psi - beside, person, *clusters))
    return {
        "BCubed F": (f, wilson(f, variance_of_f(psi, person, clusters[0]), 150)),
        "difference of BCubed F": (f - other, [f - other - reach, f - other + reach]),
    }


def outside() -> str:
    """Markdown table for the record: single designs outside 93 to 97 %, and by more than chance.

    Chance: two binomial errors of 95 %, of the data sets of one design.
    """
    frame = pd.concat([published_figures(f"coverage/{name}") for name in ("after", "others")])
    share = frame["coverage"]
    error = 100 * np.sqrt(share * (1 - share) / frame["sets"])
    folds = frame["disjoint"].map({True: "disjoint", False: "shared"})
    shown = pd.DataFrame({
        "figure": frame["figure"],
        "pairs": frame["pairs"].map("{:.0f}".format, na_action="ignore"),
        "people of folds": folds,
        "model": frame["strength"],
        "coverage, %": (100 * share).map("{:.1f}".format) + error.map(" ± {:.1f}".format),
    })  # fmt: skip
    chance = 2 * np.sqrt(0.95 * 0.05 / frame["sets"])
    beyond = ~(100 * share).between(93, 97) & ((share - 0.95).abs() > chance)
    shown = shown[beyond].fillna("one design")
    return markdown_table(shown.sort_values("coverage, %"))


def main() -> None:
    """Simulate all designs and the other intervals, write the record, print what lies outside."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--sets", type=int, default=2000, help="data sets per design")
    done = "folder of the data sets that are done; delete it after a change of the method"
    parser.add_argument("--parts", type=Path, default=runs_root() / "coverage", help=done)
    options = parser.parse_args()
    options.parts.mkdir(parents=True, exist_ok=True)
    for sets in range(PART, options.sets + PART, PART):  # complete tables after each round
        tables = {"after": pd.concat([coverage(d, sets, folder=options.parts) for d in designs()]),
                  "others": other_intervals(OTHERS * sets, options.parts)}  # fmt: skip
        for name, table in tables.items():
            with atomic_file(published_root() / "coverage" / f"{name}.csv") as temporary:
                table.to_csv(temporary, index=False, float_format="%.5f")
    print(outside())


if __name__ == "__main__":
    main()
