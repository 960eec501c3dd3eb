"""Arithmetic of margin softmaxes, in fp32; angles in radians."""

import math

import torch
import torch.nn.functional as F

from facelib.losses.parts.banks import ANCHORS, effective_number

LossOutput = tuple[torch.Tensor, dict[str, torch.Tensor]]


def cosine_of_sum(
    cos_y: torch.Tensor, m: float | torch.Tensor, branch: str = "hard"
) -> torch.Tensor:
    """cos(θ + m) and its `branch` (see `ArcFace`), for one margin or one an image: (B,) -> (B,)."""
    cos, sin = (torch.cos, torch.sin) if isinstance(m, torch.Tensor) else (math.cos, math.sin)
    c = cos_y.clamp(-1 + 1e-7, 1 - 1e-7)  # the slope of the sine is infinite at ±1
    t = c * cos(m) - (1 - c * c).sqrt() * sin(m)
    if branch == "hard":
        return torch.where(c > cos(math.pi - m), t, c - m * sin(math.pi - m))
    return torch.where(c > 0, t, c) if branch == "easy" else t


def margin_softmax(
    cos: torch.Tensor,
    target: torch.Tensor,
    labels: torch.Tensor,
    s: float,
    negatives: torch.Tensor | None = None,
) -> LossOutput:
    """−mean_i log softmax of s·cos (B, N) with the label's column replaced by target (B,).

    `negatives` (B, N) take the place of the other cosines in the softmax; the logs are of cos, but
    for the effective number of centres, which is of the softmax.
    """
    columns = cos if negatives is None else negatives
    loss = F.cross_entropy(columns.scatter(1, labels[:, None], target[:, None]) * s, labels)
    accuracy = (cos.argmax(1) == labels).float().mean()
    cos_y = cos.gather(1, labels[:, None])
    rows, own = columns.detach()[:ANCHORS], labels[:ANCHORS, None]
    return loss, {
        "target_cosine": cos_y.mean(),
        "train_accuracy": accuracy,
        "effective_centres": effective_number((rows * s).scatter(1, own, -math.inf)),
    }


def share_of_hard(hard: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Share of the negative columns that are hard; `hard` (B, N) is of any value at the labels."""
    negatives = hard.scatter(1, labels[:, None], False)
    return negatives.sum() / float(max(hard.numel() - len(hard), 1))
