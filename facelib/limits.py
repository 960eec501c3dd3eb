"""What values the settings of a run may have, alone and together.

The functions take a `Config` and raise `UserError` with the bad value and the allowed ones. Nothing
here imports torch, so that a wrong setting is named at once.
"""

import dataclasses

from facelib.errors import UserError

# What facelib.models.foundation.FOUNDATIONS holds; models with a size of their own.
FOUNDATION_MODELS = ("clip-vit-b32", "dinov2-vit-b14", "ijepa-vit-h14", "generic-vit")

CHOICES = {
    "fill_border": ("none", "replicate"),
    "split": ("identity", "within"),
    "backbone": (
        *("iresnet10", "iresnet18", "iresnet34", "iresnet50", "iresnet100"),
        *FOUNDATION_MODELS,
    ),
    "lora_targets": ("ffn", "attention", "all"),
    "optimizer": ("sgd", "adam", "adamw"),
    "loss": (
        *("arcface", "infonce", "hybrid", "coreface"),
        *("cosface", "sphereface", "subcenter", "curricularface", "mv_softmax", "magface"),
        *("adaface", "elasticface", "circle", "circle_pairs", "supcon", "dcl", "triplet", "center"),
        "cluster",
    ),
    "gradient": ("exact", "straight_through"),
    "coreface_mask": ("zero", "clean"),
    "memory": ("none", "queue", "identity", "cross_batch"),
    "cluster_term": ("clucon", "center", "triplet"),
    "cluster_phi": ("literal", "pcl", "tau0"),
    "cluster_lambda": ("literal", "clipped"),
    "schedule": ("cosine", "steps"),
    "precision": ("fp32", "fp16", "bf16"),
    "compile": ("cuda", "always", "never"),
    "select": ("last", "val_auc", "val_loss", "train_loss"),
}

# What facelib.losses.LOSSES says of layout and views, for checks that must not import torch.
PAIR_LOSSES = ("infonce", "hybrid")
TWO_VIEW_LOSSES = ("coreface",)
GROUP_LOSSES = ("circle_pairs", "supcon", "dcl", "triplet")
BLOCK_LOSSES = ("infonce", "hybrid", "coreface", "supcon", "dcl")  # take loss_block
# Take sampled_centres, centre_block, sharded.
SPLIT_LOSSES = ("arcface", "cosface", "sphereface", "hybrid", "coreface", "center")

_MINIMA = {
    "s": 1e-6, "m": 0, "contrastive_weight": 0, "coreface_weight": 0, "global_batch": 2,
    "accumulate": 1, "lr": 0, "images_seen": 0, "epochs": 0, "clip_norm": 0, "width": 4, "dim": 2,
    "image_size": 16, "log_every": 1, "eval_every": 0, "save_every": 0, "workers": 0,
    "processes": 1, "threads": 0, "data_identities": 2, "data_images": 2, "data_size": 32,
    "data_planted": 0,
    "lora_rank": 0, "lora_alpha": 1e-6, "images_per_identity": 0, "center_weight": 0,
    "center_alpha": 0, "subcenters": 1, "mv_t": 1, "magface_low": 0, "magface_high": 0,
    "magface_weight": 0, "adaface_h": 0, "elastic_sigma": 0,
    "cluster_contrast": 0, "cluster_align": 0, "cluster_queue": 1, "cluster_ring": 0,
    "cluster_classes": 2,
    "test_identities": 20, "loss_block": 0, "chunk": 0,
    "memory_slots": 1, "sampled_centres": 0, "centre_block": 0,
}  # fmt: skip

_FRACTIONS = (
    *("val_fraction", "warmup", "dropout", "coreface_warmup", "cluster_encoder"),
    *("cluster_centre", "memory_encoder", "memory_centre", "memory_warmup"),
)


def check(cfg) -> None:
    """Check a whole configuration.

    Raises:
        UserError: a value of the wrong type or out of range, or settings that exclude each other.
    """
    for field in dataclasses.fields(cfg):
        _check_type(field.name, getattr(cfg, field.name), field.type)
    for name, allowed in CHOICES.items():
        if getattr(cfg, name) not in allowed:
            raise UserError(f"{name}={getattr(cfg, name)!r}: allowed are {', '.join(allowed)}")
    for name, low in _MINIMA.items():
        if not getattr(cfg, name) >= low:
            raise UserError(f"{name}={getattr(cfg, name)!r}: must be at least {low}")
    if not cfg.tau > 0:
        raise UserError(f"tau={cfg.tau!r}: must be above 0 (0.07 in source A)")
    for name in _FRACTIONS:
        if not 0 <= getattr(cfg, name) < 1:
            raise UserError(f"{name}={getattr(cfg, name)!r}: must be in [0, 1)")
    for name in ("cluster_margin", "cluster_floor"):
        if not 0 <= getattr(cfg, name) <= 1:
            raise UserError(f"{name}={getattr(cfg, name)!r}: must be in [0, 1]")
    _check_drops(cfg.drops)
    if (cfg.images_seen > 0) == (cfg.epochs > 0):
        raise UserError(
            f"images_seen={cfg.images_seen}, epochs={cfg.epochs}: set exactly one above 0"
        )
    _check_foundation(cfg)
    if cfg.loss in TWO_VIEW_LOSSES and cfg.dropout == 0:
        raise UserError(
            f"loss={cfg.loss!r} compares two dropout views, which dropout=0.0 makes equal: "
            "use dropout=0.4"
        )
    _check_batch(cfg)
    _check_blocks(cfg)
    _check_negatives(cfg)
    _check_adapters(cfg)
    if cfg.decode_scale and cfg.fill_border != "none":
        raise UserError(
            f"decode_scale=True with fill_border={cfg.fill_border!r}: borders are found in the "
            "full picture; use decode_scale=false"
        )
    if cfg.select in ("val_auc", "val_loss") and cfg.val_fraction == 0:
        raise UserError(f"select={cfg.select!r} needs val_fraction above 0, or use select=last")
    if "/" in cfg.name or not cfg.name.strip() or cfg.name.startswith("."):
        raise UserError(f"name={cfg.name!r}: a folder name without slashes, for example 'smoke'")


def _check_type(name: str, value: object, kind: type) -> None:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise UserError(f"{name}={value!r}: wanted {kind.__name__}, got {type(value).__name__}")


def _check_adapters(cfg) -> None:
    """Adapters go on a foundation model that has weights of its own."""
    if cfg.lora_rank and cfg.backbone not in FOUNDATION_MODELS:
        raise UserError(
            f"lora_rank={cfg.lora_rank!r} needs a foundation model, not backbone="
            f"{cfg.backbone!r}: allowed are {', '.join(FOUNDATION_MODELS)}"
        )
    if cfg.lora_rank and cfg.init == "scratch":
        raise UserError(
            f"lora_rank={cfg.lora_rank!r} adapts trained weights, init='scratch' has none: use "
            "init=pretrained or init=FOLDER, or lora_rank=0 to train all weights"
        )


def _check_foundation(cfg) -> None:
    """Settings that a foundation model has no place for, and those that only it has."""
    if cfg.backbone not in FOUNDATION_MODELS:
        if cfg.recompute or cfg.init == "pretrained":
            what = "recompute=True" if cfg.recompute else "init='pretrained'"
            raise UserError(
                f"{what} belongs to foundation models ({', '.join(FOUNDATION_MODELS)}), not to "
                f"backbone={cfg.backbone!r}"
            )
        return
    if cfg.loss in TWO_VIEW_LOSSES:
        raise UserError(
            f"loss={cfg.loss!r} needs dropout before the last linear layer, which "
            f"backbone={cfg.backbone!r} has not: use an iresnet, or loss=arcface or infonce"
        )
    if cfg.dropout:
        raise UserError(
            f"dropout={cfg.dropout!r}: backbone={cfg.backbone!r} has no dropout; use dropout=0"
        )


def _check_drops(drops: str) -> None:
    try:
        good = all(0 < float(part) < 1 for part in drops.split(","))
    except ValueError:
        good = False
    if not good:
        raise UserError(f"drops={drops!r}: wanted parts of the run between 0 and 1, as 0.5,0.75")


def group_size(cfg) -> int:
    """Images of one identity that a batch holds side by side; 1: any images."""
    return cfg.images_per_identity or (2 if cfg.loss in PAIR_LOSSES else 1)


def negatives_per_anchor(cfg) -> int:
    """Images of other identities that an image meets in a batch of pairs or groups."""
    parts = cfg.accumulate * (1 if cfg.gather else cfg.processes)
    return cfg.global_batch // parts - group_size(cfg)


def memory_negatives(cfg, classes: int) -> int:
    """Stored features that an image meets at most, beside the batch."""
    if cfg.memory == "none":
        return 0
    return classes - 1 if cfg.memory == "identity" else cfg.memory_slots


def negative_centres(cfg, classes: int) -> int:
    """Centres of other identities in a step's softmax: at least one a row of the batch."""
    if not cfg.sampled_centres:
        return classes - 1
    rows = cfg.global_batch // cfg.accumulate * (2 if cfg.loss == "coreface" else 1)  # two views
    return min(classes, max(cfg.sampled_centres, rows)) - 1


def _check_batch(cfg) -> None:
    """Equal shares for every process and micro-batch, and whole groups for losses on them."""
    group = group_size(cfg)
    if cfg.images_per_identity and cfg.loss in PAIR_LOSSES:
        raise UserError(
            f"images_per_identity={group}: loss={cfg.loss!r} takes pairs; use 0, or loss=supcon"
        )
    triplets = cfg.loss == "cluster" and cfg.cluster_term == "triplet"
    grouped = cfg.loss in GROUP_LOSSES or triplets
    what = "cluster_term='triplet'" if triplets else f"loss={cfg.loss!r}"
    if grouped and group < 2:
        raise UserError(
            f"images_per_identity={cfg.images_per_identity}: {what} compares images of "
            "an identity inside the batch; use 2 or more, for example 4"
        )
    parts = cfg.accumulate * (1 if cfg.gather else cfg.processes)
    if grouped and cfg.global_batch // parts < 2 * group:
        raise UserError(
            f"global_batch={cfg.global_batch}: {what} needs two identities or more in a "
            f"micro-batch; use {2 * group * parts} or more"
        )
    shares = cfg.processes * cfg.accumulate
    unit = shares * group
    if cfg.global_batch % unit:
        lower = max(unit, cfg.global_batch // unit * unit)
        of = {1: "", 2: " of pairs"}.get(group, f" of groups of {group} images")
        raise UserError(
            f"global_batch={cfg.global_batch} does not divide into {cfg.processes} process(es) × "
            f"{cfg.accumulate} micro-batch(es){of}: use {lower} or {lower + unit}"
        )


# Settings of a memory -> the kinds that use them.
_MEMORY_FIELDS = {
    "memory_slots": ("queue", "cross_batch"),
    "memory_encoder": ("queue",),
    "memory_centre": ("identity",),
    "memory_warmup": ("queue", "cross_batch", "identity"),
}


def _check_negatives(cfg) -> None:
    """Memories belong to losses on pairs; parts of the centres to plain classifiers."""
    if cfg.memory != "none" and cfg.loss not in PAIR_LOSSES:
        raise UserError(
            f"memory={cfg.memory!r}: loss={cfg.loss!r} takes no negatives from a memory; use "
            f"memory=none, or a loss of {', '.join(PAIR_LOSSES)}"
        )
    for name, kinds in _MEMORY_FIELDS.items():
        value, usual = getattr(cfg, name), getattr(type(cfg), name)
        if value != usual and cfg.memory not in kinds:
            raise UserError(
                f"{name}={value}: memory={cfg.memory!r} does not use it; set "
                f"memory={' or memory='.join(kinds)}, or leave {name}={usual}"
            )
    for name in ("sampled_centres", "centre_block", "sharded"):
        if getattr(cfg, name) and cfg.loss not in SPLIT_LOSSES:
            raise UserError(
                f"{name}={getattr(cfg, name)}: loss={cfg.loss!r} has no such classifier; use "
                f"{name}={type(getattr(cfg, name))()}, or a loss of {', '.join(SPLIT_LOSSES)}"
            )


def _check_blocks(cfg) -> None:
    """Blocks of a loss that has a matrix of cosines; equal chunks of two images or whole groups."""
    if cfg.loss_block and cfg.loss not in BLOCK_LOSSES:
        raise UserError(
            f"loss_block={cfg.loss_block}: loss={cfg.loss!r} is not computed by blocks; use 0, or "
            f"a loss of {', '.join(BLOCK_LOSSES)}"
        )
    own, group = cfg.global_batch // (cfg.processes * cfg.accumulate), group_size(cfg)
    fits = [n for n in range(max(2, group), own + 1) if own % n == 0 and n % group == 0]
    if cfg.chunk and cfg.chunk not in fits:
        near = sorted(sorted(fits, key=lambda n: abs(n - cfg.chunk))[:3])
        raise UserError(
            f"chunk={cfg.chunk}: a process embeds {own} images of a micro-batch, in equal chunks "
            f"of {'two or more' if group < 2 else f'whole groups of {group}'}: use "
            f"{', '.join(map(str, near)) or 0}, or 0 for all at once"
        )
