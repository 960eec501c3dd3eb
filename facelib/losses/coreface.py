"""ArcFace on two dropout views of each image, and a contrastive term between the two."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from facelib.distributed import gather, gather_with_grad, rank
from facelib.losses.arcface import ArcFace
from facelib.losses.arcface import build as build_arcface
from facelib.losses.parts.margin import LossOutput
from facelib.losses.scale.chunked import log_sum_exp_of_others
from facelib.rows import ARC, CENTRES, LossRow, setting

ROW = LossRow(
    name="coreface",
    label="CoReFace",
    layout="plain",
    head=True,
    views=2,
    takes=(*ARC, "gather", "loss_block", *CENTRES),
    settings={
        "coreface_weight": setting(0.05, "weight of the contrastive term; 0 is its control", low=0),
        "coreface_mask": setting(
            "zero",
            "same identities: zero as in the published code; clean leaves them out",
            choices=("zero", "clean"),
        ),
        "coreface_warmup": setting(
            0.3, "fraction of the run without the contrastive term", low=0, below=1
        ),
    },
    source="Song and Wang, arXiv 2304.11668",
)

MASKS = {"zero": 0.0, "clean": -math.inf}  # cosine that a same-identity column is given


class CoReFace(nn.Module):
    r"""Contrastive regularisation between dropout views (Song and Wang, arXiv 2304.11668).

    L = ½·Arc(x¹) + ½·Arc(x²) + weight · L_con
    L_con = −mean_i log( e^{s(c_ii − μ)} / (e^{s(c_ii − μ)} + Σ_{j≠i} e^{s·c_ij}) ),  c = x¹·x²ᵀ
    μ ← 0.99 · mean_i(c_ii − max_{j≠i} c_ij) + 0.01 · μ,  without gradient, in training only

    x¹ and x² are two dropout masks over one trunk output. Columns j of another image of i's
    identity are no negatives: mask="zero" sets their c to 0, as the published code does
    (github.com/IsidoreSong/CoreFace; they still weigh e⁰ in the sum, and the maximum is never below
    0), mask="clean" to −∞. A row without any negative counts the lowest cosine, −1, in μ.

    The contrastive term counts once `progress`, which the trainer tells after each step, has
    reached `warmup`. With weight=0 this is its own control: ArcFace on the same two views.

    Args:
        arcface: the classifier. weight: of L_con. mask: "zero" or "clean".
        warmup: part of the run without L_con (published: 7 of 24 epochs). scale: s of L_con.
        gather: columns from all processes (with gradient). μ is the same on all of them anyway.
        block: 0 computes all cosines at once; N computes the same by blocks of N × N.

    Shapes: z (2B, d) unnormalised, first views, then second; labels (2B,) -> scalar. Batch layout:
    plain, two views.
    """

    def __init__(
        self,
        arcface: ArcFace,
        weight: float = 0.05,
        mask: str = "zero",
        warmup: float = 0.3,
        scale: float = 64.0,
        gather: bool = True,
        block: int = 0,
    ):
        super().__init__()
        self.arcface, self.weight, self.masked = arcface, weight, MASKS[mask]
        self.warmup, self.scale, self.gather, self.block = warmup, scale, gather, block
        self.register_buffer("margin", torch.zeros(()))
        self.register_buffer("progress", torch.zeros(()))

    def after_step(self, progress: float) -> None:
        """Called by the trainer: `progress` is the part of the run that is done, in [0, 1]."""
        self.progress.fill_(progress)

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        arc, logs = self.arcface(z, labels)  # the mean over 2B rows: ½·Arc(x¹) + ½·Arc(x²)
        x1, x2 = F.normalize(z).chunk(2)  # (B, d)
        y = labels[: len(x1)]
        own = torch.arange(len(x1), device=z.device) + (rank() * len(x1) if self.gather else 0)
        columns, classes = (gather_with_grad(x2), gather(y)) if self.gather else (x2, y)
        contrast = self._by_blocks if self.block else self._whole
        contrastive, positive, hardest = contrast(x1, columns, own, y, classes)
        loss = arc + self.weight * (self.progress >= self.warmup) * contrastive
        return loss, {
            **logs,
            "arcface": arc,
            "contrastive": contrastive,
            "contrastive_margin": self.margin.clone(),
            "view_cosine": positive.mean(),
            "hardest_negative_cosine": hardest.mean(),
        }

    def _whole(self, x1, columns, own, y, classes) -> tuple[torch.Tensor, ...]:
        """L_con, each row's positive and its hardest negative cosine, from the whole matrix.

        Shapes: x1 (B, d), columns (R·B, d), own and y (B,), classes (R·B,).
        """
        cos = x1 @ columns.T  # (B, R·B)
        positive = cos.gather(1, own[:, None])  # (B, 1)
        negatives = cos.masked_fill(y[:, None] == classes, self.masked)  # the own column too
        hardest = negatives.detach().amax(1, keepdim=True).clamp_min(-1)
        self._follow(positive, hardest)
        logits = self.scale * negatives.scatter(1, own[:, None], positive - self.margin)
        return F.cross_entropy(logits, own), positive, hardest

    def _by_blocks(self, x1, columns, own, y, classes) -> tuple[torch.Tensor, ...]:
        """As `_whole`, without the matrix: masked columns are counted instead of summed."""
        below, hardest = log_sum_exp_of_others(x1, columns, y, classes, self.scale, self.block)
        positive = (x1 * columns[own]).sum(1)  # (B,)
        hardest = hardest.clamp_min(max(self.masked, -1))
        self._follow(positive, hardest)
        place, counts = classes.unique(return_inverse=True, return_counts=True)[1:]
        masked = (counts[place[own]] - 1).to(x1.dtype).log() + self.scale * self.masked
        logit = self.scale * (positive - self.margin)
        above = torch.logaddexp(torch.logaddexp(logit, below), masked)
        return (above - logit).mean(), positive, hardest

    def _follow(self, positive: torch.Tensor, hardest: torch.Tensor) -> None:
        """μ of a training batch, from the rows of all processes."""
        if self.training:
            gap = gather((positive.detach() - hardest).mean()[None]).mean()
            self.margin.copy_(0.99 * gap + 0.01 * self.margin)


def build(cfg, classes: int, dim: int) -> CoReFace:
    """From a `Config`."""
    own = cfg.coreface_weight, cfg.coreface_mask, cfg.coreface_warmup
    arcface = build_arcface(cfg, classes, dim)
    return CoReFace(arcface, *own, gather=cfg.gather, block=cfg.loss_block)
