"""Supervised contrastive loss: InfoNCE with several positives per image."""

import math

import torch
from torch import nn

from facelib.losses.parts.margin import LossOutput
from facelib.losses.parts.pairs import batch_cosines, cosine_means, mean_where
from facelib.losses.scale.chunked import contrast_by_blocks
from facelib.rows import LossRow

ROW = LossRow(
    name="supcon",
    label="SupCon",
    layout="groups",
    head=False,
    takes=("tau", "gather", "loss_block"),
    published={"images_per_identity": 4},
    source="Khosla et al., NeurIPS 2020, arXiv 2004.11362, eq. 2",
)


class SupCon(nn.Module):
    r"""Supervised contrastive loss (Khosla et al., arXiv 2004.11362, eq. 2): K images per person.

    L = −mean_i 1/|P(i)| Σ_{p∈P(i)} log( e^{f_i·f_p/τ} / Σ_{j≠i} e^{f_i·f_j/τ} )

    P(i) are the other images of i's identity. With two images per identity it is InfoNCE.

    Args:
        tau: temperature, 0.07 in the authors' code. gather: columns from all processes.
        block: 0 computes all cosines at once; N computes the same by blocks of N × N.

    Shapes: z (B, d) unnormalised, labels (B,) -> scalar. Batch layout: groups of K images.
    """

    def __init__(self, tau: float = 0.07, gather: bool = True, block: int = 0):
        super().__init__()
        self.tau, self.gather, self.block = tau, gather, block

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        if self.block:
            return contrast_by_blocks(self, z, labels, decoupled=False)
        cos, positive, negative = batch_cosines(z, labels, self.gather)
        logits = cos / self.tau
        columns = positive | negative  # all but the own one
        log_p = logits - logits.masked_fill(~columns, -math.inf).logsumexp(1, keepdim=True)
        loss = -mean_where(log_p, positive).mean()
        return loss, cosine_means(cos, positive, negative)


def build(cfg, classes: int, dim: int) -> SupCon:
    """From a `Config`."""
    return SupCon(cfg.tau, cfg.gather, cfg.loss_block)
