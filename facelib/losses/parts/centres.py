"""Which class centres take part in a step."""

import torch

from facelib.distributed import gather
from facelib.losses.parts.counters import Counting


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


def seed_of_draw(seed: int, draw: int) -> int:
    """Seed of a run's draw number `draw`, for `sample_classes`.

    A torch generator on a CPU takes the lowest 32 bits of its seed, so both must lie in them.
    """
    return (seed * 1_000_003 + draw) % 2**32


class CentreDraw(Counting):
    """Centres of a step's softmax: all of the joint batch, and random others (Partial FC).

    An et al., arXiv 2203.15565. The centres that are not drawn get no gradient in that step (but
    momentum and weight decay go on). No parameters: the count of its draws, which is their seed, is
    in the checkpoint.

    Args:
        classes: N. wanted: M, centres a step. seed: of the draws.
    """

    counters = ("draws",)

    def __init__(self, classes: int, wanted: int, seed: int):
        super().__init__()
        self.classes, self.wanted, self.seed, self.draws = classes, wanted, seed, 0

    def forward(self, labels: torch.Tensor) -> torch.Tensor:
        """(M,) ids of the classes of this step; labels (B,) of this rank."""
        self.draws += 1
        return sample_classes(
            gather(labels), self.classes, self.wanted, seed_of_draw(self.seed, self.draws)
        )


def split_of(cfg, classes: int) -> dict:
    """Arguments of a classifier: which centres take part, in blocks of what size, and where."""
    draw = CentreDraw(classes, cfg.sampled_centres, cfg.seed) if cfg.sampled_centres else None
    return {"draw": draw, "block": cfg.centre_block, "sharded": cfg.sharded}
