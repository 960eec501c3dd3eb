"""CosFace: an additive margin on the cosine."""

import torch

from facelib.losses.arcface import ArcFace
from facelib.losses.parts.centres import split_of
from facelib.rows import CENTRES, LossRow

ROW = LossRow(
    name="cosface",
    label="CosFace",
    layout="plain",
    head=True,
    takes=("s", "m", *CENTRES),
    published={"m": 0.35},
    source="Wang et al., CVPR 2018, arXiv 1801.09414",
)


class CosFace(ArcFace):
    r"""Additive cosine margin softmax (Wang et al., arXiv 1801.09414, eq. 4).

    ArcFace's softmax with t_i = cos θ_{y_i} − m. Also known as AM-Softmax (1801.05599).

    Args as in ArcFace; m is a margin of cosines. There is one gradient only: ∂t/∂cos θ = 1.

    Shapes: z (B, d) unnormalised, labels (B,) in [0, N) -> scalar. Batch layout: plain.
    """

    def __init__(self, classes: int, dim: int, s: float = 64.0, m: float = 0.35, **split):
        super().__init__(classes, dim, s, m, **split)

    def margin(self, cos_y: torch.Tensor) -> torch.Tensor:
        """t of the target class, (B,)."""
        return cos_y - self.m


def build(cfg, classes: int, dim: int) -> CosFace:
    """From a `Config`."""
    return CosFace(classes, dim, cfg.s, cfg.m, **split_of(cfg, classes))
