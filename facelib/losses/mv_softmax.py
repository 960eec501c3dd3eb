"""MV-Softmax: misclassified vectors weigh more."""

import torch

from facelib.losses.cosface import CosFace
from facelib.losses.parts.margin import LossOutput, margin_softmax, share_of_hard
from facelib.rows import LossRow, setting

ROW = LossRow(
    name="mv_softmax",
    label="MV-Softmax",
    layout="plain",
    head=True,
    takes=("s", "m"),
    settings={"mv_t": setting(1.12, "weight of hard negatives (FaceX-Zoo's); 1 is CosFace", low=1)},
    published={"m": 0.35, "mv_t": 1.2},
    source="Wang et al., AAAI 2020, arXiv 1912.00833, adaptive MV-AM; xiaoboCASIA/SV-X-Softmax",
)


class MVSoftmax(CosFace):
    r"""Misclassified vectors weigh more (Wang et al., arXiv 1912.00833, adaptive MV-AM).

    CosFace's target t_i = cos θ_{y_i} − m; a negative above it, cos θ_j > t_i, becomes
    t · cos θ_j + t − 1, that is cos θ_j + (t − 1)(cos θ_j + 1): more for the nearer ones

    t = 1 is CosFace. The authors' code (easy_margin) leaves the margin out where cos θ_y ≤ 0, that
    of FaceX-Zoo where cos θ_y ≤ m; the equations, and this class, do not.

    Args: t: weight, 1.2 in the authors' code (written 0.2 there), 1.12 in FaceX-Zoo's.
        Others and shapes as in CosFace. Batch layout: plain.
    """

    def __init__(self, classes: int, dim: int, s: float = 64.0, m: float = 0.35, t: float = 1.2):
        super().__init__(classes, dim, s, m)
        self.t = t

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        cos = self.cosines(z)  # (B, N)
        target = self.margin(cos.gather(1, labels[:, None]).squeeze(1))  # (B,)
        hard = cos.detach() > target.detach()[:, None]
        weighed = torch.where(hard, self.t * cos + self.t - 1, cos)
        loss, logs = margin_softmax(cos, target, labels, self.s, negatives=weighed)
        return loss, {**logs, "hard_negatives": share_of_hard(hard, labels)}


def build(cfg, classes: int, dim: int) -> MVSoftmax:
    """From a `Config`."""
    return MVSoftmax(classes, dim, cfg.s, cfg.m, cfg.mv_t)
