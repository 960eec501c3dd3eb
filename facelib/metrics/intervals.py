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

Differences of two models: the influences subtracted, and thresholds that move together in the share
of draws that is the overlap of the two models' highest impostors.

No interval: best thresholds (places of a maximum) and FARs at the strict threshold (the protocol
sets them, not the model).
"""

import functools
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, gammaincinv, logit, ndtri  # scipy.stats takes a second to import

from facelib.errors import UserError
from facelib.metrics.scores import FARS, STRICT_FAR, Scores, far_name

LEVEL = 0.95
Z = ndtri((1 + LEVEL) / 2)
SHAPE = -0.05  # of the tail: halfway from an exponential one (0) to a normal one at FAR 1e-3
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
        psi: (P,) influence of each pair; 0 for a threshold. moved: (R,) values at thresholds that
        could be. choice: (F,) what the choice of the best threshold on other folds costs each fold,
        over F. Twice the sum of its squares is what that choice adds to the variance of an accuracy
        (measured on simulated people: `studies/coverage.py`).
    """

    value: float
    psi: np.ndarray | float = 0.0
    moved: np.ndarray | None = None
    choice: np.ndarray | float = 0.0


class Draws:
    """Where a threshold at a FAR could be, as draws: the same for the same seed.

    Args:
        beside: scores of another model on the same pairs, whose draws have the same seed.
    """

    def __init__(self, scores: Scores, count: int, seed: int, beside: Scores | None = None):
        if count < 1:
            raise UserError(f"bootstrap = {count}: wanted at least 1 replicate (1000 is usual)")
        self.people = People(scores.id1, scores.id2, len(scores.score))
        self.count, self.seed, self.beside = count, seed, beside

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
        tail = np.zeros(len(score))
        top = highest[: max(k, TAIL)]
        tail[top] = 1 / len(top)
        psi = tail - ~same / (~same).sum()
        clumps = max(self.people.variance(psi) - psi @ psi, 0)  # beyond chance, relative
        excess = score[highest] - base
        known = len(highest) - k
        slope = (excess[k:].sum() + k * excess[k]) / known  # the k highest censored
        slope *= (1 - SHAPE) * (k / len(highest)) ** -SHAPE  # from the mean excess to the k-th
        slope = slope * known / gammaincinv(known, self.grid(4))
        level = self._levels(k, folds, clumps, 0)
        if self.beside is not None:
            other = _highest(getattr(self.beside, of), same, len(highest))
            together = len(np.intersect1d(other, highest)) / len(highest)
            apart = np.random.default_rng([self.seed, 2]).random(self.count) >= together
            level = np.where(apart, self._levels(k, folds, clumps, 1), level)
        return slope * np.expm1(-SHAPE * level) / -SHAPE

    def grid(self, stream: int) -> np.ndarray:
        """Probabilities (R,) in an order of their own: quantiles at them are a stratified sample.

        So even few draws have the right spread.
        """
        order = np.random.default_rng([self.seed, stream]).permutation(self.count)
        return (order + 0.5) / self.count

    def _levels(self, k: int, folds: int, clumps: float, stream: int) -> np.ndarray:
        """log of the true FAR at the k-th highest, minus its mean, (R,)."""
        level = np.quantile(order_statistics(k, folds), self.grid(stream))
        return level - level.mean() + ndtri(self.grid(stream + 5)) * np.sqrt(np.log1p(clumps))


@functools.cache
def order_statistics(k: int, folds: int) -> np.ndarray:
    """20,000 times the log of n times the true FAR at the k-th highest of many impostors.

    With folds: its mean over the folds, of the k-th highest outside of each.
    """
    rng, draws = np.random.default_rng(k), 20_000
    if k > 50 or folds == 1:
        return np.log(rng.gamma(k, size=draws))
    points = np.cumsum(rng.exponential(size=(draws, 2 * k + 20)), axis=1)
    owner = rng.integers(0, folds, points.shape, dtype=np.int16)
    places = [np.argmax(np.cumsum(owner != f, axis=1) == k, axis=1) for f in range(folds)]
    return np.log(np.take_along_axis(points, np.array(places).T, axis=1)).mean(1)


def _highest(score: np.ndarray, same: np.ndarray, count: int) -> np.ndarray:
    """Places of the `count` highest impostors, falling."""
    order = np.flatnonzero(~same)
    if count < len(order):
        order = order[np.argpartition(-score[order], count)[:count]]
    return order[np.argsort(-score[order], kind="stable")]


def _influence(values: np.ndarray, kind: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """ψ (P,) of the weighted mean of values (P,), the sizes of the classes `kind` being fixed."""
    total = np.bincount(kind, weight, 2)
    mean = np.bincount(kind, weight * values, 2) / np.where(total > 0, total, 1)
    return weight * (values - mean[kind * 1])


def _fold_weights(fold: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Weight (P,) of each chosen pair in the mean over folds of the means inside folds."""
    counts = np.bincount(fold[chosen], minlength=fold.max() + 1)
    return chosen / np.maximum(counts, 1)[fold] / (counts > 0).sum()


def estimates(scores: Scores, strict, best, figures: dict, draws: Draws) -> dict[str, Estimate]:
    """Every figure that has an interval of its own.

    Args:
        strict, best: results of the protocols. figures: all figures; what is None is left out.
    """
    same, fold, folds = scores.same, scores.fold, len(scores.fold_labels)
    everything, genuine = (_fold_weights(fold, c) for c in (np.ones(len(same), bool), same))
    psi = _influence(best.predicted == same, same, everything)
    gain = (best.in_sample == same).astype(float) - (best.predicted == same)
    choice = np.bincount(fold, everything * gain)
    found = {"best.accuracy": Estimate(figures["best.accuracy"], psi, choice=choice)}
    k = max(1, int(STRICT_FAR * (~same).sum() * (folds - 1) / folds))
    for name, of, result in (
        ("strict.tar", "score", strict),
        ("best.tar_at_far_1e-3", "best_score", best.at_far),
    ):
        if result is not strict and scores.score_flip is None and "strict.tar" in found:
            found[name] = found["strict.tar"]
            continue
        shifts = draws.shifts(of, scores, k, folds)
        if shifts is None:
            continue
        psi = _influence(result.predicted, same, genuine)
        at = result.threshold
        found[name] = _moving(figures[name], getattr(scores, of)[same], at, psi, shifts)
        if result is strict:
            found["strict.threshold"] = Estimate(at.mean(), moved=at.mean() + shifts)
    return found | _pooled(scores, figures, draws)


def _pooled(scores: Scores, figures: dict, draws: Draws) -> dict[str, Estimate]:
    score, same, found = scores.score, scores.same, {}
    rising, genuine = np.sort(score[~same]), np.sort(score[same])
    even = np.where(same, 1 / same.sum(), 1 / (~same).sum())
    for far in FARS:
        name, k = f"tar_at_far.{far_name(far)}", int(np.floor(far * len(rising)))
        if figures[name] is not None and k < len(rising):
            at = rising[-k - 1]
            psi = _influence(score > at, same, even * same)
            shifts = draws.shifts("score", scores, k + 1, 1)
            if shifts is not None:
                found[name] = _moving(figures[name], genuine, at, psi, shifts)
    place = np.empty(len(score))  # share of the other class that a pair is on the right side of
    for kind, others in ((same, rising), (~same, genuine)):
        below, upto = (np.searchsorted(others, score[kind], side) for side in ("left", "right"))
        place[kind] = (below + upto) / (2 * len(others))
    place[~same] = 1 - place[~same]
    found["auc"] = Estimate(figures["auc"], _influence(place, same, even))
    at = np.quantile(genuine, figures["eer"])
    dense = np.array([_density(values, at) for values in (genuine, rising)]) + 1e-12
    wrong = _influence((score >= at) != same, same, even)
    # the rates cross elsewhere: each counts by how fast the other one moves
    share = np.where(same, dense[1], dense[0]) / dense.sum()
    found["eer"] = Estimate(figures["eer"], wrong * share)
    return found


def _moving(value: float, genuine, at, psi: np.ndarray, shifts: np.ndarray) -> Estimate:
    """A TAR whose thresholds `at` could lie elsewhere by `shifts` (R,)."""
    places = np.atleast_1d(at) + np.r_[0.0, shifts][:, None]  # (1 + R, F)
    share = 1 - np.searchsorted(np.sort(genuine), places).mean(1) / len(genuine)
    return Estimate(value, psi, np.clip(value + share[1:] - share[0], 0, 1))


def _density(values: np.ndarray, at: float) -> float:
    width = values.std() * len(values) ** -0.2
    return np.mean(np.abs(values - at) < width) / width if width > 0 else 0.0


def _quantiles(values: np.ndarray, value: float) -> list[float]:
    lo, hi = np.quantile(values, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return [float(min(lo, value)), float(max(hi, value))]


def interval(one: Estimate, draws: Draws) -> list[float]:
    """Of one figure: a share, or a threshold if it has no influences."""
    if np.ndim(one.psi) == 0:
        return _quantiles(one.moved, one.value)
    people = draws.people
    variance = people.variance(one.psi) + 2 * np.sum(np.square(one.choice))
    if one.moved is None:
        return wilson(one.value, variance, people.count)
    p, moved = (np.clip(v, 0.5 / people.count, 1 - 0.5 / people.count) for v in
                (one.value, one.moved))  # fmt: skip
    trials = p * (1 - p) / variance if variance > 0 else people.count
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
    if a.moved is None:
        return [float(value - Z * spread), float(value + Z * spread)]
    return _quantiles(a.moved - b.moved + spread * ndtri(draws.grid(3)), value)
