"""One flat, frozen configuration of a training run, its presets and its digest.

`Config` is the only source of settings: notebooks, the command line, sweeps and the training
subprocess read the same fields. The same config gives the same run folder, so that "run again"
means "resume". Every default is the smoke run: rendered faces, two CPU cores, about a minute.
"""

import dataclasses
import difflib
import hashlib
import json
import typing
from dataclasses import dataclass

from facelib.errors import UserError


@dataclass(frozen=True)
class Config:
    """Settings of one training run; a batch, a rate and a norm are per optimiser step."""

    name: str = "smoke"
    # data
    data: str = "rendered"  # "rendered"; "shapes" (no faces: data_identities instances, data_images
    # views); or a folder with train.rec, train.idx, property
    benchmarks: str = "lfw,cfp_ff,cfp_fp"  # .bin files: names in the data folder, or paths
    data_seed: int = 0  # rendered faces only: another seed renders other people
    data_identities: int = 250  # rendered faces only: training identities
    data_images: int = 24  # rendered faces only: images a training identity
    data_size: int = 64  # rendered faces only: pixels
    data_spread: float = 1.0  # rendered faces only: how much identities differ
    data_nuisance: float = 1.0  # rendered faces only: pose, expression, light, occlusion
    test_identities: int = 200  # rendered faces only: people of the benchmarks
    exclude: str = ""  # file of identity names or labels left out of training
    skip_bad: bool = False  # count and skip records that do not decode, instead of stopping
    relabel: bool = False  # number labels with gaps anew, instead of stopping
    fill_border: str = "none"  # replicate: fill black alignment borders with the nearest pixels
    split: str = "identity"  # validation: whole identities, or images inside identities (source A)
    val_fraction: float = 0.04
    # model
    backbone: str = "iresnet10"
    width: int = 16  # channels of the first stage; 64 is the published networks
    image_size: int = 32  # network input, pixels
    dim: int = 128  # embedding size
    dropout: float = 0.0  # before the last linear layer; 0.4 in source A
    sync_batchnorm: bool = False  # batch statistics over all ranks
    freeze_batchnorm: bool = False  # running statistics only: exactness tests, fine-tuning
    init: str = "scratch"  # or a checkpoint: an InsightFace backbone.pth, a run's checkpoint; for
    # a foundation model its weights folder, or "pretrained": what the hub cache holds
    lora_rank: int = 0  # 0 trains all weights; above 0 only adapters of that rank (source A: 8)
    lora_alpha: float = 8.0  # adapters count alpha/rank times
    lora_targets: str = "ffn"  # linear layers that get adapters
    recompute: bool = False  # foundation models: recompute activations in backward (ViT-H)
    # loss
    loss: str = "arcface"
    s: float = 32.0  # scale of the classifier's logits
    m: float = 0.2  # angular margin, radians
    gradient: str = "exact"  # or straight_through (InsightFace's PyTorch code)
    tau: float = 0.07  # InfoNCE temperature; 1/s matches the scales
    contrastive_weight: float = 0.5  # hybrid: weight of InfoNCE beside ArcFace
    coreface_weight: float = 0.05  # coreface: weight of the contrastive term; 0 is its control
    coreface_mask: str = "zero"  # coreface: published code's mask; clean leaves same identities out
    coreface_warmup: float = 0.3  # coreface: part of the run without the contrastive term
    gather: bool = True  # contrastive terms: negatives from all processes; False as in source A
    # optimisation
    global_batch: int = 64  # images a step over all processes and accumulation steps
    accumulate: int = 1  # micro-batches a step; InfoNCE's negatives come from one micro-batch
    images_seen: int = 40_000  # length of the run, in images; 0: use epochs
    epochs: float = 0.0  # length of the run in passes over the data; 0: use images_seen
    optimizer: str = "sgd"  # momentum belongs to sgd
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.08  # fraction of the steps with a rising rate
    clip_norm: float = 5.0  # gradient norm; 0 switches clipping off
    flip: bool = True  # random horizontal flips
    precision: str = "fp32"  # fp16 and bf16 on CUDA only
    seed: int = 0
    # bookkeeping
    select: str = "last"  # checkpoint that is evaluated: last, val_auc, val_loss, train_loss
    eval_every: int = 0  # steps between validations; 0: four times a run
    save_every: int = 0  # steps between checkpoints; 0: ten times a run
    log_every: int = 10
    workers: int = 0  # loader processes per rank; 0 with small data: decoded once into memory
    processes: int = 1
    threads: int = 0  # CPU threads a process; 0: cores divided by processes

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_type(field.name, getattr(self, field.name), field.type)
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise UserError(f"{name}={getattr(self, name)!r}: allowed are {', '.join(allowed)}")
        for name, low in _MINIMA.items():
            if not getattr(self, name) >= low:
                raise UserError(f"{name}={getattr(self, name)!r}: must be at least {low}")
        if not self.tau > 0:
            raise UserError(f"tau={self.tau!r}: must be above 0 (0.07 in source A)")
        for name in ("val_fraction", "warmup", "dropout", "coreface_warmup"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)!r}: must be in [0, 1)")
        if (self.images_seen > 0) == (self.epochs > 0):
            raise UserError(
                f"images_seen={self.images_seen}, epochs={self.epochs}: set exactly one above 0"
            )
        if self.loss in TWO_VIEW_LOSSES and self.dropout == 0:
            raise UserError(
                f"loss={self.loss!r} compares two dropout views, which dropout=0.0 makes equal: "
                "use dropout=0.4"
            )
        _check_foundation(self)
        _check_batch(self)
        _check_adapters(self)
        if self.select in ("val_auc", "val_loss") and self.val_fraction == 0:
            raise UserError(
                f"select={self.select!r} needs val_fraction above 0, or use select=last"
            )
        if "/" in self.name or not self.name.strip() or self.name.startswith("."):
            raise UserError(
                f"name={self.name!r}: a folder name without slashes, for example 'smoke'"
            )

    def to_dict(self) -> dict:
        """All fields, in order."""
        return dataclasses.asdict(self)

    def replace(self, **changes: object) -> "Config":
        """A copy with other values; an unknown key is an error."""
        _check_keys(changes)
        return dataclasses.replace(self, **changes)

    def digest(self) -> str:
        """Eight hex digits over every field that can change a result.

        Left out: how a run is watched, saved and spread over threads and loader processes,
        settings that belong to other losses only (`_FIELDS_OF`), and later settings at the value
        that earlier runs had (`_JOINED`).
        """
        others = {k for loss, fields in _FIELDS_OF.items() if loss != self.loss for k in fields}
        left_out = {*_NOT_IN_DIGEST, *others}
        kept = {
            k: v for k, v in self.to_dict().items()
            if k not in left_out and not (k in _JOINED and v == _JOINED[k])
        }  # fmt: skip
        text = json.dumps(kept, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def run_name(self) -> str:
        """Name of the run folder: `<name>-<digest>`."""
        return f"{self.name}-{self.digest()}"

    def changes_from(self, other: "Config") -> dict[str, tuple[object, object]]:
        """Fields in which two configs differ: name -> (other's value, own value)."""
        mine, theirs = self.to_dict(), other.to_dict()
        return {k: (theirs[k], mine[k]) for k in mine if mine[k] != theirs[k]}


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
    "loss": ("arcface", "infonce", "hybrid", "coreface"),
    "gradient": ("exact", "straight_through"),
    "coreface_mask": ("zero", "clean"),
    "precision": ("fp32", "fp16", "bf16"),
    "select": ("last", "val_auc", "val_loss", "train_loss"),
}

# What facelib.losses.LOSSES says of layout and views, for checks that must not import torch.
PAIR_LOSSES = ("infonce", "hybrid")
TWO_VIEW_LOSSES = ("coreface",)

_MINIMA = {
    "s": 1e-6, "m": 0, "contrastive_weight": 0, "coreface_weight": 0, "global_batch": 2,
    "accumulate": 1, "lr": 0, "images_seen": 0, "epochs": 0, "clip_norm": 0, "width": 4, "dim": 2,
    "image_size": 16, "log_every": 1, "eval_every": 0, "save_every": 0, "workers": 0,
    "processes": 1, "threads": 0, "data_identities": 2, "data_images": 2, "data_size": 32,
    "lora_rank": 0, "lora_alpha": 1e-6,
    "test_identities": 20,
}  # fmt: skip

# They decide how a run is watched or spread, or (relabel) whether it can start at all.
_NOT_IN_DIGEST = ("relabel", "log_every", "save_every", "workers", "threads")

# Settings of one loss only. They are in the digest of its runs and in no other: a loss that joins
# the study leaves the folders of all earlier runs as they are.
# Settings that joined the study after its first runs. They are in the digest only where they differ
# from these values, which are what the earlier runs did.
_JOINED = {
    "lora_rank": 0,
    "lora_alpha": 8.0,
    "lora_targets": "ffn",
    "recompute": False,
    "optimizer": "sgd",
}
_FIELDS_OF = {"coreface": ("coreface_weight", "coreface_mask", "coreface_warmup")}

# Source A trains on two GPUs with 1,350 or 1,450 images on each, negatives from the same GPU only.
_SOURCE_A = {
    "data": "ms1m-arcface",
    "backbone": "iresnet50",
    "width": 64,
    "image_size": 112,
    "dim": 512,
    "dropout": 0.4,
    "split": "within",
    "val_fraction": 0.2,
    "images_seen": 0,
    "epochs": 30.0,
    "warmup": 5 / 30,
    "precision": "fp16",
    "log_every": 50,
    "workers": 8,
    "processes": 2,
    "gather": False,
}

_ARC = {"loss": "arcface", "global_batch": 2 * 1350, "select": "val_loss"}
_NCE = {"loss": "infonce", "global_batch": 2 * 1450, "select": "train_loss"}

PRESETS: dict[str, dict] = {
    "smoke": {},
    "ms1m-arcface": {**_SOURCE_A, **_ARC},
    "ms1m-infonce": {**_SOURCE_A, **_NCE},
    "ms1m-hybrid": {**_SOURCE_A, **_ARC, "loss": "hybrid"},
    "ms1m-arcface-standard": {
        **_SOURCE_A, **_ARC, "s": 64.0, "m": 0.5, "select": "last", "split": "identity",
        "val_fraction": 0.005,
    },
    # The published CoReFace run, but with this study's cosine for its steps of the rate, and one
    # dropout for its 0.4, then 0.6. From scratch; from an ArcFace run: init=RUN/checkpoints/last.pt
    # (the backbone only: the centres start anew, so keep a warm-up).
    "ms1m-coreface": {
        **_SOURCE_A, "loss": "coreface", "backbone": "iresnet100", "s": 64.0, "m": 0.5,
        "global_batch": 4 * 128, "processes": 4, "epochs": 24.0, "warmup": 0.0,
        "coreface_warmup": 7 / 24, "split": "identity", "val_fraction": 0.005,
    },
    # The stand-in for CLIP, DINOv2 and I-JEPA: pretrained on pictures without any face.
    "generic-vit": {
        "backbone": "generic-vit", "data": "shapes", "data_identities": 4000, "data_images": 6,
        "data_size": 32, "benchmarks": "", "val_fraction": 0.02, "loss": "infonce", "tau": 0.1,
        "global_batch": 128, "images_seen": 120_000, "optimizer": "adamw", "lr": 1e-3,
        "weight_decay": 0.05, "flip": False,
    },
}  # fmt: skip


# Source A's LoRA. Batches and negatives are per GPU, as in its other runs: 4,098, 778 and 118
# negatives an anchor, a 34-fold spread. The rate's warm-up is not stated there; it is taken over.
_LORA = {
    **_SOURCE_A, "loss": "infonce", "init": "pretrained", "dropout": 0.0, "lora_rank": 8,
    "lora_alpha": 8.0, "lr": 0.001, "epochs": 15.0, "select": "train_loss",
}  # fmt: skip
_CLIP = {**_LORA, "backbone": "clip-vit-b32", "dim": 512, "global_batch": 2 * 4100}
_DINOV2 = {**_LORA, "backbone": "dinov2-vit-b14", "dim": 768, "global_batch": 2 * 780}
_IJEPA = {**_LORA, "backbone": "ijepa-vit-h14", "dim": 1280, "global_batch": 2 * 120}

# Equal negatives: all at DINOv2's 778. Micro-batches would add none, so I-JEPA gets the memory for
# 780 images a GPU by recomputing activations.
_EQUAL = {"global_batch": 2 * 780}

# ArcFace beside InfoNCE: class centres start at random and want a higher rate than adapters do
# under SGD. AdamW's steps do not depend on the scale of a gradient, so one rate serves both.
_LORA_ARC = {"loss": "arcface", "optimizer": "adamw", "weight_decay": 0.05, "select": "val_loss"}

PRESETS |= {
    # The stand-in on rendered faces. Not source A's optimiser: SGD at 0.001 moves next to nothing
    # in a minute.
    "smoke-lora": {
        "backbone": "generic-vit",
        "init": "pretrained",
        "lora_rank": 8,
        "loss": "infonce",
        "global_batch": 128,
        "images_seen": 20_000,
        "optimizer": "adamw",
        "lr": 1e-2,
        "weight_decay": 0.05,
    },
    "ms1m-lora-clip": _CLIP,
    "ms1m-lora-dinov2": _DINOV2,
    "ms1m-lora-ijepa": _IJEPA,
    "ms1m-lora-clip-equal": {**_CLIP, **_EQUAL},
    "ms1m-lora-ijepa-equal": {**_IJEPA, **_EQUAL, "recompute": True},
    "ms1m-lora-clip-arcface": {**_CLIP, **_EQUAL, **_LORA_ARC},
    "ms1m-lora-dinov2-arcface": {**_DINOV2, **_LORA_ARC},
    "ms1m-lora-ijepa-arcface": {**_IJEPA, **_EQUAL, **_LORA_ARC, "recompute": True},
}


def make_config(preset: str = "smoke", **changes: object) -> Config:
    """A preset with changes; a change to None means "as in the preset" (notebook parameters).

    The run is called after the preset and loss unless `name` is given.

    Raises:
        UserError: unknown preset or key (with the nearest known one), or a value out of range.
    """
    if preset not in PRESETS:
        raise UserError(f"preset {preset!r}: allowed are {', '.join(PRESETS)}")
    _check_keys(changes)
    changes = {key: value for key, value in changes.items() if value is not None}
    settings = {**PRESETS[preset], **changes}
    for given, other in (("epochs", "images_seen"), ("images_seen", "epochs")):
        if changes.get(given) and other not in changes:
            settings[other] = 0 if other == "images_seen" else 0.0
    if "name" not in changes:
        loss = settings.get("loss", Config.loss)
        settings["name"] = preset if loss in preset else f"{preset}-{loss}"
    return Config(**settings)


def parse_settings(pairs: list[str]) -> dict[str, object]:
    """`["loss=infonce", "tau=0.1"]` to typed values of `Config` fields."""
    types = typing.get_type_hints(Config)
    settings: dict[str, object] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise UserError(f"{pair!r}: write KEY=VALUE, for example loss=infonce")
        _check_keys({key: text})
        settings[key] = _parse(key, text, types[key])
    return settings


def _parse(key: str, text: str, kind: type) -> object:
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise UserError(f"{key}={text!r}: allowed are true, false")
        return text.lower() == "true"
    try:
        return kind(text.replace("_", "")) if kind is int else kind(text)
    except ValueError:
        raise UserError(f"{key}={text!r}: wanted {kind.__name__}") from None


def _check_keys(changes: dict) -> None:
    known = [field.name for field in dataclasses.fields(Config)]
    for key in changes:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else f"; known are {', '.join(known)}"
            raise UserError(f"unknown setting {key!r}{hint}")


def _check_type(name: str, value: object, kind: type) -> None:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise UserError(f"{name}={value!r}: wanted {kind.__name__}, got {type(value).__name__}")


def _check_adapters(cfg: Config) -> None:
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


def _check_foundation(cfg: Config) -> None:
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


def _check_batch(cfg: Config) -> None:
    """Equal shares for every process and micro-batch, and whole pairs for pair losses."""
    shares = cfg.processes * cfg.accumulate
    unit = shares * (2 if cfg.loss in PAIR_LOSSES else 1)
    if cfg.global_batch % unit:
        lower = max(unit, cfg.global_batch // unit * unit)
        raise UserError(
            f"global_batch={cfg.global_batch} does not divide into {cfg.processes} process(es) × "
            f"{cfg.accumulate} micro-batch(es){'' if unit == shares else ' of pairs'}: "
            f"use {lower} or {lower + unit}"
        )
