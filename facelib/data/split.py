"""Which records train and which validate, and whether both sides can do what is asked of them."""

import numpy as np

from facelib.config import Config
from facelib.errors import UserError
from facelib.limits import group_size, parse_shape
from facelib.rows import LOSS_ROWS

_EPS = 1e-9  # 5 · 0.2 must give 1 whatever the last bit of the product is


def split_records(cfg: Config, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(training, validation) record indices of a config; no validation for val_fraction=0."""
    if cfg.val_fraction == 0:
        return np.arange(len(labels)), np.empty(0, np.int64)
    split = split_within if cfg.split == "within" else split_identities
    return split(labels, cfg.val_fraction, cfg.seed)


def checked_split(cfg: Config, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`split_records` of a run that is to begin: what validation will ask for is looked at now.

    Raises:
        UserError: no validation images, or too few for `select`; with settings that work.
    """
    counts = np.unique(labels, return_counts=True)[1]
    if lack := _lack(cfg, counts):
        way = next(filter(None, (_fitting(cfg, counts, **change) for change in (
            {}, {"split": "within"}, {"split": "identity"}, {"select": "val_auc"},
            {"split": "identity", "select": "val_auc"}, {"select": "last"},
        ))), "")  # fmt: skip
        raise UserError(
            f"val_fraction={cfg.val_fraction} with split={cfg.split!r} and select={cfg.select!r} "
            f"{lack} ({len(counts)} identities of at most {counts.max()} images): use "
            f"{way or 'val_fraction=0 select=last'}"
        )
    return split_records(cfg, labels)


def most_images(cfg: Config, counts: np.ndarray) -> int:
    """The largest batch, a multiple of what the config cuts it into, from identities with so many
    images each: all of them, or whole groups of one identity."""
    size = group_size(cfg)
    images = int((counts >= size).sum()) * size if size > 1 else int(counts.sum())
    unit = max(size, 2) * cfg.processes * cfg.accumulate
    return images // unit * unit


def _lack(cfg: Config, counts: np.ndarray) -> str:
    """What is wrong with the validation that a config asks for; "" where nothing is."""
    if cfg.val_fraction == 0:
        return ""
    held = _held_out(cfg, counts)
    if not 0 < held.sum() < counts.sum():
        return f"leaves {'no image' if held.sum() == 0 else 'all images'} for validation"
    if cfg.select == "val_auc" and (held.max() < 2 or (held > 0).sum() < 2):
        return "leaves no genuine and impostor pair for validation"
    if cfg.select == "val_loss" and LOSS_ROWS[cfg.loss].head and cfg.split == "identity":
        return f"validates on identities without a class centre in loss={cfg.loss!r}"
    if cfg.select == "val_loss" and not most_images(cfg, held):
        return f"leaves no batch of loss={cfg.loss!r} for validation"
    return ""


def _held_out(cfg: Config, counts: np.ndarray) -> np.ndarray:
    """Validation images of each identity."""
    if cfg.split == "within":
        return np.floor(counts * cfg.val_fraction + _EPS).astype(int)
    chosen = np.random.default_rng(cfg.seed).permutation(len(counts))
    held = np.zeros_like(counts)
    held[chosen[: round(len(counts) * cfg.val_fraction)]] = 1
    return held * counts


def _fitting(cfg: Config, counts: np.ndarray, **change: str) -> str:
    """`change` with the val_fraction nearest to the config's that works, as settings; or ""."""
    for share in sorted((n / 100 for n in range(1, 100)), key=lambda n: abs(n - cfg.val_fraction)):
        other = cfg.replace(val_fraction=share, **change)
        left = counts - _held_out(other, counts)
        if not _lack(other, counts) and most_images(other, left[left > 0]) >= cfg.global_batch:
            return " ".join(f"{k}={v}" for k, v in ({"val_fraction": share} | change).items())
    return ""


def split_identities(
    labels: np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split so that no identity is on both sides: the default for model selection.

    Args:
        labels: int (N,).
        fraction: share of the identities that goes to validation, 0 < fraction < 1.
        seed: of the draw.

    Returns:
        Ascending indices of the training images and of the validation images.
    """
    _check_fraction(fraction)
    identities = np.unique(labels)
    held_out = round(len(identities) * fraction)
    if not 0 < held_out < len(identities):
        raise UserError(
            f"val_fraction={fraction} of {len(identities)} identities leaves one side empty: use "
            f"val_fraction={_share(len(identities))}"
        )
    chosen = np.random.default_rng(seed).permutation(identities)[:held_out]
    validation = np.isin(labels, chosen)
    return np.flatnonzero(~validation), np.flatnonzero(validation)


def split_within(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split inside each identity (80/20 with fraction 0.2): both sides hold the same people.

    An identity with n images gives floor(n · fraction) to validation, so a single image trains.

    Args:
        labels: int (N,).
        fraction: share of each identity's images that goes to validation, 0 < fraction < 1.
        seed: of the draw.

    Returns:
        Ascending indices of the training images and of the validation images.
    """
    _check_fraction(fraction)
    labels = np.asarray(labels)
    order = np.lexsort((np.random.default_rng(seed).random(len(labels)), labels))
    _, start, count = np.unique(labels[order], return_index=True, return_counts=True)
    rank = np.arange(len(labels)) - np.repeat(start, count)
    held_out = np.repeat(np.floor(count * fraction + _EPS), count)
    validation = np.zeros(len(labels), dtype=bool)
    validation[order] = rank < held_out
    return np.flatnonzero(~validation), np.flatnonzero(validation)


def _check_fraction(fraction: float) -> None:
    if not 0 < fraction < 1:
        raise UserError(f"val_fraction={fraction}, wanted a validation share between 0 and 1")


def _share(identities: int) -> float:
    """The least fraction, in whole percents, that gives one of so many to validation."""
    return 0 if identities < 2 else np.ceil(100 / identities) / 100


def subset_of(cfg: Config) -> tuple[int, int, int] | None:
    """People, images of each and seed of a config's `subset`; None for the whole set."""
    return (*parse_shape(cfg.subset), cfg.seed) if cfg.subset else None


def draw_subset(labels: np.ndarray, people: int, images: int, seed: int) -> np.ndarray:
    """Ascending indices of `images` records of each of `people` identities that have so many.

    Raises:
        UserError: fewer identities have so many.
    """
    order = np.lexsort((np.random.default_rng(seed).random(len(labels)), labels))
    _, start, count = np.unique(labels[order], return_index=True, return_counts=True)
    able = np.flatnonzero(count >= images)
    if len(able) < people:
        instead = f"subset={len(able)}x{images}" if len(able) > 1 else "fewer images of each"
        raise UserError(
            f"subset={people}x{images}: {len(able)} of {len(count)} people have {images} images "
            f"or more: use {instead}"
        )
    chosen = np.random.default_rng([seed, 1]).choice(able, people, replace=False)
    return np.sort(order[(start[chosen, None] + np.arange(images)).ravel()])
