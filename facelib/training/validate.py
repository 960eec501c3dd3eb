"""Validation figures during training: verification on held-out images, and the loss on request."""

import numpy as np
import torch

from facelib import distributed
from facelib.data.feed import to_input
from facelib.data.sampler import build_sampler, local_slice
from facelib.data.split import most_images
from facelib.metrics.verification import auc
from facelib.rows import LOSS_ROWS
from facelib.training.gradcache import embed_in_chunks

MAX_IMAGES = 20_000  # of the validation part; a fixed, seeded choice
MAX_PAIRS = 5_000  # genuine, and as many impostor
MAX_LOSS_BATCHES = 50


def validation_figures(trainer) -> dict[str, float]:
    """`val_auc` over pairs of validation images, and `val_loss` where the config selects by it.

    Every rank embeds its share; the result is the same on all ranks. Empty where the split holds
    too few images for a genuine and an impostor pair.
    """
    cfg, feed = trainer.cfg, trainer.feed
    trainer.learner.eval()
    figures: dict[str, float] = {}
    if len(feed.val):
        chosen = np.random.default_rng(cfg.seed).permutation(len(feed.val))[:MAX_IMAGES]
        first, second, same = sample_pairs(feed.val_labels[chosen], MAX_PAIRS, cfg.seed)
        if same.any() and not same.all():
            z = _embed(trainer, feed.val[chosen])
            score = np.einsum("id,id->i", z[first], z[second])
            figures["val_auc"] = float(auc(score, same))
    if cfg.select == "val_loss":
        figures["val_loss"] = _loss(trainer)
    return figures


def sample_pairs(labels: np.ndarray, limit: int, seed: int):
    """Up to `limit` genuine and as many impostor pairs of images, without repeats.

    Returns:
        (first, second, same): positions (P,), positions (P,), bool (P,).
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(labels, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    genuine = []
    for group in rng.permutation(np.array(groups, dtype=object)) if len(groups) > 1 else groups:
        a, b = np.triu_indices(len(group), 1)
        keep = rng.permutation(len(a))[:50]  # a few pairs of many people, not all of a few
        genuine += list(zip(group[a[keep]], group[b[keep]]))
        if len(genuine) >= limit:
            break
    genuine = genuine[:limit]
    impostor: set[tuple[int, int]] = set()
    for a, b in rng.integers(len(labels), size=(20 * max(len(genuine), 1), 2)):
        if labels[a] != labels[b] and len(impostor) < len(genuine):
            impostor.add((min(a, b), max(a, b)))
    pairs = np.array(genuine + sorted(impostor), dtype=np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1], np.arange(len(pairs)) < len(genuine)


@torch.inference_mode()
def _embed(trainer, records: np.ndarray) -> np.ndarray:
    """Unit embeddings (V, d) of record indices; ranks share the work."""
    feed, device = trainer.feed, trainer.accelerator.device
    ranks, rank = distributed.world_size(), distributed.rank()
    share = -(-len(records) // ranks)
    own = np.resize(records[rank * share : (rank + 1) * share], share)
    blocks = []
    for start in range(0, share, 256):
        images = to_input(feed.images(own[start : start + 256]), device)
        with trainer.accelerator.autocast():
            z = trainer.plain_learner.backbone(images)
        blocks.append(torch.nn.functional.normalize(z.float()))
    return distributed.gather(torch.cat(blocks)).cpu().numpy()[: len(records)]


@torch.inference_mode()
def _loss(trainer) -> float:
    """Mean criterion over validation batches of the training layout, without augmentation."""
    cfg, feed = trainer.cfg, trainer.feed
    ranks, rank = distributed.world_size(), distributed.rank()
    layout = LOSS_ROWS[cfg.loss].layout
    counts = np.unique(feed.val_labels, return_counts=True)[1]
    batch = min(cfg.global_batch, most_images(cfg, counts))
    sampler = build_sampler(cfg, layout, feed.val_labels, batch)
    steps = min(sampler.steps_per_epoch, MAX_LOSS_BATCHES)
    total = torch.zeros((), device=trainer.accelerator.device)
    for step in range(steps):
        own = sampler.indices(step)[local_slice(batch, 1, 0, ranks, rank)]
        images = to_input(feed.images(feed.val[own]), trainer.accelerator.device)
        labels = torch.from_numpy(feed.val_labels[own]).to(images.device)
        with trainer.accelerator.autocast():
            z, _, _ = embed_in_chunks(trainer.plain_learner, images, cfg.chunk or len(images))
        total += trainer.plain_learner.loss(z, labels)[0]
    return distributed.mean_over_ranks({"loss": total / steps})["loss"]
