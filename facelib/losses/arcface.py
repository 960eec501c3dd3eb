"""ArcFace: the classifier with an additive angular margin. The base of other classifiers."""

import torch
import torch.nn.functional as F
from torch import nn

from facelib.losses.parts.centres import CentreDraw, split_of
from facelib.losses.parts.margin import LossOutput, cosine_of_sum, margin_softmax
from facelib.losses.scale.sharded import Shard, own_shard, split_softmax
from facelib.rows import ARC, CENTRES, LossRow

ROW = LossRow(
    name="arcface",
    label="ArcFace",
    layout="plain",
    head=True,
    takes=(*ARC, *CENTRES),
    source="Deng et al., CVPR 2019, arXiv 1801.07698, eq. 3",
)


class ArcFace(nn.Module):
    r"""Additive angular margin softmax (Deng et al., arXiv 1801.07698, eq. 3).

    L = −mean_i log( e^{s·t_i} / (e^{s·t_i} + Σ_{j≠y_i} e^{s·cos θ_j}) ),  t_i = cos(θ_{y_i} + m)

    Where θ_y + m would pass π (cos θ_y ≤ cos(π − m)), t = cos θ_y − m·sin(π − m): the hard branch,
    which keeps t monotone in θ. Without it t rises again; "easy" has t = cos θ_y where cos θ_y ≤ 0.

    Args:
        classes: N, number of identities.
        dim: d, embedding size.
        s: scale of the logits. m: margin in radians.
        gradient: "exact" differentiates t. "straight_through" adds the margin without gradient, as
            InsightFace's PyTorch code does: same value, but ∂t/∂cos θ = 1 instead of
            sin(θ + m)/sin θ. That code has no branch: its value is ours only up to θ + m = π, or
            everywhere with branch="none".
        branch: "hard", "none" or "easy".
        draw: the centres that take part in a training step; None: all N.
        block: N computes the softmax by blocks of N × N cosines; 0: all at once.
        sharded: `weight` holds this process's share of the centres only (`scale.sharded`).

    Shapes: z (B, d) unnormalised, labels (B,) in [0, N) -> scalar. Batch layout: plain.
    """

    def __init__(
        self,
        classes: int,
        dim: int,
        s: float = 64.0,
        m: float = 0.5,
        gradient: str = "exact",
        branch: str = "hard",
        draw: CentreDraw | None = None,
        block: int = 0,
        sharded: bool = False,
    ):
        super().__init__()
        self.s, self.m, self.gradient, self.branch = s, m, gradient, branch
        self.draw, self.block = draw, block
        self.shard: Shard | None = own_shard(classes) if sharded else None
        rows = self.shard or Shard(0, classes, classes)
        self.weight = nn.Parameter(rows.normal(dim, std=0.01))  # (N, d)

    @property
    def each_rank_keeps(self) -> list[str]:
        """A shard is each rank's own: DDP neither sends it around nor reduces its gradient."""
        return ["weight"] if self.shard else []

    def cosines(self, z: torch.Tensor) -> torch.Tensor:
        """cos θ between embeddings and centres, (B, N)."""
        return F.linear(F.normalize(z.to(self.weight.dtype)), F.normalize(self.weight))

    def margin(self, cos_y: torch.Tensor, m: torch.Tensor | None = None) -> torch.Tensor:
        """t of the target class, (B,); m (B,): one margin per image, in place of the one of all."""
        return self.sloped(cosine_of_sum(cos_y, self.m if m is None else m, self.branch), cos_y)

    def sloped(self, t: torch.Tensor, cos_y: torch.Tensor) -> torch.Tensor:
        """t with the slope in cos θ_y that `gradient` names."""
        return cos_y + (t - cos_y).detach() if self.gradient == "straight_through" else t

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        chosen = self.draw(labels) if self.draw and self.training else None  # (M,)
        if self.block or self.shard:
            return split_softmax(self, z, labels, chosen)
        if chosen is None:
            cos = self.cosines(z)  # (B, N)
        else:
            place = labels.new_zeros(len(self.weight))
            place[chosen] = torch.arange(len(chosen), device=labels.device)
            labels = place[labels]
            cos = (
                F.normalize(z.to(self.weight.dtype)) @ F.normalize(self.weight[chosen]).T
            )  # (B, M)
        cos_y = cos.gather(1, labels[:, None]).squeeze(1)  # (B,)
        return margin_softmax(cos, self.margin(cos_y), labels, self.s)


def build(cfg, classes: int, dim: int) -> ArcFace:
    """The classifier of a `Config`, also inside other losses."""
    return ArcFace(classes, dim, cfg.s, cfg.m, cfg.gradient, cfg.branch, **split_of(cfg, classes))
