"""Sub-center ArcFace: several centres per identity, the nearest counts."""

import torch

from facelib.losses.arcface import ArcFace
from facelib.rows import ARC, LossRow, setting

ROW = LossRow(
    name="subcenter",
    label="Sub-center ArcFace",
    layout="plain",
    head=True,
    takes=ARC,
    settings={"subcenters": setting(3, "centres per identity", low=1)},
    published={"m": 0.5},
    source="Deng et al., ECCV 2020, sec. 3",
)


class SubCenterArcFace(ArcFace):
    r"""ArcFace with K centres a class (Deng et al., ECCV 2020, sec. 3): cos θ_j = max_k f·W_{jk}.

    A noisy or odd image may stand at a sub-centre of its own instead of pulling the main one.

    Args as in ArcFace; subcenters: K, 3 in the paper. `weight` is (N·K, d), class after class.

    Shapes: z (B, d) unnormalised, labels (B,) in [0, N) -> scalar. Batch layout: plain.
    """

    def __init__(
        self,
        classes: int,
        dim: int,
        s: float = 64.0,
        m: float = 0.5,
        subcenters: int = 3,
        gradient: str = "exact",
        branch: str = "hard",
    ):
        super().__init__(classes * subcenters, dim, s, m, gradient, branch)
        self.subcenters = subcenters

    def cosines(self, z: torch.Tensor) -> torch.Tensor:
        """cos θ between embeddings and the nearest sub-centre of each class, (B, N)."""
        return super().cosines(z).unflatten(1, (-1, self.subcenters)).amax(2)


def build(cfg, classes: int, dim: int) -> SubCenterArcFace:
    """From a `Config`."""
    return SubCenterArcFace(classes, dim, cfg.s, cfg.m, cfg.subcenters, cfg.gradient, cfg.branch)
