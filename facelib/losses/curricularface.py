"""CurricularFace: hard negatives weigh more as training goes on."""

import torch

from facelib.distributed import gather
from facelib.losses.arcface import ArcFace
from facelib.losses.parts.margin import LossOutput, margin_softmax, share_of_hard
from facelib.rows import LossRow

ROW = LossRow(
    name="curricularface",
    label="CurricularFace",
    layout="plain",
    head=True,
    takes=("s", "m"),
    published={"m": 0.5},
    source="Huang et al., CVPR 2020, arXiv 2004.00288, sec. 3",
)


class CurricularFace(ArcFace):
    r"""Hard negatives weigh more as training goes on (Huang et al., arXiv 2004.00288, sec. 3).

    ArcFace's target t_i = cos(θ_{y_i} + m); a negative above it, cos θ_j > t_i, becomes
    cos θ_j · (c + cos θ_j);  c ← 0.99 · c + 0.01 · mean_i cos θ_{y_i}, over all processes

    c (the paper's t; the mean is its eq. 9) starts at 0, where hard negatives count less than they
    are, and follows the mean target cosine before each training batch, as in the authors' code.

    Args and shapes as in ArcFace. rate: of c. Batch layout: plain.
    """

    def __init__(self, classes: int, dim: int, s: float = 64.0, m: float = 0.5, rate: float = 0.01):
        super().__init__(classes, dim, s, m)
        self.rate = rate
        self.register_buffer("c", torch.zeros(()))

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        cos = self.cosines(z)  # (B, N)
        cos_y = cos.gather(1, labels[:, None]).squeeze(1)  # (B,)
        if self.training:
            mean = gather(cos_y.detach().mean()[None]).mean()
            self.c.copy_((1 - self.rate) * self.c + self.rate * mean)
        target = self.margin(cos_y)
        hard = cos.detach() > target.detach()[:, None]
        weighed = torch.where(hard, cos * (self.c + cos), cos)
        loss, logs = margin_softmax(cos, target, labels, self.s, negatives=weighed)
        return loss, {
            **logs,
            "curriculum": self.c.clone(),
            "hard_negatives": share_of_hard(hard, labels),
        }


def build(cfg, classes: int, dim: int) -> CurricularFace:
    """From a `Config`."""
    return CurricularFace(classes, dim, cfg.s, cfg.m)
