"""Which images make up the batch of a step: a pure function of (labels, batch, seed, step).

Nothing is stored between steps, so that a resumed run continues exactly, and every rank computes
the same joint batch and takes its own part. A joint batch is laid out as
[micro-batch][rank][own images]: `local_slice` cuts it.
"""

import numpy as np

from facelib.config import Config
from facelib.errors import UserError
from facelib.limits import group_size


class PlainSampler:
    """Every image once an epoch, in random order; the incomplete last batch is dropped.

    Args:
        labels: (N,) identity of each image. batch: images in a joint batch. seed: of the order.
        unit: what a batch must be a multiple of, for the error.
    """

    def __init__(self, labels: np.ndarray, batch: int, seed: int, unit: int = 2):
        if batch > len(labels):
            raise UserError(
                f"global_batch={batch} is larger than the {len(labels)} training images: "
                f"{_smaller(len(labels), unit, unit)}"
            )
        self.images, self.batch, self.seed = len(labels), batch, seed
        self.steps_per_epoch = len(labels) // batch
        self.images_per_epoch = self.steps_per_epoch * batch
        self._epoch = -1

    def indices(self, step: int) -> np.ndarray:
        """(batch,) image indices of a step."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            rng = np.random.default_rng([self.seed, epoch])
            self._order, self._epoch = rng.permutation(self.images), epoch
        return self._order[index * self.batch : (index + 1) * self.batch]


class GroupSampler:
    """P identities × K images at adjacent indices; no identity twice in a joint batch.

    Each epoch: the images of an identity are shuffled and cut into groups of K; round r holds the
    r-th group of every identity that has one, in random order; batches are cut from the rounds one
    after the other. Where a batch spans two rounds, identities already in it wait until the next
    batch. Rounds with fewer than P identities are left out, as are images without a whole group:
    `images_per_epoch` and `coverage` say how many images an epoch shows.

    Args:
        labels: (N,) identity of each image. batch: images in a joint batch, a multiple of `size`.
        seed: of the order. size: K, images per identity.
    """

    def __init__(self, labels: np.ndarray, batch: int, seed: int, size: int, unit: int = 2):
        self.labels, self.batch, self.seed, self.size = np.asarray(labels), batch, seed, size
        counts = np.unique(self.labels, return_counts=True)[1]
        self.single_images = int((counts == 1).sum())  # identities that can form no pair
        self.identities = batch // size
        able = int((counts >= size).sum())
        if able < self.identities:
            raise UserError(
                f"global_batch={batch} takes {self.identities} identities with {size} images or "
                f"more, the training images have {able} ({self.single_images} have one image): "
                f"{_smaller(size * able, max(unit, size), 2 * size)}"
            )
        per_round = np.array([(counts // size > r).sum() for r in range(counts.max() // size)])
        self.rounds = int((per_round >= self.identities).sum())
        self.steps_per_epoch = int(per_round[: self.rounds].sum()) // self.identities
        self.images_per_epoch = self.steps_per_epoch * batch
        self.coverage = self.images_per_epoch / len(self.labels)
        self._epoch = -1

    def indices(self, step: int) -> np.ndarray:
        """(batch,) image indices of a step; kK … kK + K − 1 share an identity."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._groups, self._epoch = self._plan(epoch), epoch
        return self._groups[index * self.identities :][: self.identities].ravel()

    def _plan(self, epoch: int) -> np.ndarray:
        """(groups, K) image indices of an epoch, in order."""
        rng, size = np.random.default_rng([self.seed, epoch]), self.size
        order = np.lexsort((rng.random(len(self.labels)), self.labels))  # shuffled inside identity
        ids = self.labels[order]
        starts = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]])
        counts = np.diff(np.r_[starts, len(ids)])
        position = np.arange(len(ids)) - np.repeat(starts, counts)
        whole = position + size <= np.repeat(counts, counts)
        first = np.flatnonzero((position % size == 0) & whole)
        round_of = position[first] // size
        keep = round_of < self.rounds
        first, round_of = first[keep], round_of[keep]
        first = first[np.lexsort((rng.random(len(first)), round_of))]
        groups = order[first[:, None] + np.arange(size)]
        bounds = np.cumsum(np.bincount(round_of))
        return self._separate(groups, bounds[:-1])

    def _separate(self, groups: np.ndarray, bounds: np.ndarray) -> np.ndarray:
        """Reorder the start of each round so that no batch meets an identity twice."""
        size, ids = self.identities, self.labels[groups[:, 0]]
        ends = np.r_[bounds[1:], len(groups)]
        for start, end in zip(bounds, ends):
            taken = start % size  # groups of the earlier round in the batch that spans the bound
            if not taken:
                continue
            clash = np.isin(ids[start:end], ids[start - taken : start])
            free = start + np.flatnonzero(~clash)
            head, late = free[: size - taken], start + np.flatnonzero(clash)
            move = np.concatenate([head, np.sort(np.concatenate([free[size - taken :], late]))])
            groups[start:end], ids[start:end] = groups[move], ids[move]
        return groups


class PairSampler(GroupSampler):
    """P identities × 2 images at adjacent indices (source A): see `GroupSampler`."""

    def __init__(self, labels: np.ndarray, batch: int, seed: int, unit: int = 2):
        super().__init__(labels, batch, seed, size=2, unit=unit)


def _smaller(images: int, unit: int, least: int) -> str:
    """What to do where a batch asks for more than `images` images."""
    if (most := images // unit * unit) >= least:
        return f"use global_batch={most} or less"
    return "no batch fits: use more data, or another loss, images_per_identity or val_fraction"


def build_sampler(
    cfg: Config, layout: str, labels: np.ndarray, batch: int
) -> PlainSampler | GroupSampler:
    """The sampler of a layout ("plain", "pairs"); groups where the config asks for K images."""
    unit = max(group_size(cfg), 2) * cfg.processes * cfg.accumulate
    if cfg.images_per_identity:
        return GroupSampler(labels, batch, cfg.seed, cfg.images_per_identity, unit)
    return {"plain": PlainSampler, "pairs": PairSampler}[layout](labels, batch, cfg.seed, unit)


def local_slice(batch: int, accumulate: int, micro: int, ranks: int, rank: int) -> slice:
    """Part of a joint batch that one rank sees in one micro-batch."""
    own = batch // (accumulate * ranks)
    start = (micro * ranks + rank) * own
    return slice(start, start + own)


def flips(batch: int, seed: int, step: int) -> np.ndarray:
    """(batch,) which images of a step are mirrored: the same for any number of ranks."""
    return np.random.default_rng([seed, 1 << 20, step]).random(batch) < 0.5
