"""Geometry of embeddings: centre snapping and its nulls, agreement, spread. numpy in, numbers out.

Centre snapping is source A's observation that an embedding of a stranger lies closer to some centre
of the training identities than to another picture of the same stranger. The largest of N cosines is
high by chance alone, so every figure has its null here:

    isotropic    expected maximum of N random cosines in d dimensions (methods §4)
    rotated      the test embeddings under one random rotation: their shape, no tie to the centres
    Gaussian     draws with the mean and covariance of the test embeddings, made unit: spread and
                 main directions stay, clusters and single centres go
    unseen       centres of as many people who were not trained on, from as many images each: what
                 is left beyond it is drawn to the *training* centres and not just to faces

Symbols: U images, P pairs, N centres, d dimensions. Embeddings are unit rows unless said otherwise.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp
from scipy.stats import beta, t

from facelib.metrics import intervals as iv

BLOCK = 4096  # centres at a time: 14,000 queries × 4,096 × 4 bytes = 229 MB


def unit(emb: np.ndarray) -> np.ndarray:
    """Rows (U, d) scaled to length 1, float32."""
    emb = np.asarray(emb, np.float32)
    return emb / np.linalg.norm(emb, axis=1, keepdims=True)


def centroids(emb: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Unit mean (N, d) of the unit embeddings (U, d) of each label; labels (U,) are 0 … N − 1."""
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(labels.max() + 1))
    return unit(np.add.reduceat(unit(emb)[order], starts, axis=0))


def nearest_centres(
    queries: np.ndarray, centres: np.ndarray, block: int = BLOCK, skip: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Largest cosine (Q,) float32 of each query to any centre, and which centre it is (Q,).

    Extra memory: Q·(d + block) + block·d floats of 4 bytes; the first of equal centres is taken.

    Args:
        queries: (Q, d), any length. centres: (N, d), any length, N as large as memory holds.
        block: centres at a time.
        skip: (Q,) centre that does not count for a query (its own); below 0: none.
    """
    q = unit(queries)
    best = np.full(len(q), -np.inf, np.float32)
    which = np.zeros(len(q), np.int64)
    rows = np.arange(len(q))
    for start in range(0, len(centres), block):
        cos = q @ unit(centres[start : start + block]).T  # (Q, block)
        if skip is not None:
            own = np.flatnonzero((skip >= start) & (skip < start + cos.shape[1]))
            cos[own, skip[own] - start] = -np.inf
        found = cos.argmax(1)
        value = cos[rows, found]
        del cos  # or two blocks lie in memory at once
        better = value > best
        best[better], which[better] = value[better], start + found[better]
    return best, which


def snapping(pair: np.ndarray, centre_a: np.ndarray, centre_b: np.ndarray) -> dict[str, float]:
    """A row of source A's table from (P,) cosines of positive pairs: means, and two shares.

    `A closer` is the share of pairs whose first image is closer to its nearest centre than to the
    second image (strictly).
    """
    return {
        "pair sim": float(np.mean(pair)),
        "centre sim A": float(np.mean(centre_a)),
        "centre sim B": float(np.mean(centre_b)),
        "A closer": float(np.mean(centre_a > pair)),
        "B closer": float(np.mean(centre_b > pair)),
    }


def expected_maximum(n: int, d: int) -> float:
    """Expected largest cosine between a unit vector and n random ones in d dimensions.

    A random cosine t has density ∝ (1 − t²)^((d−3)/2), that is (1 + t)/2 ~ Beta((d−1)/2, (d−1)/2);
    E[max] = 1 − ∫ F(t)ⁿ dt over [−1, 1], here by trapezoids on 20,001 points.
    """
    x = np.linspace(-1, 1, 20_001)
    power = np.exp(n * beta.logcdf((1 + x) / 2, (d - 1) / 2, (d - 1) / 2))
    return float(1 - np.mean(power[1:] + power[:-1]))


def random_rotation(emb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The embeddings (U, d), all turned by one random orthogonal matrix (Haar)."""
    q, r = np.linalg.qr(rng.normal(size=(emb.shape[1],) * 2))
    return (emb @ (q * np.sign(np.diag(r)))).astype(np.float32)


def gaussian_like(emb: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` draws (count, d) from the Gaussian with mean and covariance of emb (U, d), made unit.

    Mean and covariance are those of the draws before the last step.
    """
    emb = np.asarray(emb, np.float64)
    mean = emb.mean(0)
    _, s, axes = np.linalg.svd(emb - mean, full_matrices=False)
    draws = rng.normal(size=(count, len(s))) * (s / np.sqrt(len(emb)))
    return unit(mean + draws @ axes)


def nearest_others(emb: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Largest cosine (U,) of each unit embedding (U, d) to the centroid of any *other* identity.

    Args:
        ids: (U,) identity of each image, at least two different ones.
    """
    _, person = np.unique(ids, return_inverse=True)
    return nearest_centres(emb, centroids(emb, person), skip=person)[0]


def thinned(
    labels: np.ndarray, people: int, images: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rows (T',) of `people` random labels with up to `images` random rows each, and new labels.

    Labels (T,) are 0 … N − 1 with N ≥ people; the new ones are 0 … people − 1.
    """
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]  # random inside each label
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    chosen = rng.choice(len(starts), people, replace=False)
    rows = [order[starts[c] : starts[c] + min(counts[c], images)] for c in chosen]
    return np.concatenate(rows), np.repeat(np.arange(people), [len(r) for r in rows])


def agreement(which_a: np.ndarray, which_b: np.ndarray) -> tuple[float, float]:
    """Share of pairs (P,) whose sides have the same nearest centre, and the share by chance.

    Chance: Σ_k p_k·q_k with p, q the shares of centre k on either side: some centres are everyone's
    nearest, and agreement on those says nothing about a person.
    """
    n = int(max(which_a.max(), which_b.max())) + 1
    p, q = (np.bincount(w, minlength=n) / len(w) for w in (which_a, which_b))
    return float(np.mean(which_a == which_b)), float(p @ q)


@dataclass(frozen=True)
class TwoByTwo:
    """Counts of (row true/false) × (column true/false), their odds ratio and its 95 % interval.

    Attributes:
        counts: (2, 2) int; [0, 0] is both true, [1, 1] both false.
        odds_ratio: a·d / (b·c). lo, hi: 95 % interval of Woolf, exp(log OR ± 1.96·√Σ 1/n), wider
            where pairs share people and these are known.
        corrected: 0.5 was added to all cells since one is empty (Haldane and Anscombe).
    """

    counts: np.ndarray
    odds_ratio: float
    lo: float
    hi: float
    corrected: bool


def two_by_two(row: np.ndarray, column: np.ndarray, people: iv.People | None = None) -> TwoByTwo:
    """Cross two boolean arrays (P,); without `people` pairs count as independent."""
    row, column = np.asarray(row, bool), np.asarray(column, bool)
    cell = 2 * ~row + ~column
    counts = np.bincount(cell, minlength=4)
    corrected = bool((counts == 0).any())
    cells = counts + 0.5 * corrected
    sign = np.array([1, -1, -1, 1])
    log_ratio = sign @ np.log(cells)
    shared = people.variance((sign / cells)[cell]) if people else 0.0
    reach = iv.Z * np.sqrt(max(shared, (1 / cells).sum()))
    lo, ratio, hi = (float(np.exp(log_ratio + x)) for x in (-reach, 0, reach))
    return TwoByTwo(counts.reshape(2, 2), ratio, lo, hi, corrected)


def mean_interval(
    values: np.ndarray, ids: np.ndarray, others: np.ndarray | None = None
) -> tuple[float, float, float]:
    """Mean of values (P,) and its 95 % interval over people: Wilson's if they are booleans, else t.

    Args:
        ids, others: (P,) person of either side of each pair; all pairs of a person count together,
            so that somebody with many pairs is one person. One side will do for genuine pairs.
    """
    people = iv.People(ids, ids if others is None else others, len(values))
    mean = float(np.mean(values))
    spread = people.count / max(people.count - 1, 1)
    variance = spread * people.variance((values - mean) / len(values))
    if values.dtype == bool:
        return mean, *iv.wilson(mean, variance, people.count)
    reach = float(t.ppf(0.975, max(people.count - 1, 1)) * np.sqrt(variance))
    return mean, mean - reach, mean + reach


def class_spread(emb: np.ndarray, labels: np.ndarray) -> float:
    """Variance within classes over the squared distance of their means (arXiv 2112.15121).

    The class-distance normalised variance, as a ratio of means over all pairs of classes instead of
    a mean of ratios: with two images a class a single ratio has no stable value. Both parts are
    free of the bias of few images.

    Args:
        emb: (U, d). labels: (U,) 0 … N − 1; a class of one image does not count.
    """
    emb, counts = np.asarray(emb, np.float64), np.bincount(labels)
    kept = counts > 1
    order = np.argsort(labels, kind="stable")
    starts = np.cumsum(counts) - counts
    n = counts[kept]
    mean = np.add.reduceat(emb[order], starts)[kept] / n[:, None]
    squares = np.add.reduceat((emb**2).sum(1)[order], starts)[kept]
    within = (squares - n * (mean**2).sum(1)) / (n - 1)
    apart = 2 * np.var(mean, axis=0, ddof=1).sum() - 2 * np.mean(within / n)
    return float(within.mean() / apart)


def fit_linear(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(d + 1, e) least squares from rows of `a` (U, d) and a constant to rows of `b` (U, e)."""
    return np.linalg.lstsq(_with_ones(a), np.asarray(b, np.float64), rcond=None)[0]


def apply_linear(a: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Rows of `a` (U, d) under a map of `fit_linear`: (U, e)."""
    return _with_ones(a) @ weights


def _with_ones(a: np.ndarray) -> np.ndarray:
    return np.column_stack([np.asarray(a, np.float64), np.ones(len(a))])


def alignment(a: np.ndarray, b: np.ndarray) -> float:
    """Mean squared distance of positive pairs, unit rows (P, d) each (arXiv 2005.10242, α = 2)."""
    return float(np.mean(np.sum((a - b) ** 2, axis=1, dtype=np.float64)))


def uniformity(emb: np.ndarray, block: int = 1024) -> float:
    """log mean exp(−2‖x − y‖²) over all pairs of two unit rows (U, d) (arXiv 2005.10242, t = 2).

    Lower is more uniform; −4 is the limit for a uniform sphere of many dimensions.
    """
    n = len(emb)
    total = -np.inf
    for start in range(0, n, block):
        exponent = 4 * (emb[start : start + block] @ emb.T).astype(np.float64) - 4  # −2‖x − y‖²
        own = np.arange(len(exponent))
        exponent[own, start + own] = -np.inf
        total = np.logaddexp(total, logsumexp(exponent))
    return float(total - np.log(n * (n - 1)))


def spectrum(emb: np.ndarray) -> np.ndarray:
    """Shares (d,) of the variance of emb (U, d) in its principal directions, falling, sum 1."""
    emb = np.asarray(emb, np.float64)
    values = np.linalg.eigvalsh(np.cov(emb, rowvar=False))[::-1].clip(0)
    return values / values.sum()


def effective_dimension(shares: np.ndarray) -> tuple[float, float]:
    """Participation ratio 1/Σp² and exp-entropy exp(−Σ p log p) of the shares p (d,)."""
    p = shares[shares > 0]
    return float(1 / np.sum(p**2)), float(np.exp(-np.sum(p * np.log(p))))


def similarity_gap(score: np.ndarray, same: np.ndarray) -> tuple[float, float, float]:
    """Mean cosine of positive pairs, of impostor pairs, and their difference; (P,) each."""
    positive, negative = float(score[same].mean()), float(score[~same].mean())
    return positive, negative, positive - negative


def global_threshold(score: np.ndarray, same: np.ndarray, far: float) -> float:
    """Cosine t so that `score > t` accepts at most a share `far` of the impostor pairs (P,).

    Order statistic: with n impostors the (⌊far·n⌋ + 1)-th largest, ties with it refused.
    """
    impostors = np.sort(score[~same])[::-1]
    return float(impostors[int(np.floor(far * len(impostors)))])
