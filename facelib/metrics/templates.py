"""IJB-B and IJB-C, 1:1: templates of several images, compared over the official list of pairs.

Template: the mean of its images inside each media (a video is one), the sum over its media, unit
norm. Score: cosine. Figures: TAR at FAR 1e-6 … 1e-1 by order statistics. As InsightFace does by
default, an image's embedding is f(x) + f(flip x), not normalised, times its detector score.
"""

import logging
from dataclasses import dataclass

import numpy as np

from facelib.errors import UserError
from facelib.metrics.scores import far_name
from facelib.metrics.verification import auc, tar_at_far

log = logging.getLogger(__name__)

FARS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
BLOCK = 1 << 16  # pairs that are scored at once


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
    sums = np.add.reduceat(emb[order].astype(np.float64), starts, axis=0)
    means = sums / np.diff(np.r_[starts, len(t)])[:, None]  # one row per media of a template
    first = np.flatnonzero(np.r_[True, t[starts][1:] != t[starts][:-1]])
    pooled = np.add.reduceat(means, first, axis=0)  # (T, d)
    length = np.linalg.norm(pooled, axis=1, keepdims=True)
    if not length.all():
        raise UserError(f"template {t[starts][first][length.argmin()]} has an embedding of zeros")
    return (pooled / length).astype(np.float32)


def score_pairs(unit: np.ndarray, index1: np.ndarray, index2: np.ndarray) -> np.ndarray:
    """Cosines float32 (P,) of pairs of rows of `unit` (T, d), a block of pairs at a time."""
    score = np.empty(len(index1), np.float32)
    for start in range(0, len(score), BLOCK):
        part = slice(start, start + BLOCK)
        score[part] = np.einsum("pd,pd->p", unit[index1[part]], unit[index2[part]])
    return score


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
