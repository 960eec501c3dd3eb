"""NTCE: each image's class centre is contrasted with the images of the batch."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from facelib.losses.parts.margin import LossOutput
from facelib.losses.parts.pairs import rows_and_columns
from facelib.rows import LossRow, setting

ROW = LossRow(
    name="ntce",
    label="NTCE",
    layout="plain",
    head=True,
    takes=("tau", "gather"),
    settings={
        "ntce_mask": setting(
            "none",
            "identity: other images of the anchor's identity are no negatives (ours)",
            choices=("none", "identity"),
        ),
    },
    published={"tau": 0.1},
    source="Koromilas et al., ICML 2026, arXiv 2605.20302; losses.py of pakoromilas/nc_by_design",
)


class NTCE(nn.Module):
    r"""Softmax over the images of the batch instead of over the classes (arXiv 2605.20302).

    L = −mean_i log( e^{w_{y_i}·f_i/τ} / Σ_j e^{w_{y_i}·f_j/τ} ),  j over the images of the batch

    w and f are unit vectors. The anchor is the centre of the image's class, so that the negatives
    are as many as the images of the batch, not as the classes; the other centres take no part.
    As in the authors' code another image of the same identity is a negative too: an identity with
    K images in the batch has a loss of at least log K. mask="identity" leaves those images out (a
    labelled variant). The authors contrast with the images of one process; gather=False does so.

    Args:
        classes: N. dim: d. tau: temperature (published: 0.1 for CIFAR-100).
        gather: images of all processes (with gradient). mask: "none" or "identity".

    Shapes: z (B, d) unnormalised, labels (B,) in [0, N) -> scalar. Batch layout: plain.
    """

    def __init__(
        self, classes: int, dim: int, tau: float = 0.1, gather: bool = True, mask: str = "none"
    ):
        super().__init__()
        self.tau, self.gather, self.mask = tau, gather, mask
        self.weight = nn.Parameter(torch.empty(classes, dim).normal_(std=0.01))  # (N, d)

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        _, columns, own, classes = rows_and_columns(z.to(self.weight.dtype), labels, self.gather)
        cos = F.normalize(self.weight[labels]) @ columns.T  # (B, R·B): centres × images
        cos_y = cos.gather(1, own[:, None])
        negative = labels[:, None] != classes
        logits = cos / self.tau
        if self.mask == "identity":
            logits = logits.masked_fill(~negative.scatter(1, own[:, None], True), -math.inf)
        with torch.no_grad():
            others = (cos * negative).sum(1) / negative.sum(1).clamp_min(1)
        return F.cross_entropy(logits, own), {
            "target_cosine": cos_y.mean(),
            "negative_cosine": others.mean(),
            "train_accuracy": (logits.argmax(1) == own).float().mean(),
        }


def build(cfg, classes: int, dim: int) -> NTCE:
    """From a `Config`."""
    return NTCE(classes, dim, cfg.tau, cfg.gather, cfg.ntce_mask)
