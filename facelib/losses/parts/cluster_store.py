"""What cluster-guided training stores: features, the centre bank, the concentration.

Symbols as in arXiv 2312.04029: Q stored features (the paper's queue), Q_k those of class k, C the
centre bank, φ the concentration. Every tensor is in the `state_dict`, in fp32, and is computed from
gathered features in a fixed order, so that all ranks hold the same bits without a broadcast.
"""

import math

import torch

from facelib.distributed import gather
from facelib.losses.parts.counters import Counting


class ClusterStore(Counting):
    r"""Centre bank and concentration; subclasses say which features are stored and when they count.

    C_k ← m_c·C_k + (1 − m_c)·mean(Q_k)
    φ_k = Σ_{f∈Q_k} ‖f − C_k‖₂ / (|Q_k|·log(|Q_k| + α)),  with the new C_k

    A class without stored features keeps both. The bank starts at 0 and is not normalised; φ starts
    at 1/log(1 + α), the formula's value for one unit feature and C_k = 0.

    Args:
        classes: N. dim: d. momentum: m_c (published: 0.9). alpha: α (published: 10).
    """

    counters = ("updates", "seen")

    def __init__(self, classes: int, dim: int, momentum: float = 0.9, alpha: float = 10.0):
        super().__init__()
        self.momentum, self.alpha = momentum, alpha
        self.register_buffer("bank", torch.zeros(classes, dim))  # C, (N, d)
        self.register_buffer("phi", torch.full((classes,), 1 / math.log(1 + alpha)))  # φ, (N,)
        self.updates = 0  # calls of `remember`
        self.seen = 0  # features given to it

    @torch.no_grad()
    def remember(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        """Store the unit features of the joint batch, then update bank and concentration.

        Shapes: features (B, d) unit length, labels (B,) of this rank.
        """
        features = gather(features.to(self.bank.dtype))
        self._store(features, gather(labels))
        self.updates += 1
        self.seen += len(features)

    def _concentration(self, total: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
        """φ from the sum of distances and |Q_k|."""
        return total / (count * torch.log(count + self.alpha))


class RecentFeatures(ClusterStore):
    """The last features of all classes: the paper's queue, 8,192 slots for 85,742 classes.

    Every class that has a feature in the queue is updated at each step, also by old features.

    Args:
        slots: length of the queue. Others: see `ClusterStore`.
    """

    def __init__(self, classes: int, dim: int, slots: int = 8192, **settings: float):
        super().__init__(classes, dim, **settings)
        self.register_buffer("features", torch.zeros(slots, dim))  # Q, (S, d)
        self.register_buffer("labels", torch.full((slots,), classes))  # N marks an empty slot

    def sizes(self) -> torch.Tensor:
        """|Q_k|, (N,)."""
        return torch.bincount(self.labels, minlength=len(self.bank) + 1)[:-1]

    def _store(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        slots, new = len(self.features), len(features)
        kept = min(slots, new)
        where = (self.seen + new - kept + torch.arange(kept, device=features.device)) % slots
        self.features[where], self.labels[where] = features[-kept:], labels[-kept:]
        labels, order = self.labels.sort(stable=True)
        count = labels.new_zeros(len(self.bank) + 1).scatter_add_(
            0, labels, torch.ones_like(labels)
        )
        there = count[:-1] > 0  # (N,)
        safe = count.clamp_min(1)[:-1].to(self.bank.dtype)
        stored = self.features[order]  # class after class
        mean = self._sums(stored, count)[:-1] / safe[:, None]
        moved = self.momentum * self.bank + (1 - self.momentum) * mean
        self.bank.copy_(torch.where(there[:, None], moved, self.bank))
        own = self.bank[labels.clamp_max(len(self.bank) - 1)]  # of an empty slot: any
        total = self._sums((stored - own).norm(dim=1), count)[:-1]
        self.phi.copy_(torch.where(there, self._concentration(total, safe), self.phi))

    @staticmethod
    def _sums(rows: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
        """Sums of consecutive rows; unlike `index_add`, in the same order on every GPU."""
        return torch.segment_reduce(rows, "sum", lengths=count, initial=0)


class ClassRings(ClusterStore):
    """A ring buffer of the last features of each class: a labelled variant, not in source B.

    |Q_k| reaches `slots` whatever the number of classes; a class is updated when it has a new
    feature. Costs N·slots·d floats (85,742 × 4 × 512: 0.7 GB).

    Args:
        slots: features kept of each class. Others: see `ClusterStore`.
    """

    def __init__(self, classes: int, dim: int, slots: int = 4, **settings: float):
        super().__init__(classes, dim, **settings)
        self.register_buffer("features", torch.zeros(classes + 1, slots, dim))  # last row: waste
        self.register_buffer("written", torch.zeros(classes + 1, dtype=torch.int64))

    def sizes(self) -> torch.Tensor:
        """|Q_k|, (N,)."""
        return self.written[:-1].clamp_max(self.features.shape[1])

    def _store(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        slots, rows = self.features.shape[1], torch.arange(len(labels), device=labels.device)
        same = labels[:, None] == labels
        before, after = (
            (same & (rows < rows[:, None])).sum(1),
            (same & (rows > rows[:, None])).sum(1),
        )
        where = (self.written[labels] + before) % slots
        # Of more than `slots` images of a class in one batch the first ones go to the waste row.
        target = torch.where(after < slots, labels, len(self.bank))
        self.features[target, where] = features
        self.written.scatter_add_(0, labels, torch.ones_like(labels))
        count = self.sizes()[labels]  # (B,); images of one class write equal values below
        stored = self.features[labels]  # (B, slots, d)
        mean = stored.sum(1) / count[:, None]
        self.bank[labels] = self.momentum * self.bank[labels] + (1 - self.momentum) * mean
        apart = (stored - self.bank[labels][:, None]).norm(dim=2)  # (B, slots)
        filled = torch.arange(slots, device=labels.device) < count[:, None]
        self.phi[labels] = self._concentration((apart * filled).sum(1), count.to(apart.dtype))
