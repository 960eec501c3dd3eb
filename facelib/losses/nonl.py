"""NONL: attraction to the own class centre, repulsion normalised over negatives only."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from facelib.losses.parts.margin import LossOutput
from facelib.losses.parts.pairs import rows_and_columns
from facelib.rows import LossRow, setting

ROW = LossRow(
    name="nonl",
    label="NONL",
    layout="plain",
    head=True,
    takes=("tau", "gather"),
    settings={
        "nonl_negatives": setting(
            "images",
            "images of other identities (published), other centres, or both",
            choices=("images", "centres", "both"),
        ),
    },
    published={"tau": 0.1},
    source="Koromilas et al., ICML 2026, arXiv 2605.20302; losses.py of pakoromilas/nc_by_design",
)


class NONL(nn.Module):
    r"""Classifier whose normaliser holds the negatives only (arXiv 2605.20302).

    L = mean_i ( −w_{y_i}·f_i/τ + log Σ_n e^{c_n/τ} )

    c_n = w_{y_i}·f_j over the images j of the batch with y_j ≠ y_i ("images", the authors'
    `--symmetric`, which they require for training), w_k·f_i over the other centres k ≠ y_i
    ("centres", their plain form), or both together (their `--bidirectional`). w and f are unit
    vectors. Without the target in the sum, alignment and uniformity are apart: L may be negative.
    The authors take the images of one process; gather=False does so. An image without negatives
    has the first term only (in the authors' code: infinite).

    Args:
        classes: N. dim: d. tau: temperature (published: 0.1 for CIFAR-100).
        gather: images of all processes (with gradient). negatives: as above.

    Shapes: z (B, d) unnormalised, labels (B,) in [0, N) -> scalar. Batch layout: plain.
    """

    def __init__(
        self,
        classes: int,
        dim: int,
        tau: float = 0.1,
        gather: bool = True,
        negatives: str = "images",
    ):
        super().__init__()
        self.tau, self.gather, self.negatives = tau, gather, negatives
        self.weight = nn.Parameter(torch.empty(classes, dim).normal_(std=0.01))  # (N, d)

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        f, columns, _, people = rows_and_columns(z.to(self.weight.dtype), labels, self.gather)
        own = F.normalize(self.weight[labels])  # (B, d)
        cos_y = (own * f).sum(1)  # (B,)
        cosines, ids = [], []
        if self.negatives != "centres":
            cosines.append(own @ columns.T)  # (B, R·B)
            ids.append(people)
        if self.negatives != "images":
            cosines.append(f @ F.normalize(self.weight).T)  # (B, N)
            ids.append(torch.arange(len(self.weight), device=labels.device))
        cos, negative = torch.cat(cosines, 1), labels[:, None] != torch.cat(ids)
        there = negative.any(1)
        logits = (cos / self.tau).masked_fill(~negative, -math.inf)
        repulsion = logits.masked_fill(~there[:, None], 0.0).logsumexp(1) * there
        hardest = logits.detach().amax(1)
        with torch.no_grad():
            others = (cos * negative).sum(1) / negative.sum(1).clamp_min(1)
        return (repulsion - cos_y / self.tau).mean(), {
            "target_cosine": cos_y.mean(),
            "negative_cosine": others.mean(),
            "train_accuracy": (cos_y / self.tau > hardest).float().mean(),
        }


def build(cfg, classes: int, dim: int) -> NONL:
    """From a `Config`."""
    return NONL(classes, dim, cfg.tau, cfg.gather, cfg.nonl_negatives)
