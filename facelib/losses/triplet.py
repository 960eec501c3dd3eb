"""Triplet loss with semi-hard negatives."""

import math

import torch
from torch import nn

from facelib.losses.parts.margin import LossOutput
from facelib.losses.parts.pairs import batch_cosines
from facelib.rows import LossRow

ROW = LossRow(
    name="triplet",
    label="Triplet",
    layout="groups",
    head=False,
    takes=("m", "gather"),
    published={"images_per_identity": 4},
    source="Schroff et al., CVPR 2015, arXiv 1503.03832, eq. 2 to 4",
)


class Triplet(nn.Module):
    r"""Triplet loss with semi-hard negatives (Schroff et al., FaceNet, arXiv 1503.03832, eq. 2-4).

    L = mean_{(a,p)} max(‖f_a − f_p‖² − ‖f_a − f_n‖² + m, 0)

    over all pairs (a, p) of two images of one identity. n is the closest negative that is farther
    from a than p is (eq. 4); where none is, the farthest negative. FaceNet names no such rule; this
    one is TensorFlow Addons', and it keeps pairs whose negatives are all too close in the loss.

    Args:
        m: margin of squared distances (FaceNet: 0.2).
        gather: negatives from all processes.

    Shapes: z (B, d) unnormalised, labels (B,) -> scalar. Batch layout: groups of K images.
    """

    def __init__(self, m: float = 0.2, gather: bool = True):
        super().__init__()
        self.m, self.gather = m, gather

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        cos, positive, negative = batch_cosines(z, labels, self.gather)
        anchor, partner = positive.nonzero(as_tuple=True)  # T = B·(K − 1) pairs
        d_ap = 2 - 2 * cos[anchor, partner]  # (T,) squared distances of unit vectors
        d_an, allowed = 2 - 2 * cos[anchor], negative[anchor]  # (T, R·B)
        farther = d_an.masked_fill(~allowed | (d_an <= d_ap[:, None]), math.inf).amin(1)
        farthest = d_an.masked_fill(~allowed, -math.inf).amax(1)
        semi_hard = farther.isfinite()
        violation = d_ap - torch.where(semi_hard, farther, farthest) + self.m
        return violation.relu().mean(), {
            "positive_cosine": 1 - d_ap.mean() / 2,
            "active_triplets": (violation > 0).to(z.dtype).mean(),
            "semi_hard_triplets": semi_hard.to(z.dtype).mean(),
        }


def build(cfg, classes: int, dim: int) -> Triplet:
    """From a `Config`."""
    return Triplet(cfg.m, cfg.gather)
