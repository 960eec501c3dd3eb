"""Losses on embedding similarity itself: no class centres."""

import torch
import torch.nn.functional as F
from torch import nn

from facelib.distributed import gather_with_grad, rank
from facelib.losses.chunked import log_sum_exp_of_others, mean_cosines
from facelib.losses.margin import LossOutput


class InfoNCE(nn.Module):
    r"""Contrastive loss over a batch of P identities × 2 images (van den Oord, arXiv 1807.03748).

    L = −mean_i log( e^{f_i·f_{p(i)}/τ} / Σ_{j≠i} e^{f_i·f_j/τ} )

    p(i) is the other image of the identity; the 2P − 2 images of other identities are the
    negatives. 1/τ is a scale: τ = 0.07 corresponds to s ≈ 14.3.

    Args:
        tau: temperature.
        gather: take columns from all processes (with gradient), so that N processes equal one
            process of the joint batch. False: negatives of this process only (source A).
        block: 0 computes all cosines at once; N computes the same by blocks of N × N.

    Shapes: z (B, d) unnormalised, labels (B,) -> scalar. Batch layout: pairs, images 2k and 2k+1
    belong to one identity and no identity occurs twice in a joint batch.
    """

    def __init__(self, tau: float = 0.07, gather: bool = True, block: int = 0):
        super().__init__()
        self.tau, self.gather, self.block = tau, gather, block

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        f = F.normalize(z)  # (B, d)
        columns = gather_with_grad(f) if self.gather else f  # (R·B, d)
        mine = torch.arange(len(f), device=f.device)
        own = mine + (rank() * len(f) if self.gather else 0)  # column of each row's own image
        if self.block:
            return self._by_blocks(f, columns, own)
        cos = f @ columns.T  # (B, R·B)
        logits = (cos / self.tau).scatter(1, own[:, None], float("-inf"))
        partner = own ^ 1  # 0↔1, 2↔3, …
        loss = F.cross_entropy(logits, partner)
        positive = cos[mine, partner]
        negatives = (cos.sum(1) - positive - cos[mine, own]) / max(len(columns) - 2, 1)
        top1 = (logits.argmax(1) == partner).float().mean()
        return loss, {
            "positive_cosine": positive.mean(),
            "negative_cosine": negatives.mean(),
            "train_accuracy": top1,
        }

    def _by_blocks(self, f: torch.Tensor, columns: torch.Tensor, own: torch.Tensor) -> LossOutput:
        """The same loss and figures without the (B, R·B) matrix; ids are pairs."""
        pair = torch.arange(len(columns), device=f.device) // 2
        below, hardest = log_sum_exp_of_others(
            f, columns, pair[own], pair, 1 / self.tau, self.block
        )
        positive, negative = mean_cosines(f, columns, own, pair)
        logit = positive / self.tau
        loss = (torch.logaddexp(below, logit) - logit).mean()
        return loss, {
            "positive_cosine": positive.mean(),
            "negative_cosine": negative.mean(),
            "train_accuracy": (positive > hardest).float().mean(),
        }
