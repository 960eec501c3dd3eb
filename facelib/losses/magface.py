"""MagFace: the norm of an embedding is its quality, and sets the margin."""

import torch

from facelib.losses.arcface import ArcFace
from facelib.losses.parts.margin import LossOutput, margin_softmax
from facelib.rows import LossRow, setting

ROW = LossRow(
    name="magface",
    label="MagFace",
    layout="plain",
    head=True,
    takes=("s", "branch"),
    settings={
        "magface_low": setting(0.45, "margin at norm 10", low=0),
        "magface_high": setting(0.8, "margin at norm 110", low=0),
        "magface_weight": setting(35.0, "weight of the term that pulls norms up", low=0),
    },
    published={"branch": "easy"},
    source="Meng et al., CVPR 2021, arXiv 2103.06627; models/magface.py of IrvingMeng/MagFace",
)


class MagFace(ArcFace):
    r"""The norm is a quality, sets the margin and is pulled up (Meng et al., arXiv 2103.06627).

    L = ArcFace's softmax with t_i = cos(θ_{y_i} + m(a_i)) + λ_g · mean_i g(a_i)
    m(a) = l_m + (u_m − l_m)(a − l_a)/(u_a − l_a),  g(a) = a/u_a² + 1/a

    a = ‖z‖, clamped to [l_a, u_a]; margin and g carry gradient to the norm inside that range. The
    authors train with t_i = cos θ_{y_i} where that is not above 0 (their easy_margin, here
    branch="easy"); the paper's equations do not have it.

    Args:
        low, high: margins l_m and u_m at the ends of the range. weight: λ_g.
        norms: (l_a, u_a). branch: "easy", or as in ArcFace.
        Others and shapes as in ArcFace. Batch layout: plain.
    """

    def __init__(
        self,
        classes: int,
        dim: int,
        s: float = 64.0,
        low: float = 0.45,
        high: float = 0.8,
        weight: float = 35.0,
        norms: tuple[float, float] = (10.0, 110.0),
        branch: str = "easy",
    ):
        super().__init__(classes, dim, s, low, branch=branch)
        self.low, self.high, self.norm_weight, self.norms = low, high, weight, norms

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        least, most = self.norms
        norm = z.to(self.weight.dtype).norm(dim=1)  # (B,)
        a = norm.clamp(least, most)
        m = self.low + (self.high - self.low) * (a - least) / (most - least)
        cos = self.cosines(z)
        target = self.margin(cos.gather(1, labels[:, None]).squeeze(1), m)
        loss, logs = margin_softmax(cos, target, labels, self.s)
        regulariser = (a / most**2 + 1 / a).mean()
        loss = loss + self.norm_weight * regulariser
        return loss, {**logs, "norm": norm.mean(), "margin": m.mean(), "magnitude": regulariser}


def build(cfg, classes: int, dim: int) -> MagFace:
    """From a `Config`."""
    margins = (cfg.magface_low, cfg.magface_high)
    return MagFace(classes, dim, cfg.s, *margins, cfg.magface_weight, branch=cfg.branch)
