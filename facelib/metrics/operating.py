"""Operating points in the terms of ISO/IEC 19795-1: what a threshold rejects and lets through.

FMR (false match rate) is the share of impostor pairs above the threshold, FNMR (false non-match
rate) the share of genuine pairs below it: the field's FAR and 1 - TAR. FPIR and TPIR are their
counterparts for searches in a gallery: `facelib/metrics/identification.py`.
"""

import numpy as np
from scipy import stats

from facelib.errors import UserError
from facelib.metrics.intervals import LEVEL, People
from facelib.metrics.scores import Scores, far_name

FMRS = (1e-2, 1e-3, 1e-4, 1e-5)


def pairs_worth(wrong: np.ndarray, id1: np.ndarray | None, id2: np.ndarray | None) -> float:
    """How many independent pairs these P pairs are worth for the rate `wrong.mean()`.

    Args:
        wrong: bool (P,). id1, id2: (P,) identity of each side; None: all pairs are independent.

    Returns:
        At most P; P where nothing, or everything, is wrong.
    """
    pairs, rate = len(wrong), wrong.mean()
    if rate in (0, 1):
        return float(pairs)
    spread = People(id1, id2, pairs).variance((wrong - rate) / pairs)
    return float(min(pairs, rate * (1 - rate) / spread))


def threshold_for(scores: Scores, fmr: float) -> dict:
    """The threshold for use at a false match rate, and how well it is known.

    Of n impostors floor(fmr * n) may pass; the threshold lies just above the next one. The FMR that
    new people will see there has a Beta distribution (order statistics, distribution-free), with
    the number of impostors that these pairs are worth.

    Args:
        scores: of pairs. fmr: in (0, 1).

    Returns:
        fmr (wanted), threshold (accepts cos >= it), expected [lo, hi] of the FMR, fnmr; the last
        three are None where n * fmr < 1 ("not estimable").

    Raises:
        UserError: fmr outside (0, 1).
    """
    if not 0 < fmr < 1:
        raise UserError(f"FMR {fmr}: wanted a rate between 0 and 1, e.g. 1e-3")
    impostor = ~scores.same
    falling = np.sort(scores.score[impostor])[::-1]
    k = int(np.floor(fmr * len(falling)))
    if k == 0:
        return {"fmr": fmr, "threshold": None, "expected": None, "fnmr": None}
    threshold = float(np.nextafter(falling[k], np.inf))
    sides = [None if i is None else i[impostor] for i in (scores.id1, scores.id2)]
    worth = pairs_worth(scores.score[impostor] >= falling[k], *sides)
    passed = (k + 1) * worth / len(falling)
    ends = stats.beta.ppf([(1 - LEVEL) / 2, (1 + LEVEL) / 2], passed, worth - passed + 1)
    return {
        "fmr": fmr,
        "threshold": threshold,
        "expected": [float(end) for end in ends],
        "fnmr": float((scores.score[scores.same] < threshold).mean()),
    }


def operating_points(scores: Scores, fmrs=FMRS) -> dict[str, dict]:
    """`threshold_for` at each FMR, by its name ("1e-3")."""
    return {far_name(fmr): threshold_for(scores, fmr) for fmr in fmrs}


def discard_curve(
    scores: Scores, quality: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """FNMR of what is left when the genuine pairs of the lowest quality are discarded.

    Error against discard rate (Grother and Tabassi 2007), at a fixed threshold.

    Args:
        scores: G genuine pairs among others.
        quality: (P,), higher is better; of a pair it is the lower of its two sides.
        threshold: accepts cos >= it.

    Returns:
        Discarded share (G,) from 0, and FNMR (G,) of the pairs that are left.
    """
    genuine = np.flatnonzero(scores.same)
    order = genuine[np.argsort(quality[genuine], kind="stable")]
    missed = scores.score[order] < threshold
    left = np.arange(len(order), 0, -1)
    return 1 - left / len(order), np.cumsum(missed[::-1])[::-1] / left
