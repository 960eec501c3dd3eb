"""Losses with learned class centres. Margin arithmetic in fp32, angles in radians."""

import math

import torch
import torch.nn.functional as F
from torch import nn

LossOutput = tuple[torch.Tensor, dict[str, torch.Tensor]]


def cosine_of_sum(cos_y: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
    """cos(θ + m) with ArcFace's hard branch, for one margin an image: (B,), (B,) -> (B,)."""
    c = cos_y.clamp(-1 + 1e-7, 1 - 1e-7)
    t = c * m.cos() - (1 - c * c).sqrt() * m.sin()
    return torch.where(c > (math.pi - m).cos(), t, c - m * (math.pi - m).sin())


def margin_softmax(
    cos: torch.Tensor,
    target: torch.Tensor,
    labels: torch.Tensor,
    s: float,
    negatives: torch.Tensor | None = None,
) -> LossOutput:
    """−mean_i log softmax of s·cos (B, N) with the label's column replaced by target (B,).

    `negatives` (B, N) take the place of the other cosines in the softmax; the logs are of cos.
    """
    columns = cos if negatives is None else negatives
    loss = F.cross_entropy(columns.scatter(1, labels[:, None], target[:, None]) * s, labels)
    accuracy = (cos.argmax(1) == labels).float().mean()
    cos_y = cos.gather(1, labels[:, None])
    return loss, {"target_cosine": cos_y.mean(), "train_accuracy": accuracy}


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
        return margin_softmax(cos, self.margin(cos_y), labels, self.s)


class CosFace(ArcFace):
    r"""Additive cosine margin softmax (Wang et al., arXiv 1801.09414, eq. 4).

    ArcFace's softmax with t_i = cos θ_{y_i} − m. Also known as AM-Softmax (1801.05599).

    Args as in ArcFace; m is a margin of cosines. There is one gradient only: ∂t/∂cos θ = 1.

    Shapes: z (B, d) unnormalised, labels (B,) in [0, N) -> scalar. Batch layout: plain.
    """

    def __init__(self, classes: int, dim: int, s: float = 64.0, m: float = 0.35):
        super().__init__(classes, dim, s, m)

    def margin(self, cos_y: torch.Tensor) -> torch.Tensor:
        """t of the target class, (B,)."""
        return cos_y - self.m


class SphereFace(ArcFace):
    r"""Multiplicative angular margin softmax (Liu et al., arXiv 1704.08063, eq. 7).

    ArcFace's softmax with t_i = ψ(θ_{y_i}),  ψ(θ) = (−1)^k cos(mθ) − 2k,  k = ⌊mθ/π⌋

    ψ is continuous and falls with θ for every real m ≥ 1. The paper has m = 4 and ‖z‖ in place of
    s; unit features with a fixed s and a small m are today's form (arXiv 2109.05565).

    Args as in ArcFace; m multiplies the angle, 1 is no margin.

    Shapes: z (B, d) unnormalised, labels (B,) in [0, N) -> scalar. Batch layout: plain.
    """

    def __init__(self, classes: int, dim: int, s: float = 64.0, m: float = 1.7):
        super().__init__(classes, dim, s, m)

    def margin(self, cos_y: torch.Tensor) -> torch.Tensor:
        """t of the target class, (B,)."""
        angle = self.m * cos_y.clamp(-1 + 1e-7, 1 - 1e-7).acos()  # mθ
        k = (angle.detach() / math.pi).floor()
        return (1 - 2 * (k % 2)) * angle.cos() - 2 * k


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
    ):
        super().__init__(classes * subcenters, dim, s, m, gradient)
        self.subcenters = subcenters

    def cosines(self, z: torch.Tensor) -> torch.Tensor:
        """cos θ between embeddings and the nearest sub-centre of each class, (B, N)."""
        return super().cosines(z).unflatten(1, (-1, self.subcenters)).amax(2)
