"""AdaFace: image quality, told by the norm, picks the margin."""

import torch

from facelib.distributed import gather
from facelib.losses.arcface import ArcFace
from facelib.losses.parts.margin import LossOutput, margin_softmax
from facelib.rows import LossRow, setting

ROW = LossRow(
    name="adaface",
    label="AdaFace",
    layout="plain",
    head=True,
    takes=("s", "m"),
    settings={"adaface_h": setting(0.333, "how much of the norm's spread the margin uses", low=0)},
    published={"m": 0.4},
    source="Kim et al., CVPR 2022, arXiv 2204.00964, sec. 3",
)


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


def build(cfg, classes: int, dim: int) -> AdaFace:
    """From a `Config`."""
    return AdaFace(classes, dim, cfg.s, cfg.m, cfg.adaface_h)
