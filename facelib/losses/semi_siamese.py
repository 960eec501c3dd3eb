"""Semi-siamese training: a softmax whose prototypes are a momentum encoder's embeddings."""

import math

import torch
import torch.nn.functional as F

from facelib.distributed import gather, rank
from facelib.losses.parts.counters import Counting
from facelib.losses.parts.margin import LossOutput
from facelib.rows import LossRow, setting

ROW = LossRow(
    name="semi_siamese",
    label="Semi-siamese",
    layout="pairs",
    head=False,
    takes=("s", "m"),
    settings={
        "semi_siamese_slots": setting(16384, "prototypes kept of earlier batches", low=1),
        "semi_siamese_encoder": setting(
            0.999, "momentum of the encoder that makes the prototypes", low=0, below=1
        ),
    },
    published={"s": 32.0, "m": 0.35},
    source="Du et al., ECCV 2020, arXiv 2007.08398; code JDAI-CV/FaceX-Zoo",
)


class SemiSiamese(Counting):
    r"""Classifier without learned centres, for people with few images (Du et al., 2007.08398).

    L = −mean_i log( e^{s(f_i·g_{p(i)} − m)} / (e^{s(f_i·g_{p(i)} − m)} + Σ_q e^{s·f_i·g_q}) )

    g are unit embeddings of a momentum encoder, without gradient. The prototype of image i is g of
    its partner p(i), the other image of the identity. The negatives q are the corresponding images
    of the other identities of the joint batch (second images where i is a first one, first images
    where it is a second), and the stored prototypes of earlier batches, but for the oldest, whose
    slots this batch will take. After the batch g of either the first or the second images, as
    chance has it, is stored. The slots start with random directions, which count as prototypes.

    Deviations, labelled: (1) a stored prototype of i's own identity is masked; the authors draw
    their epochs so that none is there. (2) The momentum encoder normalises by the batch as it is,
    the authors shuffle it over GPUs. (3) In eval mode there is no momentum encoder and no store:
    the embeddings themselves are prototypes.

    Args:
        dim: d. s: scale. m: margin of cosines. slots: K. encoder_momentum: read by the trainer.

    Shapes: z (B, d) unnormalised, labels (B,) -> scalar. Batch layout: pairs.
    """

    def __init__(
        self,
        dim: int,
        s: float = 32.0,
        m: float = 0.35,
        slots: int = 16384,
        encoder_momentum: float = 0.999,
    ):
        super().__init__()
        self.s, self.m, self.encoder_momentum = s, m, encoder_momentum
        self.register_buffer("prototypes", F.normalize(torch.rand(slots, dim) * 2 - 1))  # (K, d)
        self.register_buffer("owners", torch.full((slots,), -1))  # (K,); −1: a random direction
        self.seen = 0  # prototypes stored so far, also those that are overwritten
        self.encoded: torch.Tensor | None = None  # the momentum encoder's g of this batch

    @property
    def each_rank_keeps(self) -> list[str]:
        """Equal on all ranks: needs no broadcast from the first."""
        return ["prototypes", "owners"]

    def remember(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        """Called by the trainer before a training batch, with the momentum encoder's (B, d)."""
        self.encoded = F.normalize(features)

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        f = F.normalize(z)  # (B, d)
        g = f if self.encoded is None else self.encoded
        g = gather(g.detach() if self.training else g).unflatten(0, (-1, 2))  # (R·P, 2, d)
        people = gather(labels[::2])  # (R·P,)
        own = torch.arange(len(f) // 2, device=f.device) + rank() * (len(f) // 2)  # (P,)
        kept = self._not_overwritten(len(people)) if self.training else slice(0)
        stored, owners = self.prototypes[kept], self.owners[kept]
        hidden = F.pad(labels[::2, None] == owners, (len(people), 0))  # (P, R·P + K')
        cos = torch.stack([f[view::2] @ torch.cat([g[:, 1 - view], stored]).T for view in (0, 1)])
        target = F.one_hot(own, cos.shape[2]).bool()
        visible = cos.masked_fill(hidden, -math.inf)
        logits = self.s * (visible - self.m * target.to(cos.dtype))
        loss = F.cross_entropy(logits.flatten(0, 1), own.repeat(2))
        if self.training:
            self._store(g, people)
            self.encoded = None
        with torch.no_grad():
            negative = ~(target | hidden)
            others = (cos * negative).sum(2) / negative.sum(1).clamp_min(1)
        return loss, {
            "positive_cosine": cos[:, target].mean(),
            "negative_cosine": others.mean(),
            "train_accuracy": (visible.argmax(2) == own).float().mean(),
            "negatives": negative.sum(1).float().mean(),
        }

    def _not_overwritten(self, new: int) -> torch.Tensor:
        """Slots that keep their prototype when `new` ones are stored, (K',)."""
        slots = len(self.prototypes)
        after = torch.arange(min(new, slots), slots, device=self.prototypes.device)
        return (self.seen + after) % slots

    @torch.no_grad()
    def _store(self, g: torch.Tensor, people: torch.Tensor) -> None:
        """g (P, 2, d) of the joint batch: the last K of one view take the oldest slots."""
        slots, new = len(self.prototypes), len(people)
        chance = torch.Generator().manual_seed(self.seen)  # the same on all ranks
        view = int(torch.randint(2, (1,), generator=chance))
        last = torch.arange(max(0, new - slots), new, device=people.device)
        where = (self.seen + last) % slots
        self.prototypes[where] = g[last, view].to(self.prototypes.dtype)
        self.owners[where] = people[last]
        self.seen += new


def build(cfg, classes: int, dim: int) -> SemiSiamese:
    """From a `Config`."""
    return SemiSiamese(dim, cfg.s, cfg.m, cfg.semi_siamese_slots, cfg.semi_siamese_encoder)
