"""ArcFace and InfoNCE on the same embeddings."""

import torch
from torch import nn

from facelib.losses.arcface import ArcFace
from facelib.losses.arcface import build as build_arcface
from facelib.losses.infonce import InfoNCE, build_term
from facelib.losses.parts.margin import LossOutput
from facelib.rows import ARC, CENTRES, LossRow, setting

ROW = LossRow(
    name="hybrid",
    label="ArcFace + InfoNCE",
    layout="pairs",
    head=True,
    takes=(*ARC, "tau", "gather", "loss_block", *CENTRES, "bank"),
    settings={
        "contrastive_weight": setting(
            0.5, "weight of InfoNCE beside ArcFace (source A: 0.5)", low=0
        ),
        "hybrid_val": setting(
            "sum", "what select=val_loss validates (source A: arcface)", choices=("sum", "arcface")
        ),
    },
    source="source A (see README)",
)


class Hybrid(nn.Module):
    """L = ArcFace + weight · InfoNCE on one pair batch (source A: weight 0.5).

    In eval mode val="arcface" leaves InfoNCE out, by which source A chooses its checkpoint.

    Shapes: z (B, d) unnormalised, labels (B,) -> scalar. Batch layout: pairs (see InfoNCE).
    """

    def __init__(self, arcface: ArcFace, infonce: InfoNCE, weight: float = 0.5, val: str = "sum"):
        super().__init__()
        self.arcface, self.infonce, self.weight, self.val = arcface, infonce, weight, val
        self.encoder_momentum = infonce.encoder_momentum

    def remember(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        """Called by the trainer before a training batch, with the momentum encoder's (B, d)."""
        self.infonce.remember(features, labels)

    def after_step(self, progress: float) -> None:
        """Called by the trainer after each step."""
        self.infonce.after_step(progress)

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        arc, arc_logs = self.arcface(z, labels)
        nce, nce_logs = self.infonce(z, labels)
        logs = {**nce_logs, **arc_logs, "arcface": arc, "infonce": nce}
        alone = self.val == "arcface" and not self.training
        return arc if alone else arc + self.weight * nce, logs


def build(cfg, classes: int, dim: int) -> Hybrid:
    """From a `Config`."""
    arcface, infonce = build_arcface(cfg, classes, dim), build_term(cfg, classes, dim)
    return Hybrid(arcface, infonce, cfg.contrastive_weight, cfg.hybrid_val)
