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
from facelib.limits import check
from facelib.presets import PRESETS, PUBLISHED


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
    data_planted: int = 0  # rendered faces only: people of the benchmarks who are in training too
    exclude: str = ""  # file of identity names or labels left out of training
    skip_bad: bool = False  # count and skip records that do not decode, instead of stopping
    relabel: bool = False  # number labels with gaps anew, instead of stopping
    decode_scale: bool = False  # shrink training JPEGs while decoding: faster, other pixels
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
    m: float = 0.2  # margin: an angle in radians, a cosine or a factor, as the loss says
    gradient: str = "exact"  # or straight_through (InsightFace's PyTorch code)
    tau: float = 0.07  # InfoNCE temperature; 1/s matches the scales
    contrastive_weight: float = 0.5  # hybrid: weight of InfoNCE beside ArcFace
    coreface_weight: float = 0.05  # coreface: weight of the contrastive term; 0 is its control
    coreface_mask: str = "zero"  # coreface: published code's mask; clean leaves same identities out
    coreface_warmup: float = 0.3  # coreface: part of the run without the contrastive term
    cluster_margin: float = 1.0  # cluster: 1 guides ArcFace's margin, 0 leaves it as it is
    cluster_contrast: float = 1.0  # cluster: weight of CluCon, or of what replaces it; 0: off
    cluster_align: float = 0.5  # cluster: weight of CluAli; 0: off
    cluster_term: str = "clucon"  # cluster: or center, triplet in CluCon's place
    cluster_phi: str = "literal"  # cluster: CluCon's temperatures; pcl rescales, tau0 learns one
    cluster_lambda: str = "literal"  # cluster: or clipped at the percentiles 10 and 90
    cluster_floor: float = 0.5  # cluster: least lambda where it is clipped
    cluster_queue: int = 24  # cluster: slots; 0.1 a class, as 8,192 slots for 85,742 classes
    cluster_ring: int = 0  # cluster: features kept of each class; 0: one queue for all
    cluster_classes: int = 2048  # cluster: M, classes drawn for CluCon and CluAli
    cluster_encoder: float = 0.99  # cluster: momentum of the encoder; 0.999 wants a longer run
    cluster_centre: float = 0.9  # cluster: momentum of the centre bank
    images_per_identity: int = 0  # K of batches with P identities × K images; 0: the loss's layout
    subcenters: int = 3  # subcenter: centres a class
    mv_t: float = 1.12  # mv_softmax: weight of negatives above the target; 1 is CosFace
    magface_low: float = 0.45  # magface: margin at norm 10
    magface_high: float = 0.8  # magface: margin at norm 110
    magface_weight: float = 35.0  # magface: weight of the term that pulls norms up
    adaface_h: float = 0.333  # adaface: how much of the norm's spread the margin uses
    elastic_sigma: float = 0.0125  # elasticface: spread of the margin
    center_weight: float = 1.0  # center: weight of the centre loss beside the softmax
    center_alpha: float = 0.5  # center: rate at which its centres move
    gather: bool = True  # contrastive terms: negatives from all processes; False as in source A
    loss_block: int = 0  # contrastive terms by blocks of N × N cosines; 0: the whole matrix
    memory: str = "none"  # infonce, hybrid: more negatives from queue, cross_batch or identity
    memory_slots: int = 1024  # queue, cross_batch: features kept
    memory_encoder: float = 0.999  # queue: momentum of the encoder that fills it
    memory_centre: float = 0.0  # identity: 0 keeps the last feature, 0.9 a running mean
    memory_warmup: float = 0.0  # memory: part of the run in which it stays empty
    sampled_centres: int = 0  # classifier: centres in a step, the batch's and random ones; 0: all
    centre_block: int = 0  # classifier by blocks of N × N cosines; 0: the whole matrix
    sharded: bool = False  # classifier: each process holds its share of the centres only
    # optimisation
    global_batch: int = 64  # images a step over all processes and accumulation steps
    accumulate: int = 1  # micro-batches a step; InfoNCE's negatives come from one micro-batch
    chunk: int = 0  # images embedded at a time for one loss over all (GradCache); 0: all at once
    images_seen: int = 40_000  # length of the run, in images; 0: use epochs
    epochs: float = 0.0  # length of the run in passes over the data; 0: use images_seen
    optimizer: str = "sgd"  # momentum belongs to sgd
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.08  # fraction of the steps with a rising rate
    schedule: str = "cosine"  # then to zero; or steps: a tenth from each of drops on
    drops: str = "0.25,0.5,0.75"  # parts of the run, for schedule=steps
    clip_norm: float = 5.0  # gradient norm; 0 switches clipping off
    flip: bool = True  # random horizontal flips
    precision: str = "fp32"  # fp16 and bf16 on CUDA only
    tf32: bool = True  # CUDA: fp32 products in TensorFloat-32; no effect on a CPU
    channels_last: bool = True  # memory format of images and convolutions
    fused: bool = True  # CUDA: the optimiser's fused kernels; no effect on a CPU
    compile: str = "cuda"  # torch.compile of an IResNet: on CUDA only, always, or never
    seed: int = 0
    # bookkeeping
    select: str = "last"  # checkpoint that is evaluated: last, val_auc, val_loss, train_loss
    eval_every: int = 0  # steps between validations; 0: four times a run
    save_every: int = 0  # steps between checkpoints; 0: ten times a run
    log_every: int = 10
    workers: int = 0  # loader processes per rank; 0 with small data: decoded once into memory
    processes: int = 1
    elastic: bool = False  # any number of processes may go on with it (torchrun --nnodes 1:4)
    threads: int = 0  # CPU threads a process; 0: cores of a node divided by its processes

    def __post_init__(self) -> None:
        check(self)

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
        others = {k for fields in _FIELDS_OF.values() for k in fields}
        others -= set(_FIELDS_OF.get(self.loss, ()))
        left_out = {*NOT_IN_DIGEST, *others}
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


# They decide how a run is watched or spread, or (relabel) whether it can start at all.
NOT_IN_DIGEST = ("relabel", "log_every", "save_every", "workers", "threads", "elastic")

# Settings that joined the study after its first runs. They are in the digest only where they differ
# from these values, which are what the earlier runs did.
_JOINED = {
    "decode_scale": False,
    "lora_rank": 0,
    "lora_alpha": 8.0,
    "lora_targets": "ffn",
    "recompute": False,
    "optimizer": "sgd",
    "data_planted": 0,
    "schedule": "cosine",
    "drops": "0.25,0.5,0.75",
    "images_per_identity": 0,
    "loss_block": 0,
    "chunk": 0,
    "memory": "none",
    "memory_slots": 1024,
    "memory_encoder": 0.999,
    "memory_centre": 0.0,
    "memory_warmup": 0.0,
    "sampled_centres": 0,
    "centre_block": 0,
    "sharded": False,
    "tf32": True,
    "channels_last": True,
    "fused": True,
    "compile": "cuda",
}

# Settings of one loss only. They are in the digest of its runs and in no other: a loss that joins
# the study leaves the folders of all earlier runs as they are.
_FIELDS_OF = {
    "coreface": ("coreface_weight", "coreface_mask", "coreface_warmup"),
    "cluster": (
        *("cluster_margin", "cluster_contrast", "cluster_align", "cluster_term", "cluster_phi"),
        *("cluster_lambda", "cluster_floor", "cluster_queue", "cluster_ring", "cluster_classes"),
        *("cluster_encoder", "cluster_centre"),
    ),
    "center": ("center_weight", "center_alpha"),
    "subcenter": ("subcenters",),
    "mv_softmax": ("mv_t",),
    "magface": ("magface_low", "magface_high", "magface_weight"),
    "adaface": ("adaface_h",),
    "elasticface": ("elastic_sigma",),
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
    settings = {**PRESETS[preset], **PUBLISHED.get(changes.get("loss"), {}), **changes}
    for given, other in (("epochs", "images_seen"), ("images_seen", "epochs")):
        if changes.get(given) and other not in changes:
            settings[other] = 0 if other == "images_seen" else 0.0
    if "name" not in changes:
        loss = settings.get("loss", Config.loss)
        settings["name"] = preset if loss in preset else f"{preset}-{loss}"
    return Config(**settings)


def settings_among(names: dict[str, object]) -> dict[str, object]:
    """The entries of `names` that are settings: of a notebook's `globals()`, its parameters.

    For example `make_config(preset, **settings_among(globals()))`, in the cell that follows the
    parameters.
    """
    return {f.name: names[f.name] for f in dataclasses.fields(Config) if f.name in names}


def plain_config(cfg: Config) -> Config:
    """The run of a configuration's preset and loss without other settings, by its name."""
    fits = [name for name in PRESETS if cfg.name == name or cfg.name.startswith(f"{name}-")]
    preset = max(fits, key=len, default="smoke")
    try:
        return make_config(preset, loss=cfg.loss)
    except UserError:  # the preset's other settings do not fit this loss: CoReFace needs a dropout
        return make_config(preset)


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
