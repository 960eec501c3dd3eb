"""IJB-B and IJB-C, 1:1: templates of several images, compared over the official list of pairs.

Template: the mean of its images inside each media (a video is one), the sum over its media, unit
norm. Score: cosine. Figures: TAR at FAR 1e-6 … 1e-1 by order statistics. As InsightFace does by
default, an image's embedding is f(x) + f(flip x), not normalised, times its detector score.
"""

import logging
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from facelib.errors import UserError
from facelib.metrics.scores import far_name
from facelib.metrics.verification import auc, tar_at_far

log = logging.getLogger(__name__)

FARS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
AREA = 1 << 24  # cosines that are made at once
COLUMNS = 64  # of embeddings that are pooled at once, in fp64


@dataclass(frozen=True, eq=False)
class TemplateProtocol:
    """N images in T templates, and P pairs of templates.

    Attributes:
        names: N image files. template, media: int64 (N,), ids of each image.
        ids: int64 (T,), sorted template ids. index1, index2: (P,) rows of `ids`. same: bool (P,).
        landmarks: float (N, 5, 2) pixels, detector: float (N,) scores; None without their file.
    """

    names: list[str]
    template: np.ndarray
    media: np.ndarray
    ids: np.ndarray
    index1: np.ndarray
    index2: np.ndarray
    same: np.ndarray
    landmarks: np.ndarray | None
    detector: np.ndarray | None


def template_embeddings(emb: np.ndarray, template: np.ndarray, media: np.ndarray) -> np.ndarray:
    """Unit template embeddings, float32 (T, d), in the order of the sorted template ids.

    Args:
        emb: (N, d) image embeddings of any length. template, media: (N,) ids of each image.

    Raises:
        UserError: an embedding that is not finite, or a template whose media cancel out.
    """
    bad = np.flatnonzero(~np.isfinite(emb).all(axis=1))
    if len(bad):
        raise UserError(f"{len(bad)} of {len(emb)} embeddings are not finite (first: row {bad[0]})")
    order = np.lexsort((media, template))
    t, m = template[order], media[order]
    starts = np.flatnonzero(np.r_[True, (t[1:] != t[:-1]) | (m[1:] != m[:-1])])
    frames = np.diff(np.r_[starts, len(t)])  # of each media of a template
    first = np.flatnonzero(np.r_[True, t[1:] != t[:-1]])
    weights = np.repeat(1 / frames, frames), order, np.r_[first, len(t)]
    mean = csr_matrix(weights, (len(first), len(t)))  # (T, N)
    pooled = np.empty((len(first), emb.shape[1]))
    for start in range(0, emb.shape[1], COLUMNS):  # a copy of all in fp64 is large
        part = slice(start, start + COLUMNS)
        pooled[:, part] = mean @ emb[:, part].astype(np.float64)
    length = np.linalg.norm(pooled, axis=1, keepdims=True)
    if not length.all():
        raise UserError(f"template {t[first][length.argmin()]} has an embedding of zeros")
    return (pooled / length).astype(np.float32)


def score_pairs(unit: np.ndarray, index1: np.ndarray, index2: np.ndarray) -> np.ndarray:
    """Cosines float32 (P,) of pairs of rows of `unit` (T, d).

    By matrix products: a block of the rows that `index1` names, with all rows that they meet.
    """
    rows = _named(index1, len(unit))
    if 2 * len(rows) > len(unit):  # a pair has one cosine in either order: half of the products
        index1, index2 = (
            side(index1, index2, dtype=np.int32, casting="unsafe")  # half the memory: T is small
            for side in (np.minimum, np.maximum)
        )
        rows = _named(index1, len(unit))
    size = max(1, AREA // len(unit))
    number = np.zeros(len(unit), np.min_scalar_type(len(rows) // size))  # of each row's block
    number[rows] = np.arange(len(rows)) // size
    score, place = np.empty(len(index1), np.float32), np.zeros(len(unit), np.intp)
    block = number[index1]
    order = np.argsort(block, kind="stable")  # linear in P for integers of 8 and 16 bits
    ends = np.cumsum(np.bincount(block))
    for start, pairs in zip(range(0, len(rows), size), np.split(order, ends[:-1])):
        own, there = rows[start : start + size], _named(index2[pairs], len(unit))
        place[own] = np.arange(len(own))
        row = place[index1[pairs]]
        place[there] = np.arange(len(there))
        score[pairs] = (unit[own] @ unit[there].T)[row, place[index2[pairs]]]
    return score


def _named(index: np.ndarray, total: int) -> np.ndarray:
    """The distinct numbers below `total` in `index`, sorted."""
    return np.flatnonzero(np.bincount(index, minlength=total))


def verify_templates(
    protocol: TemplateProtocol, emb: np.ndarray, detector_score: bool = True
) -> dict:
    """All figures of a template protocol.

    Args:
        emb: (N, d) embeddings in the order of `protocol.names`.
        detector_score: weigh images by their detector score, where the protocol has it.

    Returns:
        JSON-able dict; `tar_at_far` is null where the impostors are too few.
    """
    if emb.ndim != 2 or len(emb) != len(protocol.names):
        raise UserError(
            f"embeddings of shape {emb.shape}, wanted ({len(protocol.names)}, d): one row each "
            "of the template list, in its order"
        )
    weighed = detector_score and protocol.detector is not None
    emb = emb * protocol.detector[:, None].astype(np.float32) if weighed else emb
    unit = template_embeddings(emb, protocol.template, protocol.media)
    score, same = score_pairs(unit, protocol.index1, protocol.index2), protocol.same
    if same.all() or not same.any():
        raise UserError(f"all {len(same)} pairs are of one kind: nothing to verify")
    return {
        "images": len(emb),
        "templates": len(unit),
        "genuine": int(same.sum()),
        "impostors": int((~same).sum()),
        "detector_score": weighed,
        "tar_at_far": {far_name(k): v for k, v in tar_at_far(score, same, FARS).items()},
        "auc": auc(score, same),
    }
