"""Losses with learned class centres. Margin arithmetic in fp32, angles in radians."""

import math

import torch
import torch.nn.functional as F
from torch import nn

LossOutput = tuple[torch.Tensor, dict[str, torch.Tensor]]


class ArcFace(nn.Module):
    r"""Additive angular margin softmax (Deng et al., arXiv 1801.07698, eq. 3).

    L = −mean_i log( e^{s·t_i} / (e^{s·t_i} + Σ_{j≠y_i} e^{s·cos θ_j}) ),  t_i = cos(θ_{y_i} + m)

    Where θ_y + m would pass π (cos θ_y ≤ cos(π − m)), t = cos θ_y − m·sin(π − m): the hard branch,
    which keeps t monotone in θ.

    Args:
        classes: N, number of identities.
        dim: d, embedding size.
        s: scale of the logits. m: margin in radians.
        gradient: "exact" differentiates t. "straight_through" adds the margin without gradient, as
            InsightFace's PyTorch code does: same value, but ∂t/∂cos θ = 1 instead of
            sin(θ + m)/sin θ.

    Shapes: z (B, d) unnormalised, labels (B,) in [0, N) -> scalar. Batch layout: plain.
    """

    def __init__(
        self, classes: int, dim: int, s: float = 64.0, m: float = 0.5, gradient: str = "exact"
    ):
        super().__init__()
        self.s, self.m, self.gradient = s, m, gradient
        self.weight = nn.Parameter(torch.empty(classes, dim))  # (N, d)
        nn.init.normal_(self.weight, std=0.01)

    def cosines(self, z: torch.Tensor) -> torch.Tensor:
        """cos θ between embeddings and centres, (B, N)."""
        return F.linear(F.normalize(z.to(self.weight.dtype)), F.normalize(self.weight))

    def margin(self, cos_y: torch.Tensor) -> torch.Tensor:
        """t of the target class, (B,)."""
        c = cos_y.clamp(-1 + 1e-7, 1 - 1e-7)  # the slope of the sine is infinite at ±1
        t = c * math.cos(self.m) - (1 - c * c).sqrt() * math.sin(self.m)  # cos(θ + m)
        hard = c - self.m * math.sin(math.pi - self.m)
        t = torch.where(c > math.cos(math.pi - self.m), t, hard)
        return cos_y + (t - cos_y).detach() if self.gradient == "straight_through" else t

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        cos = self.cosines(z)  # (B, N)
        cos_y = cos.gather(1, labels[:, None]).squeeze(1)  # (B,)
        logits = cos.scatter(1, labels[:, None], self.margin(cos_y)[:, None]) * self.s
        loss = F.cross_entropy(logits, labels)
        accuracy = (cos.argmax(1) == labels).float().mean()
        return loss, {"target_cosine": cos_y.mean(), "train_accuracy": accuracy}
