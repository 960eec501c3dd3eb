"""Margin softmaxes whose margin or negatives depend on the image: its hardness, norm, or chance."""

import torch

from facelib.distributed import gather
from facelib.losses.margin import ArcFace, CosFace, LossOutput, cosine_of_sum, margin_softmax


class CurricularFace(ArcFace):
    r"""Hard negatives weigh more as training goes on (Huang et al., arXiv 2004.00288, sec. 3).

    ArcFace's target t_i = cos(θ_{y_i} + m); a negative above it, cos θ_j > t_i, becomes
    cos θ_j · (c + cos θ_j);  c ← 0.99 · c + 0.01 · mean_i cos θ_{y_i}, over all processes

    c (the paper's t; the mean is its eq. 9) starts at 0, where hard negatives count less than they
    are, and follows the mean target cosine before each training batch, as in the authors' code.

    Args and shapes as in ArcFace. rate: of c. Batch layout: plain.
    """

    def __init__(self, classes: int, dim: int, s: float = 64.0, m: float = 0.5, rate: float = 0.01):
        super().__init__(classes, dim, s, m)
        self.rate = rate
        self.register_buffer("c", torch.zeros(()))

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        cos = self.cosines(z)  # (B, N)
        cos_y = cos.gather(1, labels[:, None]).squeeze(1)  # (B,)
        if self.training:
            mean = gather(cos_y.detach().mean()[None]).mean()
            self.c.copy_((1 - self.rate) * self.c + self.rate * mean)
        target = self.margin(cos_y)
        hard = cos.detach() > target.detach()[:, None]
        weighed = torch.where(hard, cos * (self.c + cos), cos)
        loss, logs = margin_softmax(cos, target, labels, self.s, negatives=weighed)
        return loss, {**logs, "curriculum": self.c.clone(), "hard_negatives": _share(hard, labels)}


class MVSoftmax(CosFace):
    r"""Misclassified vectors weigh more (Wang et al., arXiv 1912.00833, adaptive MV-AM).

    CosFace's target t_i = cos θ_{y_i} − m; a negative above it, cos θ_j > t_i, becomes
    t · cos θ_j + t − 1, that is cos θ_j + (t − 1)(cos θ_j + 1): more for the nearer ones

    t = 1 is CosFace. The authors' code leaves the margin out where cos θ_y ≤ m; the equations,
    and this class, do not.

    Args: t: weight, 1.12 in the authors' code. Others and shapes as in CosFace. Layout: plain.
    """

    def __init__(self, classes: int, dim: int, s: float = 64.0, m: float = 0.35, t: float = 1.12):
        super().__init__(classes, dim, s, m)
        self.t = t

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        cos = self.cosines(z)  # (B, N)
        target = self.margin(cos.gather(1, labels[:, None]).squeeze(1))  # (B,)
        hard = cos.detach() > target.detach()[:, None]
        weighed = torch.where(hard, self.t * cos + self.t - 1, cos)
        loss, logs = margin_softmax(cos, target, labels, self.s, negatives=weighed)
        return loss, {**logs, "hard_negatives": _share(hard, labels)}


def _share(hard: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Share of the negative columns that are hard; `hard` (B, N) is of any value at the labels."""
    negatives = hard.scatter(1, labels[:, None], False)
    return negatives.sum() / float(max(hard.numel() - len(hard), 1))


class MagFace(ArcFace):
    r"""The norm is a quality, sets the margin and is pulled up (Meng et al., arXiv 2103.06627).

    L = ArcFace's softmax with t_i = cos(θ_{y_i} + m(a_i)) + λ_g · mean_i g(a_i)
    m(a) = l_m + (u_m − l_m)(a − l_a)/(u_a − l_a),  g(a) = a/u_a² + 1/a

    a = ‖z‖, clamped to [l_a, u_a]; margin and g carry gradient to the norm inside that range.

    Args:
        low, high: margins l_m and u_m at the ends of the range. weight: λ_g.
        norms: (l_a, u_a). Others and shapes as in ArcFace. Batch layout: plain.
    """

    def __init__(
        self,
        classes: int,
        dim: int,
        s: float = 64.0,
        low: float = 0.45,
        high: float = 0.8,
        weight: float = 35.0,
        norms: tuple[float, float] = (10.0, 110.0),
    ):
        super().__init__(classes, dim, s, low)
        self.low, self.high, self.norm_weight, self.norms = low, high, weight, norms

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        least, most = self.norms
        norm = z.to(self.weight.dtype).norm(dim=1)  # (B,)
        a = norm.clamp(least, most)
        m = self.low + (self.high - self.low) * (a - least) / (most - least)
        cos = self.cosines(z)
        target = cosine_of_sum(cos.gather(1, labels[:, None]).squeeze(1), m)
        loss, logs = margin_softmax(cos, target, labels, self.s)
        regulariser = (a / most**2 + 1 / a).mean()
        loss = loss + self.norm_weight * regulariser
        return loss, {**logs, "norm": norm.mean(), "margin": m.mean(), "magnitude": regulariser}


class AdaFace(ArcFace):
    r"""Image quality, told by the norm, picks the margin (Kim et al., arXiv 2204.00964, sec. 3).

    t_i = cos(θ_{y_i} + g_angle) − g_add,  g_angle = −m·q_i,  g_add = m·q_i + m
    q_i = clip(h · (‖z_i‖ − μ)/σ, −1, 1),  without gradient

    q = −1 (low quality) is ArcFace's margin, 0 is CosFace's, 1 is a negative angular margin that
    favours hard images. μ and σ are running statistics of the norm over all processes, at rate
    0.01, moved before each training batch; they start at 20 and 100 as in the authors' code.

    Args: m: margin. h: concentration; 0 makes every q 0. rate: of the statistics. Others and
        shapes as in ArcFace. Batch layout: plain.
    """

    def __init__(
        self,
        classes: int,
        dim: int,
        s: float = 64.0,
        m: float = 0.4,
        h: float = 0.333,
        rate: float = 0.01,
    ):
        super().__init__(classes, dim, s, m)
        self.h, self.rate = h, rate
        self.register_buffer("mean", torch.tensor(20.0))
        self.register_buffer("std", torch.tensor(100.0))

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        norm = z.detach().to(self.weight.dtype).norm(dim=1).clamp(1e-3, 100)  # (B,)
        if self.training:
            everyone = gather(norm)
            self.mean.lerp_(everyone.mean(), self.rate)
            self.std.lerp_(everyone.std(), self.rate)
        q = (self.h * (norm - self.mean) / (self.std + 1e-3)).clamp(-1, 1)
        cos = self.cosines(z)
        cos_y = cos.gather(1, labels[:, None]).squeeze(1)
        theta = cos_y.clamp(-1 + 1e-3, 1 - 1e-3).acos()  # as the authors: a bounded slope
        target = (theta - self.m * q).clamp(1e-3, torch.pi - 1e-3).cos() - self.m * (q + 1)
        loss, logs = margin_softmax(cos, target, labels, self.s)
        return loss, {
            **logs,
            "norm": norm.mean(),
            "norm_std": self.std.clone(),
            "quality": q.mean(),
        }


class ElasticFace(ArcFace):
    r"""ArcFace with a margin drawn anew for each image (Boutros et al., arXiv 2109.09416: Arc).

    t_i = cos(θ_{y_i} + m_i),  m_i ~ N(m, σ²); in eval mode m_i = m

    Args: sigma: σ, 0.0125 in the paper; 0 is ArcFace. Others and shapes as in ArcFace.
        Batch layout: plain.
    """

    def __init__(
        self, classes: int, dim: int, s: float = 64.0, m: float = 0.5, sigma: float = 0.0125
    ):
        super().__init__(classes, dim, s, m)
        self.sigma = sigma

    def margin(self, cos_y: torch.Tensor) -> torch.Tensor:
        """t of the target class, (B,)."""
        sigma = self.sigma if self.training else 0.0
        return cosine_of_sum(cos_y, self.m + sigma * torch.randn_like(cos_y))
