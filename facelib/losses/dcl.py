"""Decoupled contrastive loss: no positive in the denominator."""

import math

import torch
from torch import nn

from facelib.losses.parts.margin import LossOutput
from facelib.losses.parts.pairs import batch_cosines, cosine_means, mean_where
from facelib.losses.scale.chunked import contrast_by_blocks
from facelib.rows import LossRow

ROW = LossRow(
    name="dcl",
    label="DCL",
    layout="groups",
    head=False,
    takes=("tau", "gather", "loss_block"),
    published={"images_per_identity": 2},
    source="Yeh et al., ECCV 2022, arXiv 2110.06848",
)


class DCL(nn.Module):
    r"""Decoupled contrastive loss (Yeh et al., arXiv 2110.06848): no positive in the denominator.

    L = mean_i ( −1/|P(i)| Σ_{p∈P(i)} f_i·f_p/τ + log Σ_{n∈N(i)} e^{f_i·f_n/τ} )

    P(i) are the other images of i's identity, N(i) all images of others. Two images per identity is
    the paper's case; L may be negative. Without the positive in the sum, the gradient does not
    fade for pairs that are close already, so that small batches lose less.

    Args and shapes as in SupCon. Batch layout: groups of K images.
    """

    def __init__(self, tau: float = 0.07, gather: bool = True, block: int = 0):
        super().__init__()
        self.tau, self.gather, self.block = tau, gather, block

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        if self.block:
            return contrast_by_blocks(self, z, labels, decoupled=True)
        cos, positive, negative = batch_cosines(z, labels, self.gather)
        logits = cos / self.tau
        repulsion = logits.masked_fill(~negative, -math.inf).logsumexp(1)  # (B,)
        loss = (repulsion - mean_where(logits, positive)).mean()
        return loss, cosine_means(cos, positive, negative)


def build(cfg, classes: int, dim: int) -> DCL:
    """From a `Config`."""
    return DCL(cfg.tau, cfg.gather, cfg.loss_block)
