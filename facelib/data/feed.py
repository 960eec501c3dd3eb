"""From records and sampler to the tensors of each step."""

import logging
from collections.abc import Iterator

import cv2
import numpy as np
import torch

from facelib import distributed
from facelib.config import Config
from facelib.data.augment import augment_batch, chances
from facelib.data.datasets import open_records
from facelib.data.loader import load_batches
from facelib.data.sampler import build_sampler, flips, local_slice
from facelib.data.split import checked_split
from facelib.limits import bank_negatives, negative_centres, negatives_per_anchor
from facelib.rows import LOSS_ROWS

log = logging.getLogger(__name__)
# [-1, 1] of each byte: one look-up is faster than torch's arithmetic (tests/bench/bench_loader.py).
SCALED = torch.arange(256).float().div_(127.5).sub_(1).numpy()
DECODED_LIMIT = 1 << 30  # bytes of decoded images that are kept instead of decoded again


def to_input(
    images: torch.Tensor, device: torch.device, layout: torch.memory_format = torch.channels_last
) -> torch.Tensor:
    """uint8 RGB (B, 3, S, S) -> float (B, 3, S, S) in [-1, 1] on the device, channels last."""
    if device.type != "cpu" or not len(images):
        images = images.to(device, non_blocking=True)
        return images.float().div_(127.5).sub_(1).contiguous(memory_format=layout)
    pixels = np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())
    floats = cv2.LUT(pixels.reshape(len(images), -1), SCALED).reshape(pixels.shape)
    return torch.from_numpy(floats).permute(0, 3, 1, 2).contiguous(memory_format=layout)


def mirror(images: torch.Tensor, rows: np.ndarray) -> None:
    """Flip the images `rows` of uint8 (B, 3, S, S) left to right, in place."""
    if images.device.type == "cpu":
        pixels = images.permute(0, 2, 3, 1).numpy()
        for row in rows:
            pixels[row] = cv2.flip(pixels[row], 1)
    else:
        chosen = torch.from_numpy(rows).to(images.device)
        images[chosen] = images[chosen].flip(3)


def memory_format(cfg: Config) -> torch.memory_format:
    """How images and convolutions of a config lie in memory.

    Narrow networks are never channels last: torch 2.14's backward on a CPU, of 1×1 convolutions
    with stride 2 and fewer than 16 channels, corrupts memory (seen from 48 pixels on).
    """
    corrupts = cfg.width < 16
    return torch.channels_last if cfg.channels_last and not corrupts else torch.contiguous_format


class Feed:
    """Training images, validation images and the batches of one process.

    Attributes:
        sampler: names the images of each joint batch. classes: training identities.
        labels: (N,) gap-free label of each training image.
        val: (V,) record indices of validation images; val_labels: (V,) their labels (training
            labels for split="within", own ones for split="identity").
        facts: counts for the log and the status file.
    """

    def __init__(self, cfg: Config, device: torch.device):
        self.cfg, self.device = cfg, device
        entry = LOSS_ROWS[cfg.loss]
        self.records = open_records(cfg)
        self.train, self.val = checked_split(cfg, self.records.labels)
        kept, self.labels = np.unique(self.records.labels[self.train], return_inverse=True)
        self.classes = len(kept)
        self.val_labels = self._validation_labels(kept)
        self.sampler = build_sampler(cfg, entry.layout, self.labels, cfg.global_batch)
        self.decoded = self._decode_all()
        self.facts = self._facts(entry.layout)

    def _validation_labels(self, kept: np.ndarray) -> np.ndarray:
        found = self.records.labels[self.val]
        return np.searchsorted(kept, found) if self.cfg.split == "within" else found

    def _decode_all(self) -> np.ndarray | None:
        size = len(self.records) * self.cfg.image_size**2 * 3
        if self.cfg.workers or size > DECODED_LIMIT:
            return None
        return self.records.load_all()

    def _facts(self, layout: str) -> dict:
        cfg = self.cfg
        facts = {
            "images": len(self.train),
            "identities": self.classes,
            "validation_images": len(self.val),
            "images_per_epoch": self.sampler.images_per_epoch,
            "bad_records": self.records.bad,
        }
        if layout != "plain":
            facts["negatives_per_anchor"] = negatives_per_anchor(cfg)
        if cfg.bank != "none":
            facts["bank_negatives"] = bank_negatives(cfg, self.classes)
        if cfg.chunk:
            facts["chunk"] = cfg.chunk
        if layout != "plain" or cfg.images_per_identity:
            facts["identities_with_one_image"] = self.sampler.single_images
            facts["coverage"] = round(self.sampler.coverage, 4)
        if LOSS_ROWS[cfg.loss].head:
            facts["negative_centres"] = negative_centres(cfg, self.classes)
        return facts

    def epoch(self, step: int) -> float:
        """Passes over the training images after a step."""
        return step * self.cfg.global_batch / len(self.train)

    def own(self, step: int) -> np.ndarray:
        """Positions in the joint batch that this rank sees, micro-batch by micro-batch."""
        cfg, ranks, rank = self.cfg, distributed.world_size(), distributed.rank()
        whole = np.arange(cfg.global_batch)
        parts = [
            whole[local_slice(cfg.global_batch, cfg.accumulate, micro, ranks, rank)]
            for micro in range(cfg.accumulate)
        ]
        return np.concatenate(parts)

    def batches(self, start: int, stop: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """(images in [-1, 1], labels) of this rank for steps start … stop − 1, on the device."""
        for step, images in zip(range(start, stop), self._images(start, stop)):
            own = self.own(step)
            labels = torch.from_numpy(self.labels[self.sampler.indices(step)[own]])
            if chance := chances(self.cfg):
                pixels = images.permute(0, 2, 3, 1).numpy()
                pixels = augment_batch(pixels, own, chance, self.cfg.seed, step)
                images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
            images = images.to(self.device, non_blocking=True)
            if self.cfg.flip:  # as bytes: a quarter of the floats' memory
                mirrored = flips(self.cfg.global_batch, self.cfg.seed, step)[own]
                mirror(images, np.flatnonzero(mirrored))
            labels = labels.to(self.device, non_blocking=True)
            yield to_input(images, self.device, memory_format(self.cfg)), labels

    def _images(self, start: int, stop: int) -> Iterator[torch.Tensor]:
        wanted = (self.train[self.sampler.indices(step)[self.own(step)]]
                  for step in range(start, stop))  # fmt: skip
        if self.decoded is not None:
            for records in wanted:
                yield torch.from_numpy(self.decoded[records]).permute(0, 3, 1, 2)
            return
        share = self.cfg.global_batch // distributed.world_size()
        for images in load_batches(self.records, wanted, share, self.cfg.workers):
            # A copy to a GPU must not wait for the step before, nor read a slot that is refilled.
            yield images.pin_memory() if self.device.type == "cuda" else images

    def images(self, records: np.ndarray) -> torch.Tensor:
        """uint8 (B, 3, S, S) of some record indices, without augmentation."""
        pixels = self.records.load(records) if self.decoded is None else self.decoded[records]
        return torch.from_numpy(pixels).permute(0, 3, 1, 2)
