"""SphereFace: a multiplicative margin on the angle."""

import math

import torch

from facelib.losses.arcface import ArcFace
from facelib.losses.parts.centres import split_of
from facelib.rows import CENTRES, LossRow

ROW = LossRow(
    name="sphereface",
    label="SphereFace",
    layout="plain",
    head=True,
    takes=("s", "m", "gradient", *CENTRES),
    published={"m": 1.7, "gradient": "straight_through"},
    source="Liu et al., CVPR 2017, arXiv 1704.08063, eq. 7; today's form: arXiv 2109.05565",
)


class SphereFace(ArcFace):
    r"""Multiplicative angular margin softmax (Liu et al., arXiv 1704.08063, eq. 7).

    ArcFace's softmax with t_i = ψ(θ_{y_i}),  ψ(θ) = (−1)^k cos(mθ) − 2k,  k = ⌊mθ/π⌋

    ψ is continuous and falls with θ for every real m ≥ 1. The paper has m = 4 and ‖z‖ in place of
    s; unit features with a fixed s and a small m are today's form, SphereFace-R (arXiv 2109.05565).
    That one detaches the margin's factor (its "characteristic gradient detachment"), which is
    gradient="straight_through": ∂t/∂cos θ = 1 instead of m·sin(mθ)/sin θ in the first segment.
    gradient="exact" is the paper of 2017.

    Args as in ArcFace; m multiplies the angle, 1 is no margin.

    Shapes: z (B, d) unnormalised, labels (B,) in [0, N) -> scalar. Batch layout: plain.
    """

    def __init__(self, classes: int, dim: int, s: float = 64.0, m: float = 1.7, **split):
        super().__init__(classes, dim, s, m, **split)

    def margin(self, cos_y: torch.Tensor) -> torch.Tensor:
        """t of the target class, (B,)."""
        angle = self.m * cos_y.clamp(-1 + 1e-7, 1 - 1e-7).acos()  # mθ
        k = (angle.detach() / math.pi).floor()
        return self.sloped((1 - 2 * (k % 2)) * angle.cos() - 2 * k, cos_y)


def build(cfg, classes: int, dim: int) -> SphereFace:
    """From a `Config`."""
    return SphereFace(classes, dim, cfg.s, cfg.m, gradient=cfg.gradient, **split_of(cfg, classes))
