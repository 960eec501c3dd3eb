"""ElasticFace: ArcFace with a margin that is drawn for each image."""

import torch

from facelib.losses.arcface import ArcFace
from facelib.rows import LossRow, setting

ROW = LossRow(
    name="elasticface",
    label="ElasticFace",
    layout="plain",
    head=True,
    takes=("s", "m", "branch"),
    settings={"elastic_sigma": setting(0.0125, "spread of m; the authors' runs have 0.05", low=0)},
    published={"m": 0.5, "branch": "none"},
    source="Boutros et al., CVPRW 2022, arXiv 2109.09416: Arc; losses.py of fdbtrs/ElasticFace",
)


class ElasticFace(ArcFace):
    r"""ArcFace with a margin drawn anew for each image (Boutros et al., arXiv 2109.09416: Arc).

    t_i = cos(θ_{y_i} + m_i),  m_i ~ N(m, σ²); in eval mode m_i = m

    As in the authors' code no branch begins where θ + m passes π; branch="hard" is our variant.

    Args: sigma: σ; 0 is ArcFace with that branch. Others and shapes as in ArcFace.
        Batch layout: plain.
    """

    def __init__(
        self,
        classes: int,
        dim: int,
        s: float = 64.0,
        m: float = 0.5,
        sigma: float = 0.0125,
        branch: str = "none",
    ):
        super().__init__(classes, dim, s, m, branch=branch)
        self.sigma = sigma

    def margin(self, cos_y: torch.Tensor) -> torch.Tensor:
        """t of the target class, (B,)."""
        sigma = self.sigma if self.training else 0.0
        return super().margin(cos_y, self.m + sigma * torch.randn_like(cos_y))


def build(cfg, classes: int, dim: int) -> ElasticFace:
    """From a `Config`."""
    return ElasticFace(classes, dim, cfg.s, cfg.m, cfg.elastic_sigma, cfg.branch)
