"""Circle loss between images and class centres."""

import math

import torch
import torch.nn.functional as F

from facelib.losses.arcface import ArcFace
from facelib.losses.parts.margin import LossOutput
from facelib.rows import LossRow

ROW = LossRow(
    name="circle",
    label="Circle, centres",
    layout="plain",
    head=True,
    takes=("s", "m"),
    published={"s": 256.0, "m": 0.25},
    source="Sun et al., CVPR 2020, arXiv 2002.10857, eq. 4 to 8",
)


def circle(
    cos: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor, s: float, m: float
) -> torch.Tensor:
    r"""Circle loss of each row (Sun et al., arXiv 2002.10857, eq. 4 to 8): (B, C) -> (B,).

    L_i = log( 1 + Σ_n e^{s·α_n (c_n − m)} · Σ_p e^{−s·α_p (c_p − 1 + m)} )
    α_p = max(1 + m − c_p, 0),  α_n = max(c_n + m, 0),  without gradient

    Args:
        cos: (B, C). positive, negative: bool (B, C), at least one of each in a row.
        s: scale, the paper's γ. m: relaxation; the aim is c_p > 1 − m and c_n < m.
    """
    still = cos.detach()
    pull = -s * (1 + m - still).relu() * (cos - 1 + m)
    push = s * (still + m).relu() * (cos - m)
    pull = pull.masked_fill(~positive, -math.inf).logsumexp(1)
    push = push.masked_fill(~negative, -math.inf).logsumexp(1)
    return F.softplus(pull + push)


class Circle(ArcFace):
    r"""Circle loss between images and class centres: one positive, N − 1 negatives (see `circle`).

    Args: classes, dim as in ArcFace. s: 256 and m: 0.25 for faces in the paper.

    Shapes: z (B, d) unnormalised, labels (B,) in [0, N) -> scalar. Batch layout: plain.
    """

    def __init__(self, classes: int, dim: int, s: float = 256.0, m: float = 0.25):
        super().__init__(classes, dim, s, m)

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        cos = self.cosines(z)  # (B, N)
        own = F.one_hot(labels, cos.shape[1]).bool()
        loss = circle(cos, own, ~own, self.s, self.m).mean()
        accuracy = (cos.argmax(1) == labels).to(cos.dtype).mean()
        return loss, {"target_cosine": cos[own].mean(), "train_accuracy": accuracy}


def build(cfg, classes: int, dim: int) -> Circle:
    """From a `Config`."""
    return Circle(classes, dim, cfg.s, cfg.m)
