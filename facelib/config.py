"""One flat, frozen configuration of a training run, its presets and its digest.

`Config` is the only source of settings: notebooks, the command line, sweeps and the training
subprocess read the same fields. The same config gives the same run folder, so that "run again"
means "resume". Every default is the smoke run: rendered faces, two CPU cores, about a minute.

Settings of single losses stand in the files of these losses (`facelib.rows`).
"""

import dataclasses
import difflib
from dataclasses import dataclass

from facelib.digests import digest_values
from facelib.errors import UserError
from facelib.limits import FACE_VITS, FOUNDATION_MODELS, IRESNETS, check_together
from facelib.presets import PRESETS
from facelib.rows import LOSS_ROWS, check_value, own_settings, parse_value, setting

DIGEST_VERSION = 2  # raise it when a default changes: its runs must not meet those of before

EMBEDDED = ("rendered", "shapes")  # data that are drawn here
# What must be chosen for a setting to mean anything: key of setting(of=…) -> (setting, values).
OWNERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "embedded": ("data", EMBEDDED),
    "iresnet": ("backbone", IRESNETS),
    "vit": ("backbone", FACE_VITS),
    "faces": ("backbone", (*IRESNETS, *FACE_VITS)),
    "transformer": ("backbone", (*FACE_VITS, *FOUNDATION_MODELS)),
    "foundation": ("backbone", FOUNDATION_MODELS),
    "bank": ("bank", ("queue", "identity", "cross_batch")),
    "slots": ("bank", ("queue", "cross_batch")),
    "queue": ("bank", ("queue",)),
    "identity": ("bank", ("identity",)),
    "sgd": ("optimizer", ("sgd",)),
    "steps": ("schedule", ("steps",)),
}


@dataclass(frozen=True)
class _Common:
    """Settings of every run; a batch, a rate and a norm are per optimiser step."""

    # fmt: off
    name: str = setting("smoke", "first part of the run folder's name")
    # data
    data: str = setting("rendered", "rendered; shapes (no faces: data_identities instances, data_images views); or a folder with train.rec and train.idx (or the path of another .rec), or with one folder of aligned pictures per person")
    benchmarks: str = setting("lfw,cfp_ff,cfp_fp", ".bin files: names in the data folder, or paths")
    data_seed: int = setting(0, "rendered faces: another seed renders other people", of="embedded", low=0)
    data_identities: int = setting(250, "rendered faces: training identities", of="embedded", low=2)
    data_images: int = setting(24, "rendered faces: images per training identity", of="embedded", low=2)
    data_size: int = setting(64, "rendered faces: pixels", of="embedded", low=32)
    data_spread: float = setting(1.0, "rendered faces: how much identities differ", of="embedded", low=0)
    data_nuisance: float = setting(1.0, "rendered faces: pose, expression, light, occlusion", of="embedded", low=0)
    test_identities: int = setting(200, "rendered faces: people of the benchmarks", of="embedded", low=20)
    data_planted: int = setting(0, "rendered faces: people of the benchmarks who are in training too", of="embedded", low=0)
    exclude: str = setting("", "file of identity names or labels left out of training")
    exclude_nobody: bool = setting(False, "take an exclude list that matches nobody, instead of stopping", changes_result=False)
    subset: str = setting("", "train on a part of the set, PEOPLExIMAGES as 5000x20, drawn by seed from people with enough images")
    skip_bad: bool = setting(False, "count and skip records that do not decode, instead of stopping")
    relabel: bool = setting(False, "number labels with gaps anew, instead of stopping", changes_result=False)
    decode_scale: bool = setting(False, "shrink training JPEGs while decoding: faster, other pixels")
    fill_border: str = setting("none", "replicate: fill black alignment borders with the nearest pixels", choices=("none", "replicate"))
    split: str = setting("identity", "validation: whole identities, or images inside identities (source A)", choices=("identity", "within"))
    val_fraction: float = setting(0.04, "part of the identities (or images) kept for validation", low=0, below=1)
    # model
    backbone: str = setting("iresnet10", "network", choices=(*IRESNETS, *FACE_VITS, *FOUNDATION_MODELS))
    width: int = setting(16, "channels of the first stage; 64 is the published networks", of="iresnet", low=4)
    image_size: int = setting(32, "network input, pixels", low=16)
    dim: int = setting(128, "embedding size; a foundation model brings its own", of="faces", low=2)
    dropout: float = setting(0.0, "before the last linear layer; 0.4 in source A", of="iresnet", low=0, below=1)
    sync_batchnorm: bool = setting(False, "batch statistics over all processes", of="faces")
    freeze_batchnorm: bool = setting(False, "running statistics only: exactness tests, fine-tuning", of="faces")
    mask_ratio: float = setting(0.1, "part of the tokens that is left out in training; 0 in InsightFace's vit_t and vit_s for WebFace42M", of="vit", low=0, below=1)
    drop_path: float = setting(0.1, "part of the images that skip the last block in training, fewer the earlier ones", of="vit", low=0, below=1)
    init: str = setting("scratch", "or trained weights of an IResNet or vit: a file (InsightFace's and others'), a run's folder or name; for a foundation model its weights folder, or pretrained: what the hub cache holds")
    lora_rank: int = setting(0, "0 trains all weights; above 0 only adapters of that rank (source A: 8)", of="foundation", low=0)
    lora_alpha: float = setting(8.0, "adapters count alpha/rank times", of="foundation", above=0)
    lora_spread: float = setting(1.0, "adapters' A at the start: its standard deviation over peft's; sqrt(6) in source A", of="foundation", above=0)
    lora_targets: str = setting("ffn", "linear layers that get adapters", of="foundation", choices=("ffn", "attention", "all"))
    recompute: bool = setting(False, "recompute activations in backward: less memory, more time (ViT-H, vit_b)", of="transformer")
    # loss: what several losses share; each takes some of these (its row says which)
    loss: str = setting("arcface", "training loss", choices=tuple(LOSS_ROWS))
    s: float = setting(32.0, "scale of the classifier's logits", of="loss", above=0)
    m: float = setting(0.2, "margin: an angle in radians, a cosine or a factor, as the loss says", of="loss", low=0)
    gradient: str = setting("exact", "or straight_through: the margin adds no gradient (InsightFace's PyTorch code, SphereFace-R)", of="loss", choices=("exact", "straight_through"))
    branch: str = setting("hard", "where theta + m passes pi: hard keeps the target falling; none has cos(theta + m) there too (ElasticFace, InsightFace's PyTorch code); easy: no margin where cos(theta) is not above 0 (MagFace)", of="loss", choices=("hard", "none", "easy"))
    tau: float = setting(0.07, "temperature of contrastive terms; 1/s matches the scales", of="loss", above=0)
    gather: bool = setting(True, "contrastive terms: negatives from all processes; false as in source A", of="loss")
    loss_block: int = setting(0, "contrastive terms by blocks of N × N cosines; 0: the whole matrix", of="loss", low=0)
    bank: str = setting("none", "more negatives from a bank of stored features", of="loss", choices=("none", "queue", "identity", "cross_batch"))
    bank_slots: int = setting(1024, "features kept by bank=queue or cross_batch", of="slots", low=1)
    bank_encoder: float = setting(0.999, "momentum of the encoder that fills a bank=queue", of="queue", low=0, below=1)
    bank_centre: float = setting(0.0, "bank=identity: 0 keeps the last feature, 0.9 a running mean", of="identity", low=0, below=1)
    bank_warmup: float = setting(0.0, "part of the run in which the bank stays empty", of="bank", low=0, below=1)
    anchors: int = setting(0, "with chunk: images of a process that are trained on; the rest of its batch are fresh negatives without gradient; 0: all", of="loss", low=0)
    sampled_centres: int = setting(0, "classifier: centres per step, the batch's and random ones; 0: all", of="loss", low=0)
    centre_block: int = setting(0, "classifier by blocks of N × N cosines; 0: the whole matrix", of="loss", low=0)
    sharded: bool = setting(False, "classifier: each process holds its share of the centres only", of="loss")
    images_per_identity: int = setting(0, "K of batches with P identities × K images; 0: the loss's layout", low=0)
    # optimisation
    global_batch: int = setting(64, "images per step over all processes and micro-batches", low=2)
    accumulate: int = setting(1, "micro-batches per step; InfoNCE's negatives come from one micro-batch", low=1)
    chunk: int = setting(0, "images embedded at a time for one loss over all (GradCache); 0: all at once", low=0)
    images_seen: int = setting(40_000, "length of the run in images; 0: use epochs", low=0)
    epochs: float = setting(0.0, "length of the run in passes over the data; 0: use images_seen", low=0)
    optimizer: str = setting("sgd", "optimiser", choices=("sgd", "adam", "adamw"))
    lr: float = setting(0.1, "highest learning rate", low=0)
    momentum: float = setting(0.9, "momentum of sgd", of="sgd", low=0, below=1)
    weight_decay: float = setting(5e-4, "weight decay", low=0)
    warmup: float = setting(0.08, "fraction of the steps with a rising rate", low=0, high=1)
    schedule: str = setting("cosine", "after the warm-up: cosine to zero, or steps: a tenth from each of drops on", choices=("cosine", "steps"))
    drops: str = setting("0.25,0.5,0.75", "fractions of the run at which the rate drops", of="steps")
    clip_norm: float = setting(5.0, "gradient norm; 0 switches clipping off", low=0)
    flip: bool = setting(True, "random horizontal flips")
    augment_zoom: float = setting(0.0, "part of the images of which a random part is enlarged to the whole", low=0, high=1)
    augment_crop: float = setting(0.0, "part of the images of which a random part stays, black around it; 0.2 in AdaFace's code", low=0, high=1)
    augment_lowres: float = setting(0.0, "part of the images that are shrunk and enlarged again; 0.2 in AdaFace's code", low=0, high=1)
    augment_colour: float = setting(0.0, "part of the images with other brightness, contrast and saturation; 0.2 in AdaFace's code", low=0, high=1)
    augment_occlude: float = setting(0.0, "part of the images with a random rectangle over them", low=0, high=1)
    precision: str = setting("fp32", "fp16 on CUDA only; bf16 there and on processors with bf16 units (doctor)", choices=("fp32", "fp16", "bf16"))
    tf32: bool = setting(True, "CUDA: fp32 products in TensorFloat-32; no effect on a CPU")
    channels_last: bool = setting(True, "memory format of images and convolutions")
    fused: bool = setting(True, "CUDA: the optimiser's fused kernels; no effect on a CPU")
    compile: str = setting("cuda", "torch.compile of an IResNet or vit: on CUDA only, always, or never", choices=("cuda", "always", "never"))
    seed: int = setting(0, "weights, order of the images, flips, dropout", low=0)
    continues: str = setting("", "a finished run whose weights, optimiser and step this one begins with (train --run NAME --images-seen N)")
    # bookkeeping
    select: str = setting("last", "checkpoint that is evaluated", choices=("last", "val_auc", "val_loss", "train_loss"))
    eval_every: int = setting(0, "steps between validations; 0: four times a run", low=0)
    save_every: int = setting(0, "steps between checkpoints; 0: ten times a run", low=0, changes_result=False)
    log_every: int = setting(10, "steps between lines of metrics.jsonl", low=1, changes_result=False)
    workers: int = setting(0, "loader processes per rank; 0 with small data: decoded once into memory", low=0, changes_result=False)
    processes: int = setting(1, "training processes: GPUs, or CPU processes", low=1)
    elastic: bool = setting(False, "any number of processes may go on with it (torchrun --nnodes 1:4)", changes_result=False)
    threads: int = setting(1, "CPU threads per process: another number gives other roundings", low=1)
    # fmt: on

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            check_value(field, value)
            reason = foreign(field, self)
            if reason and value != field.default:
                raise UserError(f"{field.name}={value!r}: {reason}; leave it at {field.default!r}")
        check_together(self)

    def to_dict(self) -> dict:
        """All fields, in order."""
        return dataclasses.asdict(self)

    def replace(self, **changes: object) -> "Config":
        """A copy with other values; an unknown key is an error."""
        _check_keys(changes)
        return dataclasses.replace(self, **changes)

    def with_loss(self, loss: str, **changes: object) -> "Config":
        """The same run with another loss: settings that it does not have fall back to defaults."""
        _check_keys(changes)
        settings = self.to_dict() | {"loss": loss} | changes
        return Config(**(_without_foreign(settings) | changes))

    def digest(self) -> str:
        """Eight hex digits over every setting that can change a result and is not at its default.

        A setting that joins the study later leaves the names of earlier runs as they are.
        """
        kept = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.metadata["changes_result"] and getattr(self, field.name) != field.default
        }
        kept |= {f"{k}, revised": 1 for k, v in kept.items() if v in FIELDS[k].metadata["revised"]}
        return digest_values([DIGEST_VERSION, kept], digits=8)

    @property
    def run_name(self) -> str:
        """Name of the run folder: `<name>-<digest>`."""
        return f"{self.name}-{self.digest()}"

    def changes_from(self, other: "Config") -> dict[str, tuple[object, object]]:
        """Fields in which two configs differ: name -> (other's value, own value)."""
        mine, theirs = self.to_dict(), other.to_dict()
        return {k: (theirs[k], mine[k]) for k in mine if mine[k] != theirs[k]}


_OWN = own_settings()
Config = dataclasses.make_dataclass(
    "Config",
    [(name, type(field.default), field) for name, field in _OWN.items()],
    bases=(_Common,),
    frozen=True,
    namespace={
        "__doc__": "Settings of one training run: those of every run and of every loss.",
        "__module__": __name__,
    },
)
FIELDS: dict[str, dataclasses.Field] = {field.name: field for field in dataclasses.fields(Config)}
NOT_IN_DIGEST = tuple(n for n, field in FIELDS.items() if not field.metadata["changes_result"])


def foreign(field: dataclasses.Field, cfg: _Common | dict) -> str:
    """Why a setting means nothing in a configuration: what was chosen does not have it; or ""."""
    name, chosen = field.name, cfg if isinstance(cfg, dict) else vars(cfg)
    if name in _OWN or field.metadata["of"] == "loss":
        users = users_of(name)
        if chosen["loss"] in users or chosen["loss"] not in LOSS_ROWS:
            return ""
        key, values = "loss", users
    elif field.metadata["of"]:
        key, values = OWNERS[field.metadata["of"]]
        if chosen[key] in values:
            return ""
    else:
        return ""
    others = ", ".join(values)
    return f"{key}={chosen[key]!r} has no such setting, it belongs to {key}={others}"


def users_of(name: str) -> list[str]:
    """The losses that take a setting."""
    return [loss for loss, row in LOSS_ROWS.items() if name in row.taken]


def _without_foreign(settings: dict[str, object]) -> dict[str, object]:
    """The settings that mean something in the run that they describe."""
    chosen = {name: settings.get(name, field.default) for name, field in FIELDS.items()}
    for name, field in FIELDS.items():  # a setting stands after the one that it belongs to
        if foreign(field, chosen):
            chosen[name] = field.default
    return {name: value for name, value in settings.items() if chosen[name] == value}


def make_config(preset: str = "smoke", **changes: object) -> Config:
    """A preset with changes; a change to None means "as in the preset" (notebook parameters).

    Where the changes name a loss, it starts from what it is published with. What the preset says
    of settings that the loss or backbone does not have is left out. The run is called after the
    preset and loss unless `name` is given.

    Raises:
        UserError: unknown preset or key (with the nearest known one), a value out of range, or a
            change to a setting that the chosen loss, backbone or data does not have.
    """
    if preset not in PRESETS:
        raise UserError(f"preset {preset!r}: allowed are {', '.join(PRESETS)}")
    _check_keys(changes)
    changes = {key: value for key, value in changes.items() if value is not None}
    row = LOSS_ROWS.get(changes.get("loss"))
    settings = {**PRESETS[preset], **(row.published if row else {}), **changes}
    settings = {**_without_foreign(settings), **changes}
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
    parameters. `name` is left out: a run is called after its preset and loss.
    """
    return {name: names[name] for name in FIELDS if name in names and name != "name"}


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
    settings: dict[str, object] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise UserError(f"{pair!r}: write KEY=VALUE, for example loss=infonce")
        _check_keys({key: text})
        if key in settings:
            raise UserError(f"{key} is given twice: {key}={settings[key]} and {pair}; give one")
        settings[key] = parse_value(FIELDS[key], text)
    return settings


def _check_keys(changes: dict) -> None:
    for key in changes:
        if key not in FIELDS:
            near = difflib.get_close_matches(key, FIELDS, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else f"; known are {', '.join(FIELDS)}"
            raise UserError(f"unknown setting {key!r}{hint}")
