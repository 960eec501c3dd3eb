"""Negatives from a bank of earlier features, and how many negatives a softmax really uses.

A stored feature carries no gradient and is older than the batch. What is stored, and where:

    queue        the last S features of a momentum encoder (MoCo, arXiv 1911.05722)
    cross_batch  the last S embeddings of the network itself (XBM, arXiv 1912.06798, which takes
                 positives from there too; here a bank gives negatives only)
    identity     one slot an identity, of the network's own embeddings (arXiv 1805.01978 has one an
                 image): the last one, or a running mean of them

A bank is filled after the step (the gradient still needs what the loss has seen), by the features
of all processes, so that its buffers are equal on all of them.
"""

import torch
import torch.nn.functional as F
from torch import nn

from facelib.distributed import gather
from facelib.losses.parts.counters import Counting

ANCHORS = 32  # rows of a batch for which the effective number is measured


@torch.no_grad()
def effective_number(logits: torch.Tensor) -> torch.Tensor:
    r"""Effective number of negatives: mean over anchors of e^{H(p)}, p the negatives' softmax.

    1 where one negative holds all of the weight, C where all C weigh the same.

    Args:
        logits: (A, C) of the negatives, −∞ where a column is none. Rows without any count 1.
    """
    p = logits.softmax(1).nan_to_num(0.0)
    return torch.special.entr(p).sum(1).exp().mean()


class FeatureFifo(Counting):
    """The last `slots` features, oldest first out.

    Args:
        slots: S. dim: d.
    """

    def __init__(self, slots: int, dim: int):
        super().__init__()
        self.register_buffer("features", torch.zeros(slots, dim))  # (S, d)
        self.register_buffer("labels", torch.zeros(slots, dtype=torch.int64))  # (S,)
        self.seen = 0  # features given to it so far

    @torch.no_grad()
    def add(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        """Store this rank's unit features (B, d) and labels (B,), and those of the other ranks."""
        features, labels = gather(features.to(self.features.dtype)), gather(labels)
        slots = len(self.features)
        kept = min(slots, len(features))
        where = torch.arange(kept, device=labels.device) + self.seen + len(features) - kept
        self.features[where % slots], self.labels[where % slots] = features[-kept:], labels[-kept:]
        self.seen += len(features)

    def stored(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What is in it: features (S', d) and labels (S',), S' ≤ S."""
        filled = min(self.seen, len(self.features))
        return self.features[:filled], self.labels[:filled]


class IdentityBank(nn.Module):
    """One feature per identity: v ← normalised(μ·v + (1 − μ)·f), f the unit mean of the new ones.

    Args:
        classes: N. dim: d. momentum: μ; 0 keeps the last batch's feature, 0.9 is a running centre.
    """

    def __init__(self, classes: int, dim: int, momentum: float):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("features", torch.zeros(classes, dim))  # (N, d)
        self.register_buffer("written", torch.zeros(classes, dtype=torch.bool))  # (N,)
        self.full = False  # known to hold all identities: saves a look at the device

    @torch.no_grad()
    def add(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        """Store this rank's unit features (B, d) and labels (B,), and those of the other ranks."""
        features, labels = gather(features.to(self.features.dtype)), gather(labels)
        order = labels.argsort(stable=True)  # sums in one order on every device
        present, count = labels[order].unique_consecutive(return_counts=True)
        total = torch.segment_reduce(features[order], "sum", lengths=count)
        new = F.normalize(total)
        old = self.features[present]
        moved = F.normalize(self.momentum * old + (1 - self.momentum) * new)
        self.features[present] = torch.where(self.written[present, None], moved, new)
        self.written[present] = True

    def stored(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What is in it: features (N', d) and labels (N',) of the identities seen so far."""
        labels = torch.arange(len(self.features), device=self.features.device)
        if self.full:
            return self.features, labels
        self.full = bool(self.written.all())
        return self.features[self.written], labels[self.written]


def build_bank(kind: str, slots: int, classes: int, dim: int, momentum: float):
    """The bank of a kind; None for "none"."""
    if kind == "none":
        return None
    if kind == "identity":
        return IdentityBank(classes, dim, momentum)
    return FeatureFifo(slots, dim)
