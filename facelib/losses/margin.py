"""Losses with learned class centres. Margin arithmetic in fp32, angles in radians."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from facelib.distributed import gather
from facelib.losses.negatives import ANCHORS, effective_number
from facelib.losses.sharded import Shard, own_shard, split_softmax

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

    `negatives` (B, N) take the place of the other cosines in the softmax; the logs are of cos, but
    for the effective number of centres, which is of the softmax.
    """
    columns = cos if negatives is None else negatives
    loss = F.cross_entropy(columns.scatter(1, labels[:, None], target[:, None]) * s, labels)
    accuracy = (cos.argmax(1) == labels).float().mean()
    cos_y = cos.gather(1, labels[:, None])
    rows, own = columns.detach()[:ANCHORS], labels[:ANCHORS, None]
    return loss, {
        "target_cosine": cos_y.mean(),
        "train_accuracy": accuracy,
        "effective_centres": effective_number((rows * s).scatter(1, own, -math.inf)),
    }


def sample_classes(labels: torch.Tensor, classes: int, wanted: int, seed: int) -> torch.Tensor:
    """(M,) distinct classes: those of the joint batch, then random ones up to `wanted`.

    A pure function of its arguments, so that all ranks draw the same classes. M is at least the
    number of labels, those of every view (they may all differ), and at most N.
    """
    if wanted >= classes:
        return torch.arange(classes, device=labels.device)
    draw = torch.rand(classes, generator=torch.Generator().manual_seed(seed)).to(labels.device)
    draw[labels] = 2.0
    return draw.topk(min(classes, max(wanted, len(labels)))).indices


class CentreDraw(nn.Module):
    """Centres of a step's softmax: all of the joint batch, and random others (Partial FC).

    An et al., arXiv 2203.15565. The centres that are not drawn get no gradient in that step (but
    momentum and weight decay go on). No parameters: the count of its draws, which is their seed, is
    in the checkpoint.

    Args:
        classes: N. wanted: M, centres a step. seed: of the draws.
    """

    def __init__(self, classes: int, wanted: int, seed: int = 0):
        super().__init__()
        self.classes, self.wanted, self.seed, self.draws = classes, wanted, seed, 0

    def forward(self, labels: torch.Tensor) -> torch.Tensor:
        """(M,) ids of the classes of this step; labels (B,) of this rank."""
        self.draws += 1
        return sample_classes(
            gather(labels), self.classes, self.wanted, (self.seed << 32) + self.draws
        )

    def get_extra_state(self) -> torch.Tensor:
        """The counter, for checkpoints."""
        return torch.tensor(self.draws)

    def set_extra_state(self, state: torch.Tensor) -> None:
        self.draws = int(state)


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
        draw: the centres that take part in a training step; None: all N.
        block: N computes the softmax by blocks of N × N cosines; 0: all at once.
        sharded: `weight` holds this process's share of the centres only (`losses.sharded`).

    Shapes: z (B, d) unnormalised, labels (B,) in [0, N) -> scalar. Batch layout: plain.
    """

    def __init__(
        self,
        classes: int,
        dim: int,
        s: float = 64.0,
        m: float = 0.5,
        gradient: str = "exact",
        draw: CentreDraw | None = None,
        block: int = 0,
        sharded: bool = False,
    ):
        super().__init__()
        self.s, self.m, self.gradient = s, m, gradient
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

    def margin(self, cos_y: torch.Tensor) -> torch.Tensor:
        """t of the target class, (B,)."""
        c = cos_y.clamp(-1 + 1e-7, 1 - 1e-7)  # the slope of the sine is infinite at ±1
        t = c * math.cos(self.m) - (1 - c * c).sqrt() * math.sin(self.m)  # cos(θ + m)
        hard = c - self.m * math.sin(math.pi - self.m)
        t = torch.where(c > math.cos(math.pi - self.m), t, hard)
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


class SphereFace(ArcFace):
    r"""Multiplicative angular margin softmax (Liu et al., arXiv 1704.08063, eq. 7).

    ArcFace's softmax with t_i = ψ(θ_{y_i}),  ψ(θ) = (−1)^k cos(mθ) − 2k,  k = ⌊mθ/π⌋

    ψ is continuous and falls with θ for every real m ≥ 1. The paper has m = 4 and ‖z‖ in place of
    s; unit features with a fixed s and a small m are today's form (arXiv 2109.05565).

    Args as in ArcFace; m multiplies the angle, 1 is no margin.

    Shapes: z (B, d) unnormalised, labels (B,) in [0, N) -> scalar. Batch layout: plain.
    """

    def __init__(self, classes: int, dim: int, s: float = 64.0, m: float = 1.7, **split):
        super().__init__(classes, dim, s, m, **split)

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
