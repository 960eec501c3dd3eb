"""Circle loss between the images of a batch."""

import torch
from torch import nn

from facelib.losses.circle import circle
from facelib.losses.parts.margin import LossOutput
from facelib.losses.parts.pairs import batch_cosines, cosine_means
from facelib.rows import LossRow

ROW = LossRow(
    name="circle_pairs",
    label="Circle, image pairs",
    layout="groups",
    head=False,
    takes=("s", "m", "gather"),
    published={"s": 80.0, "m": 0.4, "images_per_identity": 4},
    source="Sun et al., CVPR 2020, arXiv 2002.10857, eq. 4 to 8",
)


class CirclePairs(nn.Module):
    r"""Circle loss between the images of a batch (see `circle`).

    Args: s: 80 and m: 0.4 for image retrieval in the paper. gather: columns from all processes.

    Shapes: z (B, d) unnormalised, labels (B,) -> scalar. Batch layout: groups of K images.
    """

    def __init__(self, s: float = 80.0, m: float = 0.4, gather: bool = True):
        super().__init__()
        self.s, self.m, self.gather = s, m, gather

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        cos, positive, negative = batch_cosines(z, labels, self.gather)
        loss = circle(cos, positive, negative, self.s, self.m).mean()
        return loss, cosine_means(cos, positive, negative)


def build(cfg, classes: int, dim: int) -> CirclePairs:
    """From a `Config`."""
    return CirclePairs(cfg.s, cfg.m, cfg.gather)
