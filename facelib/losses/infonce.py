"""InfoNCE: embedding similarity itself, without class centres."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from facelib.losses.parts.banks import ANCHORS, build_bank, effective_number
from facelib.losses.parts.margin import LossOutput
from facelib.losses.parts.pairs import rows_and_columns
from facelib.losses.scale.chunked import log_sum_exp_of_others, mean_cosines
from facelib.rows import LossRow

ROW = LossRow(
    name="infonce",
    label="InfoNCE",
    layout="pairs",
    head=False,
    takes=("tau", "gather", "loss_block", "bank", "anchors"),
    source="van den Oord et al., arXiv 1807.03748",
)


class InfoNCE(nn.Module):
    r"""Contrastive loss over a batch of P identities × 2 images (van den Oord, arXiv 1807.03748).

    L = −mean_i log( e^{f_i·f_{p(i)}/τ} / ( Σ_{j≠i} e^{f_i·f_j/τ} + Σ_{k: y_k≠y_i} e^{f_i·v_k/τ} ) )

    p(i) is the other image of the identity; the 2P − 2 images of other identities are the
    negatives, and with a bank also its stored features v of other identities (in training only).
    1/τ is a scale: τ = 0.07 corresponds to s ≈ 14.3.

    Args:
        tau: temperature.
        gather: take columns from all processes (with gradient), so that N processes equal one
            process of the joint batch. False: negatives of this process only (source A).
        block: 0 computes all cosines at once; N computes the same by blocks of N × N.
        bank: of `facelib.losses.parts.banks`, or None.
        encoder_momentum: the bank stores the features of a momentum encoder that follows the
            backbone at this rate; None: those of the backbone itself.
        bank_warmup: part of the run in which the bank stays empty, while embeddings move fast.
        anchors: in training only the first images of a process are rows; its others are columns
            without gradient: negatives that nothing makes stale. 0: all are rows.

    Shapes: z (B, d) unnormalised, labels (B,) -> scalar. Batch layout: pairs, images 2k and 2k+1
    belong to one identity and no identity occurs twice in a joint batch.
    """

    def __init__(
        self,
        tau: float = 0.07,
        gather: bool = True,
        block: int = 0,
        bank: nn.Module | None = None,
        encoder_momentum: float | None = None,
        bank_warmup: float = 0.0,
        anchors: int = 0,
    ):
        super().__init__()
        self.tau, self.gather, self.block, self.bank = tau, gather, block, bank
        self.encoder_momentum, self.bank_warmup = encoder_momentum, bank_warmup
        self.anchors = anchors
        self.encoded: torch.Tensor | None = None  # the momentum encoder's features of this batch
        self.waiting: list[tuple[torch.Tensor, torch.Tensor]] = []  # to be stored after the step

    @property
    def each_rank_keeps(self) -> list[str]:
        """Buffers that need no broadcast from the first rank."""
        return [f"bank.{n}" for n, _ in self.bank.named_buffers()] if self.bank else []

    def remember(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        """Called by the trainer before a training batch, with the momentum encoder's (B, d)."""
        self.encoded = F.normalize(features)

    def after_step(self, progress: float) -> None:
        """Called by the trainer: the bank takes in what the step has seen."""
        if progress >= self.bank_warmup:
            for features, labels in self.waiting:
                self.bank.add(features, labels)
        self.waiting.clear()

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        count = self.anchors if self.training else 0
        if count:
            z = torch.cat([z[:count], z[count:].detach()])
        every, columns, own, _ = rows_and_columns(z, labels, self.gather)
        f, own = (every[:count], own[:count]) if count else (every, own)
        stored = self.bank.stored() if self.bank and self.training else None
        if stored and not len(stored[0]):
            stored = None  # an empty block has a NaN gradient where the batch has no negative
        contrast = self._by_blocks if self.block else self._whole
        loss, logs = contrast(f, labels[: len(f)], columns, own, stored)
        if self.bank and self.training:
            self.waiting.append((every.detach() if self.encoded is None else self.encoded, labels))
            self.encoded = None
        return loss, logs | self._count(f, labels, columns, own, stored)

    def _whole(self, f, labels, columns, own, stored) -> LossOutput:
        """Loss and figures from the (B, R·B + S) matrix."""
        cos = f @ columns.T  # (B, R·B)
        logits = (cos / self.tau).scatter(1, own[:, None], -math.inf)
        if stored:
            logits = torch.cat([logits, self._of_bank(f, labels, stored)], 1)
        partner = own ^ 1  # 0↔1, 2↔3, …
        loss = F.cross_entropy(logits, partner)
        mine = torch.arange(len(f), device=f.device)
        positive = cos[mine, partner]
        negatives = (cos.sum(1) - positive - cos[mine, own]) / max(len(columns) - 2, 1)
        top1 = (logits.argmax(1) == partner).float().mean()
        return loss, {
            "positive_cosine": positive.mean(),
            "negative_cosine": negatives.mean(),
            "train_accuracy": top1,
        }

    def _by_blocks(self, f, labels, columns, own, stored) -> LossOutput:
        """The same loss and figures without the matrix; ids are pairs, in the bank identities."""
        pair = torch.arange(len(columns), device=f.device) // 2
        scale = 1 / self.tau
        below, hardest = log_sum_exp_of_others(f, columns, pair[own], pair, scale, self.block)
        if stored:
            found = log_sum_exp_of_others(f, stored[0], labels, stored[1], scale, self.block)
            below, hardest = torch.logaddexp(below, found[0]), torch.maximum(hardest, found[1])
        positive, negative = mean_cosines(f, columns, own, pair)
        logit = positive / self.tau
        loss = (torch.logaddexp(below, logit) - logit).mean()
        return loss, {
            "positive_cosine": positive.mean(),
            "negative_cosine": negative.mean(),
            "train_accuracy": (positive > hardest).float().mean(),
        }

    def _of_bank(self, f, labels, stored) -> torch.Tensor:
        """Logits (B, S) of the stored features, −∞ for those of the row's identity."""
        features, classes = stored
        return (f @ features.T / self.tau).masked_fill(labels[:, None] == classes, -math.inf)

    @torch.no_grad()
    def _count(self, f, labels, columns, own, stored) -> dict[str, torch.Tensor]:
        """Negatives of the first rows: how many there are, and how many of them count."""
        rows, own = f[:ANCHORS], own[:ANCHORS, None]
        labels = labels[: len(rows)]
        logits = (rows @ columns.T / self.tau).scatter(1, torch.cat([own, own ^ 1], 1), -math.inf)
        if stored:
            logits = torch.cat([logits, self._of_bank(rows, labels, stored)], 1)
        number = (logits > -math.inf).sum(1).to(f.dtype).mean()
        return {"negatives": number, "effective_negatives": effective_number(logits)}


def build(cfg, classes: int, dim: int) -> InfoNCE:
    """From a `Config`."""
    return build_term(cfg, classes, dim, cfg.anchors)


def build_term(cfg, classes: int, dim: int, anchors: int = 0) -> InfoNCE:
    """The same as a term of other losses, which train on every image."""
    bank = build_bank(cfg.bank, cfg.bank_slots, classes, dim, cfg.bank_centre)
    encoder = cfg.bank_encoder if cfg.bank == "queue" else None
    return InfoNCE(cfg.tau, cfg.gather, cfg.loss_block, bank, encoder, cfg.bank_warmup, anchors)
