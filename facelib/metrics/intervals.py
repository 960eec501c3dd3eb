"""95 % intervals of verification figures, over people: pairs that share a person are alike.

Variance. A figure is nearly a sum over pairs, figure − truth ≈ Σ ψ_p, with ψ_p the influence of
pair p (for an accuracy: right or wrong, minus the mean of its class, over the number of pairs). Of
that sum, Var = Σ ψ_p ψ_q over all p and q that share a person (Fafchamps and Gubert 2007; for face
verification arXiv 2306.01198). Without identities pairs count as independent.

Rates: Wilson's interval with the number of independent trials that has this variance,
p (1 − p) / Var. It is symmetric on the logit scale and holds its estimate.

Thresholds at a FAR are extreme order statistics: of the k-th highest of n impostors the true FAR is
about Gamma(k)/n, more varied where few people have most of the highest scores. The score there
follows a generalised Pareto tail of fixed shape, whose scale is the mean excess of the highest
impostors. A TAR moves with its threshold, and varies with its own pairs on the logit scale. The
accuracy at that threshold moves with the TAR: its FAR is fixed.

Differences of two models: the influences subtracted, and draws of thresholds as correlated as the
influences of the highest impostors of both. The error of a difference is symmetric: what the two
thresholds do not share moves it, half each, with the tail of normal scores.

No interval: best thresholds (places of a maximum) and FARs at the strict threshold (the protocol
sets them, not the model).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from scipy.special import expit, gammaincinv, logit, ndtr, ndtri

from facelib.errors import UserError
from facelib.metrics.scores import FARS, STRICT_FAR, Scores, far_name

LEVEL = 0.95
Z = ndtri((1 + LEVEL) / 2)
SHAPE = -0.05  # of the tail: halfway from an exponential one (0) to a normal one at FAR 1e-3
NORMAL = -0.12  # of the tail of normal scores, from its 30 highest of 1,500 to the highest
STREAMS = 7  # of draws
TAIL = 30  # + 3k: how many of the highest impostors tell how fast the tail falls
NO_INTERVAL = {
    "best.threshold": "the place of a maximum has no normal error",
    "strict.far": "the protocol sets it, not the model",
    "best.far_at_far_1e-3": "the protocol sets it, not the model",
}


class People:
    """Who is in which pair; each pair is its own person where nobody is known."""

    def __init__(self, id1: np.ndarray | None, id2: np.ndarray | None, pairs: int):
        self.unit = "pair" if id1 is None else "identity"
        sides = np.tile(np.arange(pairs), 2)
        if id1 is not None:
            sides = np.unique(np.r_[id1, id2], return_inverse=True)[1]
        self.a, self.b = np.split(sides, 2)
        self.count = int(sides.max()) + 1
        self.two = np.flatnonzero(self.a != self.b)
        low, high = np.minimum(self.a, self.b)[self.two], np.maximum(self.a, self.b)[self.two]
        self.couple = np.unique(low * self.count + high, return_inverse=True)[1]

    def variance(self, psi: np.ndarray) -> float:
        """Σ ψ_p ψ_q over pairs that share a person, at least Σ ψ_p²; psi (P,)."""
        nodes = np.bincount(self.a, psi, self.count)
        nodes += np.bincount(self.b[self.two], psi[self.two], self.count)
        couples = np.bincount(self.couple, psi[self.two], 1)
        shared = nodes @ nodes - couples @ couples  # a couple was counted at both of its people
        return float(max(shared, psi @ psi))


def wilson(share: float, variance: float, trials: float) -> list[float]:
    """Wilson's interval of a share with a variance; `trials` count where that is 0 (all right)."""
    n = share * (1 - share) / variance if 0 < share < 1 and variance > 0 else trials
    middle = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z * np.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n)) / (1 + Z * Z / n)
    return [float(min(share, middle - half)), float(max(share, middle + half))]


@dataclass(frozen=True, eq=False)
class Estimate:
    """A figure and how it varies.

    Attributes:
        psi: (P,) influence of each pair; 0 for a threshold. shifts: (R,) how far off the threshold
        could be. at: values (R,) where thresholds are off by shifts (R,). choice: (F,) what the
        choice of the best threshold on other folds costs each fold, over F. Twice the sum of its
        squares is what that choice adds to the variance of an accuracy (measured on simulated
        people: `tests/metrics/coverage.py`).
    """

    value: float
    psi: np.ndarray | float = 0.0
    shifts: np.ndarray | None = None
    at: Callable | None = None
    choice: np.ndarray | float = 0.0

    def minus(self, other: "Estimate") -> "Estimate":
        """The difference of two figures of one model: they share thresholds and their choice."""
        return Estimate(self.value - other.value, self.psi - other.psi)


class Draws:
    """Draws of where a threshold could be; for a difference, as alike as those of `beside`."""

    def __init__(self, scores: Scores, count: int, seed: int, beside: Scores | None = None):
        if count < 1:
            raise UserError(f"bootstrap = {count}: wanted at least 1 replicate (1000 is usual)")
        self.people = People(scores.id1, scores.id2, len(scores.score))
        self.count, self.seed, self.beside = count, seed, beside
        self.shape = SHAPE if beside is None else NORMAL

    def describe(self) -> dict:
        """JSON-able: how the intervals were made, and which figures have none, and why."""
        return {
            "replicates": self.count,
            "seed": self.seed,
            "level": LEVEL,
            "unit": self.people.unit,
            "method": "variance over people; thresholds drawn from their tail",
            "no_interval": NO_INTERVAL,
        }

    def shifts(self, of: str, scores: Scores, k: int, folds: int) -> np.ndarray | None:
        """Shifts (R,) of a threshold at the k-th highest impostor (mean over held-out folds).

        Args:
            of: "score" or "best_score".

        Returns:
            None where fewer than ten impostors lie below it in the tail.
        """
        score, same = getattr(scores, of), scores.same
        highest = _highest(score, same, TAIL + 3 * k + 1)
        base, highest = score[highest[-1]], highest[:-1]
        if len(highest) < k + 10:
            return None
        top = highest[: max(k, TAIL)]
        psi = _tail_influence(top, same)
        clumps = max(self.people.variance(psi) - psi @ psi, 0)  # beyond chance, relative
        excess = score[highest] - base
        known = len(highest) - k
        slope = (excess[k:].sum() + k * excess[k]) / known  # the k highest censored
        slope *= (1 - self.shape) * (k / len(highest)) ** -self.shape  # at the k-th
        slope = slope * known / gammaincinv(known, self.grid(4))
        level = self._levels(k, folds, clumps, self._together(of, same, psi, len(top), k))
        return slope * np.expm1(-self.shape * level) / -self.shape

    def strict_shifts(self, of: str, scores: Scores) -> np.ndarray | None:
        """`shifts` of the strict threshold, which is the mean over held-out folds."""
        folds = len(scores.fold_labels)
        k = max(1, int(STRICT_FAR * (~scores.same).sum() * (folds - 1) / folds))
        return self.shifts(of, scores, k, folds)

    def grid(self, stream: int) -> np.ndarray:
        """Probabilities (R,) in an order of their own: a stratified sample, so that few will do."""
        return _grid(self.count, self.seed, self.beside is not None)[stream]

    def _together(self, of: str, same: np.ndarray, psi: np.ndarray, top: int, k: int) -> float:
        """Correlation of both models' FARs at the k-th highest, measured at the `top` highest."""
        if self.beside is None:
            return 1.0
        other = _tail_influence(_highest(getattr(self.beside, of), same, top), same)
        one, two, apart = (self.people.variance(x) for x in (psi, other, psi - other))
        found = np.clip((one + two - apart) / (2 * np.sqrt(one * two)), 0, 1)
        # it falls further out as a power of the rate (Ledford and Tawn 1996)
        return float(found ** np.divide(*np.log(np.array([k, top]) / (~same).sum())))

    def _levels(self, k: int, folds: int, clumps: float, together: float) -> np.ndarray:
        """log of the true FAR at the k-th highest, minus its mean (R,); `together`: correlation."""
        order, spread = (
            together * ndtri(self.grid(shared)) + np.sqrt(1 - together**2) * ndtri(self.grid(own))
            for shared, own in ((0, 1), (5, 6))
        )
        levels = order_statistics(k, folds)
        level = np.interp(ndtr(order) * (len(levels) - 1), np.arange(len(levels)), levels)
        return level - level.mean() + spread * np.sqrt(np.log1p(clumps))


@cache
def _grid(count: int, seed: int, even: bool) -> np.ndarray:
    """`Draws.grid` (STREAMS, R); `even`: two streams are stratified together too (Halton)."""
    order = [np.random.default_rng([seed, s]).permutation(count) for s in range(STREAMS)]
    if even:
        from scipy.stats import qmc  # takes a second to import

        order = qmc.Halton(STREAMS, seed=seed).random(count).argsort(0).argsort(0).T
    return (np.array(order) + 0.5) / count


@cache
def order_statistics(k: int, folds: int) -> np.ndarray:
    """20,000 times the log of n times the true FAR at the k-th highest of many impostors, rising.

    With folds: its mean over the folds, of the k-th highest outside of each.
    """
    rng, draws = np.random.default_rng(k), 20_000
    if k > 50 or folds == 1:
        return np.sort(np.log(rng.gamma(k, size=draws)))
    points = np.cumsum(rng.exponential(size=(draws, 2 * k + 20)), axis=1)
    owner = rng.integers(0, folds, points.shape, dtype=np.int16)
    places = [np.argmax(np.cumsum(owner != f, axis=1) == k, axis=1) for f in range(folds)]
    return np.sort(np.log(np.take_along_axis(points, np.array(places).T, axis=1)).mean(1))


def _tail_influence(top: np.ndarray, same: np.ndarray) -> np.ndarray:
    """ψ (P,) of the log of the FAR at the lowest score of the impostors `top`."""
    psi = (same - 1.0) / (~same).sum()
    psi[top] += 1 / len(top)
    return psi


def _highest(score: np.ndarray, same: np.ndarray, count: int) -> np.ndarray:
    """Places of the `count` highest impostors, falling."""
    order = np.flatnonzero(~same)
    if count < len(order):
        order = order[np.argpartition(-score[order], count)[:count]]
    return order[np.argsort(-score[order], kind="stable")]


def influence(values: np.ndarray, kind: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """ψ (P,) of the weighted mean of values (P,), the sizes of the classes `kind` being fixed."""
    total = np.bincount(kind, weight, 2)
    mean = np.bincount(kind, weight * values, 2) / np.where(total > 0, total, 1)
    return weight * (values - mean[kind * 1])


def _fold_weights(fold: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Weight (P,) of each chosen pair in the mean over folds of the means inside folds."""
    counts = np.bincount(fold[chosen], minlength=fold.max() + 1)
    return chosen / np.maximum(counts, 1)[fold] / (counts > 0).sum()


def cost_of_choice(scores: Scores, best, weight: np.ndarray) -> np.ndarray:
    """`Estimate.choice` (F,) of an accuracy in which pairs have weights (P,)."""
    gain = (best.in_sample == scores.same).astype(float) - (best.predicted == scores.same)
    return np.bincount(scores.fold, weight * gain)


def estimates(scores: Scores, strict, best, figures: dict, draws: Draws) -> dict[str, Estimate]:
    """Every figure that has an interval of its own.

    Args:
        strict, best: results of the protocols. figures: all figures; what is None is left out.
    """
    same, fold = scores.same, scores.fold
    everything, genuine = (_fold_weights(fold, c) for c in (np.ones(len(same), bool), same))
    psi = influence(best.predicted == same, same, everything)
    choice = cost_of_choice(scores, best, everything)
    found = {"best.accuracy": Estimate(figures["best.accuracy"], psi, choice=choice)}
    for name, of, result in (
        ("strict.tar", "score", strict),
        ("best.tar_at_far_1e-3", "best_score", best.at_far),
    ):
        if result is not strict and scores.score_flip is None and "strict.tar" in found:
            found[name] = found["strict.tar"]
            continue
        shifts = draws.strict_shifts(of, scores)
        if shifts is None:
            continue
        psi = influence(result.predicted, same, genuine)
        at = result.threshold
        found[name] = moving(figures[name], getattr(scores, of)[same], at, psi, shifts)
        if result is strict:
            mean = at.mean()
            found["strict.threshold"] = Estimate(mean, shifts=shifts, at=partial(np.add, mean))
    return found | _pooled(scores, figures, draws)


def _pooled(scores: Scores, figures: dict, draws: Draws) -> dict[str, Estimate]:
    score, same, found = scores.score, scores.same, {}
    rising, genuine = np.sort(score[~same]), np.sort(score[same])
    even = np.where(same, 1 / same.sum(), 1 / (~same).sum())
    for far in FARS:
        name, k = f"tar_at_far.{far_name(far)}", int(np.floor(far * len(rising)))
        if figures[name] is not None and k < len(rising):
            at = rising[-k - 1]
            psi = influence(score > at, same, even * same)
            shifts = draws.shifts("score", scores, k + 1, 1)
            if shifts is not None:
                found[name] = moving(figures[name], genuine, at, psi, shifts)
    place = np.empty(len(score))  # share of the other class that a pair is on the right side of
    for kind, others in ((same, rising), (~same, genuine)):
        below, upto = (np.searchsorted(others, score[kind], side) for side in ("left", "right"))
        place[kind] = (below + upto) / (2 * len(others))
    place[~same] = 1 - place[~same]
    found["auc"] = Estimate(figures["auc"], influence(place, same, even))
    at = np.quantile(genuine, figures["eer"])
    dense = np.array([_density(values, at) for values in (genuine, rising)]) + 1e-12
    wrong = influence((score >= at) != same, same, even)
    # the rates cross elsewhere: each counts by how fast the other one moves
    share = np.where(same, dense[1], dense[0]) / dense.sum()
    found["eer"] = Estimate(figures["eer"], wrong * share)
    return found


def moving(value: float, genuine, at, psi: np.ndarray, shifts: np.ndarray, tar=1.0) -> Estimate:
    """A TAR, or a figure it is `tar` of, whose thresholds `at` could be off by `shifts` (R,)."""
    rising = np.sort(genuine)

    def moved(shifts: np.ndarray) -> np.ndarray:
        places = np.atleast_1d(at) + np.r_[0.0, shifts][:, None]  # (1 + R, F)
        share = 1 - np.searchsorted(rising, places).mean(1) / len(rising)
        return np.clip(value + tar * (share[1:] - share[0]), 0, 1)

    return Estimate(value, psi, shifts, moved)


def _density(values: np.ndarray, at: float) -> float:
    width = values.std() * len(values) ** -0.2
    return np.mean(np.abs(values - at) < width) / width if width > 0 else 0.0


def _quantiles(values: np.ndarray, value: float) -> list[float]:
    lo, hi = np.quantile(values, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return [float(min(lo, value)), float(max(hi, value))]


def interval(one: Estimate, draws: Draws, people: int = 0) -> list[float]:
    """Of one figure, a share or a threshold; `people` behind it, if not all."""
    if np.ndim(one.psi) == 0:
        return _quantiles(one.at(one.shifts), one.value)
    people = people or draws.people.count
    variance = draws.people.variance(one.psi) + 2 * np.sum(np.square(one.choice))
    if one.shifts is None:
        return wilson(one.value, variance, people)
    p, moved = (np.clip(v, 0.5 / people, 1 - 0.5 / people) for v in
                (one.value, one.at(one.shifts)))  # fmt: skip
    trials = p * (1 - p) / variance if variance > 0 else people
    found = logit(moved) + ndtri(draws.grid(3)) / np.sqrt(trials * moved * (1 - moved))
    return _quantiles(expit(found), one.value)


def strict_accuracy(scores: Scores, accuracy: float, tar: float, of_tar) -> list[float] | None:
    """Interval of an accuracy, or a difference of two, at fixed FAR: it moves with the TAR."""
    if of_tar is None:
        return None
    share = (_fold_weights(scores.fold, scores.same | True) * scores.same).sum()
    return [float(accuracy + share * (limit - tar)) for limit in of_tar]


def difference_interval(a: Estimate, b: Estimate, draws: Draws) -> list[float]:
    """Of a − b, two models on the same pairs."""
    value, spread = a.value - b.value, 0.0
    if np.ndim(a.psi):
        choice = 2 * np.sum(np.square(a.choice - b.choice))
        spread = np.sqrt(draws.people.variance(a.psi - b.psi) + choice)
    if a.shifts is None:
        return [float(value - Z * spread), float(value + Z * spread)]
    half = (a.shifts - b.shifts) / 2  # what both share moves a difference little
    return _quantiles(a.at(half) - b.at(-half) + spread * ndtri(draws.grid(3)), value)
