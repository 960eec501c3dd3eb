"""Losses: one small, readable class each, and the table that names them.

A criterion maps (z, labels) to (loss, {name: value}), in fp32. Its state is in registered buffers.
What else it may have, and the loop then uses:

    after_step(progress)          called after each step with the part of the run that is done
    encoder_momentum              a momentum encoder embeds each training batch as well, for
    remember(features, labels)    which gets those embeddings before the loss is computed
    each_rank_keeps               names of tensors that DDP leaves alone: equal on all ranks
                                  anyway, or another part on each (a submodule may have it too)
    diagnostics()                 {name: float} of its state, for each metrics line

The table says which batch layout and how many views it needs and how it is built from a `Config`;
the loop never compares a loss's name.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from facelib.config import Config
from facelib.losses import adaptive, pairwise
from facelib.losses.cluster import ClusterGuided
from facelib.losses.contrastive import InfoNCE
from facelib.losses.coreface import CoReFace
from facelib.losses.hybrid import Hybrid
from facelib.losses.margin import ArcFace, CentreDraw, CosFace, SphereFace, SubCenterArcFace
from facelib.losses.memory import ClassRings, FeatureQueue
from facelib.losses.negatives import build_memory


class LossEntry(NamedTuple):
    """How a loss is built, and what it asks of the batch."""

    build: Callable[[Config, int], nn.Module]  # (cfg, number of training classes)
    # "plain"; "pairs": P identities × 2 images at adjacent indices; "groups": P × K images
    layout: str
    needs_head: bool  # has one centre a training identity
    views: int = 1  # dropout views of one trunk pass: z is (views·B, d), view after view


def _split(cfg: Config, classes: int) -> dict:
    """Which centres of a classifier take part, where they are, and how many at a time."""
    draw = CentreDraw(classes, cfg.sampled_centres, cfg.seed) if cfg.sampled_centres else None
    return {"draw": draw, "block": cfg.centre_block, "sharded": cfg.sharded}


def _arcface(cfg: Config, classes: int) -> ArcFace:
    split = _split(cfg, classes)
    return ArcFace(classes, cfg.dim, s=cfg.s, m=cfg.m, gradient=cfg.gradient, **split)


def _contrast(kind: type) -> Callable[[Config, int], nn.Module]:
    """A contrastive loss with one temperature."""
    return lambda cfg, _: kind(cfg.tau, gather=cfg.gather, block=cfg.loss_block)


def _infonce(cfg: Config, classes: int) -> InfoNCE:
    memory = build_memory(cfg.memory, cfg.memory_slots, classes, cfg.dim, cfg.memory_centre)
    encoder = cfg.memory_encoder if cfg.memory == "queue" else None
    return InfoNCE(cfg.tau, cfg.gather, cfg.loss_block, memory, encoder, cfg.memory_warmup)


def _hybrid(cfg: Config, classes: int) -> Hybrid:
    return Hybrid(_arcface(cfg, classes), _infonce(cfg, classes), cfg.contrastive_weight)


def _coreface(cfg: Config, classes: int) -> CoReFace:
    return CoReFace(
        _arcface(cfg, classes),
        weight=cfg.coreface_weight,
        mask=cfg.coreface_mask,
        warmup=cfg.coreface_warmup,
        gather=cfg.gather,
        block=cfg.loss_block,
    )


# What takes CluCon's place, by `cluster_term`.
_INSTEAD: dict[str, Callable[[Config, int], nn.Module | None]] = {
    "clucon": lambda cfg, classes: None,
    "center": lambda cfg, classes: pairwise.CenterLoss(classes, cfg.dim),
    "triplet": lambda cfg, classes: pairwise.Triplet(gather=cfg.gather),
}


def _cluster(cfg: Config, classes: int) -> ClusterGuided:
    kind, slots = (ClassRings, cfg.cluster_ring) if cfg.cluster_ring else (
        FeatureQueue, cfg.cluster_queue
    )  # fmt: skip
    return ClusterGuided(
        _arcface(cfg, classes),
        kind(classes, cfg.dim, slots=slots, momentum=cfg.cluster_centre),
        margin_weight=cfg.cluster_margin,
        contrast_weight=cfg.cluster_contrast,
        align_weight=cfg.cluster_align,
        phi=cfg.cluster_phi,
        tightness=cfg.cluster_lambda,
        floor=cfg.cluster_floor,
        tau=cfg.tau,
        sampled=cfg.cluster_classes,
        seed=cfg.seed,
        encoder_momentum=cfg.cluster_encoder,
        instead=_INSTEAD[cfg.cluster_term](cfg, classes),
    )


def _centres(kind: type, *settings: str) -> Callable[[Config, int], nn.Module]:
    """A loss built as kind(classes, dim, s, *settings of the config)."""
    return lambda cfg, n: kind(n, cfg.dim, cfg.s, *(getattr(cfg, name) for name in settings))


def _split_centres(kind: type) -> Callable[[Config, int], nn.Module]:
    """A classifier whose centres may be drawn, taken in blocks or sharded."""
    return lambda cfg, n: kind(n, cfg.dim, cfg.s, cfg.m, **_split(cfg, n))


def _pairs(kind: type, *settings: str) -> Callable[[Config, int], nn.Module]:
    """A loss without centres, built as kind(*settings of the config, gather=...)."""
    return lambda cfg, _: kind(*(getattr(cfg, name) for name in settings), gather=cfg.gather)


def _center(cfg: Config, classes: int) -> pairwise.CenterSoftmax:
    center = pairwise.CenterLoss(classes, cfg.dim, cfg.center_alpha)
    return pairwise.CenterSoftmax(_arcface(cfg, classes), center, cfg.center_weight)


_MAGFACE = ("magface_low", "magface_high", "magface_weight")
# Comparators of source B, named by the settings that they are built from.
_WITH_CENTRES = {
    "cosface": _split_centres(CosFace),
    "sphereface": _split_centres(SphereFace),
    "subcenter": _centres(SubCenterArcFace, "m", "subcenters", "gradient"),
    "curricularface": _centres(adaptive.CurricularFace, "m"),
    "mv_softmax": _centres(adaptive.MVSoftmax, "m", "mv_t"),
    "magface": _centres(adaptive.MagFace, *_MAGFACE),
    "adaface": _centres(adaptive.AdaFace, "m", "adaface_h"),
    "elasticface": _centres(adaptive.ElasticFace, "m", "elastic_sigma"),
    "circle": _centres(pairwise.Circle, "m"),
    "center": _center,
}
_WITH_GROUPS = {
    "circle_pairs": _pairs(pairwise.CirclePairs, "s", "m"),
    "supcon": _contrast(pairwise.SupCon),
    "dcl": _contrast(pairwise.DCL),
    "triplet": _pairs(pairwise.Triplet, "m"),
}

LOSSES: dict[str, LossEntry] = {
    "arcface": LossEntry(_arcface, "plain", needs_head=True),
    "infonce": LossEntry(_infonce, "pairs", needs_head=False),
    "hybrid": LossEntry(_hybrid, "pairs", needs_head=True),
    "coreface": LossEntry(_coreface, "plain", needs_head=True, views=2),
    "cluster": LossEntry(_cluster, "plain", needs_head=True),
    **{name: LossEntry(build, "plain", True) for name, build in _WITH_CENTRES.items()},
    **{name: LossEntry(build, "groups", False) for name, build in _WITH_GROUPS.items()},
}
