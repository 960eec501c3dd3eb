"""Which images make up the batch of a step: a pure function of (labels, batch, seed, step).

Nothing is stored between steps, so that a resumed run continues exactly, and every rank computes
the same joint batch and takes its own part. A joint batch is laid out as
[micro-batch][rank][own images]: `local_slice` cuts it.
"""

import numpy as np

from facelib.errors import UserError


class PlainSampler:
    """Every image once an epoch, in random order; the incomplete last batch is dropped.

    Args:
        labels: (N,) identity of each image. batch: images in a joint batch. seed: of the order.
    """

    def __init__(self, labels: np.ndarray, batch: int, seed: int):
        if batch > len(labels):
            raise UserError(
                f"global_batch={batch} is larger than the {len(labels)} training images: "
                f"use at most {len(labels)}"
            )
        self.images, self.batch, self.seed = len(labels), batch, seed
        self.steps_per_epoch = len(labels) // batch
        self.images_per_epoch = self.steps_per_epoch * batch
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def indices(self, step: int) -> np.ndarray:
        """(batch,) image indices of a step."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._order = np.random.default_rng([self.seed, epoch]).permutation(self.images)
            self._epoch = epoch
        return self._order[index * self.batch : (index + 1) * self.batch]


class PairSampler:
    """P identities × 2 images at adjacent indices; no identity twice in a joint batch (source A).

    Each epoch: the images of an identity are shuffled and paired; round r holds the r-th pair of
    every identity that has one, in random order; batches are cut from the rounds one after the
    other. Where a batch spans two rounds, identities already in it wait until the next batch.
    Rounds with fewer than P identities are left out, as are images without a partner:
    `images_per_epoch` and `coverage` say how many images an epoch shows.

    Args:
        labels: (N,) identity of each image. batch: images in a joint batch, even. seed: of the
            order.
    """

    def __init__(self, labels: np.ndarray, batch: int, seed: int):
        self.labels, self.batch, self.seed = np.asarray(labels), batch, seed
        counts = np.unique(self.labels, return_counts=True)[1]
        self.single_images = int((counts == 1).sum())  # identities that can form no pair
        per_round = np.array([(counts // 2 > r).sum() for r in range(counts.max() // 2)], int)
        if not len(per_round) or per_round[0] < batch // 2:
            able = int(per_round[0]) if len(per_round) else 0
            raise UserError(
                f"global_batch={batch} takes {batch // 2} identities with two images or more, the "
                f"data has {able} ({self.single_images} have one image): "
                f"use global_batch={2 * able} or less, or more data"
            )
        self.rounds = int((per_round >= batch // 2).sum())
        pairs = int(per_round[: self.rounds].sum())
        self.steps_per_epoch = pairs // (batch // 2)
        self.images_per_epoch = self.steps_per_epoch * batch
        self.coverage = self.images_per_epoch / len(self.labels)
        self._epoch, self._pairs = -1, np.empty((0, 2), np.int64)

    def indices(self, step: int) -> np.ndarray:
        """(batch,) image indices of a step; 2k and 2k + 1 share an identity."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._pairs, self._epoch = self._plan(epoch), epoch
        size = self.batch // 2
        return self._pairs[index * size : (index + 1) * size].reshape(-1)

    def _plan(self, epoch: int) -> np.ndarray:
        """(pairs, 2) image indices of an epoch, in order."""
        rng = np.random.default_rng([self.seed, epoch])
        order = np.lexsort((rng.random(len(self.labels)), self.labels))  # shuffled inside identity
        ids = self.labels[order]
        starts = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]])
        position = np.arange(len(ids)) - np.repeat(starts, np.diff(np.r_[starts, len(ids)]))
        first = np.flatnonzero((position[:-1] % 2 == 0) & (ids[:-1] == ids[1:]))
        round_of = position[first] // 2
        keep = round_of < self.rounds
        first, round_of = first[keep], round_of[keep]
        first = first[np.lexsort((rng.random(len(first)), round_of))]
        pairs = np.stack([order[first], order[first + 1]], 1)
        bounds = np.cumsum(np.bincount(round_of, minlength=self.rounds))
        return self._separate(pairs, bounds[:-1])

    def _separate(self, pairs: np.ndarray, bounds: np.ndarray) -> np.ndarray:
        """Reorder the start of each round so that no batch meets an identity twice."""
        size = self.batch // 2
        ids = self.labels[pairs[:, 0]]
        ends = np.r_[bounds[1:], len(pairs)]
        for start, end in zip(bounds, ends):
            taken = start % size  # pairs of the earlier round in the batch that spans the bound
            if not taken:
                continue
            clash = np.isin(ids[start:end], ids[start - taken : start])
            free = start + np.flatnonzero(~clash)
            head, late = free[: size - taken], start + np.flatnonzero(clash)
            move = np.concatenate([head, np.sort(np.concatenate([free[size - taken :], late]))])
            pairs[start:end], ids[start:end] = pairs[move], ids[move]
        return pairs


SAMPLERS: dict[str, type] = {"plain": PlainSampler, "pairs": PairSampler}


def local_slice(batch: int, accumulate: int, micro: int, ranks: int, rank: int) -> slice:
    """Part of a joint batch that one rank sees in one micro-batch."""
    own = batch // (accumulate * ranks)
    start = (micro * ranks + rank) * own
    return slice(start, start + own)


def flips(batch: int, seed: int, step: int) -> np.ndarray:
    """(batch,) which images of a step are mirrored: the same for any number of ranks."""
    return np.random.default_rng([seed, 1 << 20, step]).random(batch) < 0.5
