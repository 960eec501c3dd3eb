"""MegaFace: find a person's other picture among up to a million strangers, from saved features.

Protocol (Kemelmacher-Shlizerman et al., CVPR 2016, challenge 1): every image of a person with two
or more is a probe; with each other image of that person as its mate, in turn, the gallery is the
mate and all distractors. Rank-1: the share of (probe, mate) pairs where the mate's cosine is above
that of every distractor; a tie is a miss. Verification: genuine pairs are the (probe, mate) pairs,
impostors all probes × distractors, TAR at FAR 1e-6 by order statistics. With the cleaned lists of
InsightFace, leave their noisy images out of the features.

Distractors are streamed in blocks, so that memory does not grow with their number: a running
maximum for each probe gives rank-1, the largest impostor scores seen so far give the threshold.

Open set, 1:N, in the terms of ISO/IEC 19795-1: a search of somebody who is not in the gallery is
wrong where its best score reaches the threshold (FPIR); a search of somebody who is there succeeds
where the mate is first and reaches it (TPIR).
"""

import logging
import time

import numpy as np
import torch

from facelib.distributed import best_device
from facelib.errors import UserError
from facelib.metrics.features import Features
from facelib.metrics.scores import far_name
from facelib.metrics.templates import score_pairs

log = logging.getLogger(__name__)

FARS = (1e-6, 1e-5, 1e-4)
FPIRS = (1e-1, 1e-2, 1e-3)
BLOCK = 1 << 14  # distractors at once
LOG_SECONDS = 10


class LargestScores:
    """The `count` largest of all scores that were added, without keeping the others."""

    def __init__(self, count: int):
        self.count, self.bound = count, -np.inf
        self.kept: list[np.ndarray] = []
        self.waiting = 0

    def add(self, scores: torch.Tensor) -> None:
        """Scores of any shape."""
        found = scores[scores > self.bound].cpu().numpy()
        self.kept.append(found)
        self.waiting += len(found)
        if self.waiting > 2 * self.count:
            self._shrink()

    def _shrink(self) -> None:
        joined = np.concatenate(self.kept)
        if len(joined) > self.count:
            joined = np.partition(joined, len(joined) - self.count)[-self.count :]
            self.bound = joined.min()  # as many scores as wanted reach it
        self.kept, self.waiting = [joined], len(joined)

    def sorted(self) -> np.ndarray:
        """(≤ count,), largest first."""
        self._shrink()
        return np.sort(self.kept[0])[::-1]


def mate_pairs(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All ordered pairs (probe, mate) of different images of one person: int64 (M,), (M,)."""
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order])) + 1
    probes, mates = [], []
    for group in np.split(order, starts):
        a, b = np.nonzero(~np.eye(len(group), dtype=bool))
        probes.append(group[a])
        mates.append(group[b])
    return np.concatenate(probes), np.concatenate(mates)


def tpir_at_fpir(
    mate: np.ndarray, others: np.ndarray, strangers: np.ndarray
) -> dict[str, float | None]:
    """Share of searches that find their mate, at the threshold that few strangers' searches reach.

    Args:
        mate, others: (M,) the mate's score and the highest other one of each search with a mate.
        strangers: (S,) highest score of each search of a person who is not in the gallery.

    Returns:
        By the name of each rate ("1e-2"); at most floor(rate * S) strangers pass, None where that
        is none of them ("not estimable").
    """
    falling = np.sort(strangers)[::-1]
    found: dict[str, float | None] = {}
    for rate in FPIRS:
        k = int(np.floor(rate * len(falling)))
        hit = (mate > others) & (mate > falling[min(k, len(falling) - 1)])
        found[far_name(rate)] = float(hit.mean()) if k else None
    return found


def identify_people(probes: Features) -> dict:
    """Closed and open-set identification in one labelled set, without distractors.

    Half of the people, drawn with a fixed seed, are enrolled with their first image, and their
    other images are searched; all images of the other half are searches of strangers.

    Args:
        probes: with labels; all cosines (searches, people enrolled) are held.

    Returns:
        JSON-able dict: counts, `rank1`, `tpir_at_fpir`.

    Raises:
        UserError: no labels, or fewer than two people with two images.
    """
    if probes.labels is None:
        raise UserError(f"{probes.name}: probes need labels (`label` of an .npz, `id` of a list)")
    unit = np.concatenate(list(probes.unit_blocks(BLOCK)))  # (N, d)
    people = np.flatnonzero(np.bincount(probes.labels) > 1)
    enrolled = np.random.default_rng(0).permutation(people)[: len(people) // 2]
    if not len(enrolled):
        raise UserError(f"{probes.name}: fewer than two people have two images: nobody to enrol")
    first = np.array([np.flatnonzero(probes.labels == person)[0] for person in enrolled])
    known = np.isin(probes.labels, enrolled)
    mated = np.setdiff1d(np.flatnonzero(known), first)
    cos = unit[mated] @ unit[first].T  # (M, G)
    own = probes.labels[mated][:, None] == enrolled  # one True a row
    mate, others = cos[own], np.where(own, -np.inf, cos).max(1)
    strangers = (unit[~known] @ unit[first].T).max(1)
    return {
        "enrolled": len(enrolled),
        "searches": len(mated),
        "searches_of_strangers": len(strangers),
        "rank1": float((mate > others).mean()),
        "tpir_at_fpir": tpir_at_fpir(mate, others, strangers),
    }


def identify(probes: Features, distractors: Features, limit: int | None = None) -> dict:
    """Rank-1 and TAR@FAR of probes among distractors.

    Args:
        probes: with labels. distractors: any number of strangers; `limit` takes the first ones.

    Returns:
        JSON-able dict: counts, `rank1` (number of distractors, by powers of ten and for all ->
        share), `tpir_at_fpir` (among all distractors), `tar_at_far` (null where probes ×
        distractors are too few), `seconds`.

    Raises:
        UserError: no labels, nobody with two images, or features of different sizes.
    """
    begin = time.perf_counter()
    if probes.labels is None:
        raise UserError(f"{probes.name}: probes need labels (`label` of an .npz, `id` of a list)")
    if probes.dim != distractors.dim:
        raise UserError(
            f"probes have {probes.dim} numbers, distractors {distractors.dim}: features of two "
            "networks cannot be compared"
        )
    unit = np.concatenate(list(probes.unit_blocks(BLOCK)))  # (P, d)
    probe, mate = mate_pairs(probes.labels)
    if not len(probe):
        raise UserError(f"{probes.name}: nobody has two images, so no probe has a mate")
    genuine = score_pairs(unit, probe, mate)  # (M,)
    used = np.unique(probe)
    strangers = min(limit or distractors.rows, distractors.rows)
    impostors = len(used) * strangers
    largest = LargestScores(int(FARS[-1] * impostors) + 1)
    best = np.full(len(unit), -np.inf, np.float32)
    rank1 = {}
    for seen, found in _stream(unit[used], distractors, strangers, largest):
        best[used] = np.maximum(best[used], found)
        if seen in _sizes(strangers):
            rank1[seen] = float((genuine > best[probe]).mean())
    return {
        "probes": len(used),
        "people": len(np.unique(probes.labels[used])),
        "mate_pairs": len(probe),
        "distractors": strangers,
        "rank1": {str(n): share for n, share in rank1.items()},
        "tpir_at_fpir": tpir_at_fpir(genuine, best[probe], best[used]),
        "tar_at_far": _tar_at_far(genuine, largest.sorted(), impostors),
        "seconds": round(time.perf_counter() - begin, 2),
    }


def _sizes(strangers: int) -> list[int]:
    """Gallery sizes that are reported: powers of ten from 10, and all."""
    powers = [10**k for k in range(1, 10) if 10**k < strangers]
    return [*powers, strangers]


def _stream(unit: np.ndarray, distractors: Features, strangers: int, largest: LargestScores):
    """Yield (distractors seen, largest cosine of each probe to the new ones), at every size too."""
    device = best_device()
    left = torch.from_numpy(unit).to(device)  # (P, d)
    seen, last = 0, time.monotonic()
    sizes = iter(_sizes(strangers))
    size = next(sizes)
    for block in distractors.unit_blocks(BLOCK, strangers):
        cos = left @ torch.from_numpy(block).to(device).T  # (P, B)
        largest.add(cos)
        done = 0
        while done < len(block):
            stop = min(len(block), done + size - seen)
            seen, part = seen + stop - done, cos[:, done:stop]
            done = stop
            yield seen, part.amax(1).cpu().numpy()
            size = next(sizes, size) if seen == size else size
        if time.monotonic() - last > LOG_SECONDS:
            last = time.monotonic()
            log.info("compared with %d of %d distractors", seen, strangers)


def _tar_at_far(genuine: np.ndarray, largest: np.ndarray, impostors: int) -> dict:
    """As `verification.tar_at_far`, from the largest impostor scores alone."""
    found = {}
    for far in FARS:
        k = int(np.floor(far * impostors))
        found[far_name(far)] = None if k == 0 else float((genuine > largest[k]).mean())
    return found
