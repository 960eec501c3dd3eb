"""USS: each image against one stored image of every identity, with one learned threshold."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from facelib.distributed import gather
from facelib.losses.parts.margin import LossOutput, margin_softmax
from facelib.rows import LossRow, setting

ROW = LossRow(
    name="uss",
    label="USS",
    layout="plain",
    head=True,
    takes=("s", "m"),
    settings={
        "uss_classifier": setting(
            0.0, "weight of a cosine-margin softmax beside USS; 1 is UniTSFace", low=0
        ),
        "uss_classifier_margin": setting(0.4, "margin of that softmax", low=0),
        "uss_warmup": setting(
            0.036, "part of the run with that softmax alone (published: 1 of 28 epochs)",
            low=0, below=1,
        ),
    },
    published={"s": 64.0, "m": 0.1},
    source="Li et al., NeurIPS 2023, arXiv 2311.02523; head.py of CVI-SZU/UniTSFace",
)  # fmt: skip


class USS(nn.Module):
    r"""Unified threshold integrated sample-to-sample loss (UniTSFace, Li et al., 2311.02523).

    L = mean_i ( σ⁺(b − s(f_i·v_{y_i} − m)) + Σ_{k≠y_i} σ⁺(s·f_i·v_k − b) ),  σ⁺(x) = log(1 + e^x)

    v_k is the embedding of the last image seen of identity k, without gradient; b is one learned
    threshold for all pairs (b/s is a cosine). Exponents are clamped to ±s. b starts at
    mean_i log Σ_{k≠y_i} e^{s·f_i·v_k}, at the first batch that USS counts in.

    As in the authors' code a cosine-margin softmax (arXiv 1801.09414) over learned centres trains
    alone for `warmup`, while v fills; then L counts, plus `classifier` times that softmax: 1 is
    their UniTSFace, 0 is USS alone (the centres then stay without gradient).

    Deviation, labelled: an identity without a stored image takes no part (the authors' memory holds
    undefined numbers there, which their warm-up of one epoch keeps out).

    Args:
        classes: N. dim: d. s, m: of USS; s is the softmax's too. classifier: weight of the softmax.
        classifier_margin: its margin. warmup: part of the run.

    Shapes: z (B, d) unnormalised, labels (B,) in [0, N) -> scalar. Batch layout: plain.
    """

    def __init__(
        self,
        classes: int,
        dim: int,
        s: float = 64.0,
        m: float = 0.1,
        classifier: float = 0.0,
        classifier_margin: float = 0.4,
        warmup: float = 0.036,
    ):
        super().__init__()
        self.s, self.m, self.warmup = s, m, warmup
        self.classifier, self.classifier_margin = classifier, classifier_margin
        self.weight = nn.Parameter(torch.empty(classes, dim).normal_(std=0.01))  # (N, d)
        self.threshold = nn.Parameter(torch.zeros(()))  # b
        self.register_buffer("stored", torch.zeros(classes, dim))  # v, (N, d)
        self.register_buffer("written", torch.zeros(classes, dtype=torch.bool))  # (N,)
        self.register_buffer("progress", torch.zeros(()))
        self.started = False  # known to have a threshold: saves a look at the device

    @property
    def each_rank_keeps(self) -> list[str]:
        """Equal on all ranks: needs no broadcast from the first."""
        return ["stored", "written"]

    def after_step(self, progress: float) -> None:
        """Called by the trainer: `progress` is the part of the run that is done, in [0, 1]."""
        self.progress.fill_(progress)

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        f = F.normalize(z.to(self.weight.dtype))  # (B, d)
        cos = f @ F.normalize(self.weight).T  # (B, N)
        target = cos.gather(1, labels[:, None]).squeeze(1) - self.classifier_margin
        softmax, logs = margin_softmax(cos, target, labels, self.s)
        counts = self.progress >= self.warmup
        uss, found = self._against_stored(f, labels, counts)
        if self.training:
            self._store(f.detach(), labels)
        loss = torch.where(counts, self.classifier, 1.0) * softmax + counts * uss
        return loss, {**logs, **found, "classifier": softmax, "uss": uss}

    def _against_stored(self, f, labels, counts) -> LossOutput:
        """L, from f (B, d) and labels (B,)."""
        v, written = self.stored.clone(), self.written.clone()  # they move before the backward
        cos = f @ v.T  # (B, N)
        own = F.one_hot(labels, len(v)).bool()
        positive, negative = own & written, ~own & written
        if self.training and not self.started and counts:
            self._start(cos.detach(), negative)
        pull = (self.s * (cos - self.m) - self.threshold).clamp(-self.s, self.s)
        push = (self.s * cos - self.threshold).clamp(-self.s, self.s)
        terms = torch.where(own, F.softplus(-pull), F.softplus(push)) * written
        return terms.sum(1).mean(), {
            "positive_cosine": (cos * positive).sum() / positive.sum().clamp_min(1),
            "negative_cosine": (cos * negative).sum() / negative.sum().clamp_min(1),
            "threshold": self.threshold / self.s,
            "stored": written.float().mean(),
        }

    @torch.no_grad()
    def _start(self, cos: torch.Tensor, negative: torch.Tensor) -> None:
        """b from the rows of all processes that have a negative, while it is not above 0."""
        if self.threshold <= 0:
            ell = gather((self.s * cos).masked_fill(~negative, -math.inf).logsumexp(1))
            there = ell > -math.inf
            self.threshold.copy_(ell.where(there, 0.0).sum() / there.sum().clamp_min(1))
        self.started = bool(self.threshold > 0)

    @torch.no_grad()
    def _store(self, f: torch.Tensor, labels: torch.Tensor) -> None:
        """Of several images of an identity in the joint batch the last is stored."""
        f, labels = gather(f), gather(labels)
        rows = torch.arange(len(labels), device=labels.device)
        last = torch.zeros_like(self.written, dtype=rows.dtype)
        last.scatter_reduce_(0, labels, rows, "amax")
        self.stored[labels] = f[last[labels]]
        self.written[labels] = True


def build(cfg, classes: int, dim: int) -> USS:
    """From a `Config`."""
    own = cfg.uss_classifier, cfg.uss_classifier_margin, cfg.uss_warmup
    return USS(classes, dim, cfg.s, cfg.m, *own)
