"""Foundation models behind one interface: CLIP, DINOv2, I-JEPA, and the study's own stand-in.

Nothing is downloaded here. Weights come from the hub cache of this machine, from a local folder
of any size of the model, or from a random initialisation; where they are missing, one line says
which files to fetch and where to put them.

    name             encoder                                pooling               d
    clip-vit-b32     open_clip ViT-B-32 (openai)            projection            512
    dinov2-vit-b14   transformers facebook/dinov2-base      CLS token             768
    ijepa-vit-h14    transformers facebook/ijepa_vith14_1k  mean of patch tokens  1280
    generic-vit      transformers Dinov2Model, small        mean of patch tokens  128

`generic-vit` stands in for the others where their weights are not at hand: the study pretrains it
itself on pictures without any face (preset "generic-vit").
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from facelib.errors import BadData, UserError

_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class FoundationEntry:
    """What is known of a model before it is loaded.

    Attributes:
        kind: `model_type` of its config.json; "open_clip" for CLIP.
        pooling: "projection", "CLS" or "mean" (of the patch tokens).
        mean, std: normalisation of RGB in [0, 1] that it was trained with. (The hub's I-JEPA
            repository names 0.5 in its preprocessor file: its converter's default, not I-JEPA's.)
        config: full-size architecture.
        repo, files: hub repository and the files that are needed; empty for the stand-in.
    """

    title: str
    kind: str
    pooling: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    config: Mapping
    repo: str = ""
    files: tuple[str, ...] = ()


_TRANSFORMERS_FILES = ("config.json", "model.safetensors")
_VIT_B32 = {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32}
_DINOV2_BASE = {"image_size": 518, "patch_size": 14, "hidden_size": 768, "num_hidden_layers": 12,
                "num_attention_heads": 12}  # fmt: skip
_IJEPA_HUGE = {"image_size": 224, "patch_size": 14, "hidden_size": 1280, "num_hidden_layers": 32,
               "num_attention_heads": 16, "intermediate_size": 5120,
               "layer_norm_eps": 1e-6}  # fmt: skip
_GENERIC = {"image_size": 32, "patch_size": 8, "hidden_size": 128, "num_hidden_layers": 6,
            "num_attention_heads": 4, "use_mask_token": False}  # fmt: skip

FOUNDATIONS: dict[str, FoundationEntry] = {
    "clip-vit-b32": FoundationEntry(
        "CLIP ViT-B/32", "open_clip", "projection", _CLIP_MEAN, _CLIP_STD,
        {"embed_dim": 512, "quick_gelu": True, "vision_cfg": _VIT_B32},
        "timm/vit_base_patch32_clip_224.openai",
        ("open_clip_config.json", "open_clip_model.safetensors"),
    ),
    "dinov2-vit-b14": FoundationEntry(
        "DINOv2 ViT-B/14", "dinov2", "CLS", _IMAGENET_MEAN, _IMAGENET_STD,
        _DINOV2_BASE, "facebook/dinov2-base", _TRANSFORMERS_FILES,
    ),
    "ijepa-vit-h14": FoundationEntry(
        "I-JEPA ViT-H/14", "ijepa", "mean", _IMAGENET_MEAN, _IMAGENET_STD,
        _IJEPA_HUGE, "facebook/ijepa_vith14_1k", _TRANSFORMERS_FILES,
    ),
    "generic-vit": FoundationEntry(
        "generic ViT (stand-in)", "dinov2", "mean", _IMAGENET_MEAN, _IMAGENET_STD, _GENERIC,
    ),
}  # fmt: skip

INPUT_LIMIT = 224  # DINOv2's config names 518 pixels, its last phase; source A feeds 224
CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_NO_TEXT = {"context_length": 4, "vocab_size": 8, "width": 64, "heads": 1, "layers": 1}
_LINEAR = {
    "open_clip": {"ffn": ["c_fc", "c_proj"]},
    "dinov2": {"ffn": ["fc1", "fc2"], "attention": ["q_proj", "k_proj", "v_proj", "o_proj"]},
    "ijepa": {"ffn": ["fc1", "fc2"], "attention": ["q_proj", "k_proj", "v_proj", "o_proj"]},
}


class Foundation(nn.Module):
    """An image encoder with its own input size, normalisation and pooling.

    Attributes:
        dim: d of the embeddings. input_size: pixels a side. pooling: see `FoundationEntry`.
        encoder: open_clip's image tower, or the transformers model.
        weights: where the weights came from: "scratch", "pretrained", a folder or a run.
    """

    def __init__(self, name: str, encoder: nn.Module, dim: int, input_size: int):
        super().__init__()
        entry = FOUNDATIONS[name]
        self.name, self.kind, self.pooling = name, entry.kind, entry.pooling
        self.weights = "scratch"
        self.encoder, self.dim, self.input_size = encoder, dim, input_size
        for key in ("mean", "std"):
            value = torch.tensor(getattr(entry, key)).view(1, 3, 1, 1)
            self.register_buffer(key, value, persistent=False)
        for key, parameter in encoder.named_parameters():
            if key.endswith("mask_token"):  # used in masked pretraining only: DDP would wait for it
                parameter.requires_grad = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """RGB floats (B, 3, S, S) in [-1, 1], any S -> embeddings (B, d), not normalised."""
        if x.shape[-1] != self.input_size:
            size = (self.input_size, self.input_size)
            x = F.interpolate(x, size, mode="bilinear", antialias=x.shape[-1] > self.input_size)
        x = ((x + 1) / 2 - self.mean) / self.std
        if self.pooling == "projection":
            return self.encoder(x)
        tokens = self.encoder(pixel_values=x).last_hidden_state  # (B, tokens, d)
        if self.pooling == "CLS":
            return tokens[:, 0]
        return tokens[:, 1 if self.kind == "dinov2" else 0 :].mean(1)  # I-JEPA has no CLS token

    features = forward

    @property
    def label(self) -> str:
        """Name in tables."""
        state = "random weights" if self.weights == "scratch" else "frozen"
        return f"{FOUNDATIONS[self.name].title}, {state}"

    def linear_names(self, targets: str) -> list[str]:
        """Module-name suffixes of the linear layers that adapters go on: "ffn", "attention", "all".

        Raises:
            UserError: attention layers of CLIP. open_clip keeps them in `nn.MultiheadAttention`,
                which reads the weights and never calls the layers: adapters on them fail in the
                backward pass.
        """
        groups = _LINEAR[self.kind]
        wanted = ["ffn", "attention"] if targets == "all" else [targets]
        if any(group not in groups for group in wanted):
            raise UserError(
                f"lora_targets={targets!r}: the attention layers of {self.name} cannot be adapted "
                f"(nn.MultiheadAttention); allowed are {', '.join(groups)}"
            )
        if getattr(getattr(self.encoder, "config", None), "use_swiglu_ffn", False):
            groups = {**groups, "ffn": ["gate_proj", "up_proj", "down_proj"]}
        return [name for group in wanted for name in groups[group]]

    def enable_recompute(self) -> None:
        """Keep block inputs only and recompute activations in backward: less memory, more time."""
        if self.kind == "open_clip":
            self.encoder.set_grad_checkpointing(True)
        else:
            self.encoder.activation_checkpointing_enable()


def load_foundation(name: str, weights: str = "pretrained") -> Foundation:
    """A foundation model.

    Args:
        name: key of `FOUNDATIONS`.
        weights: "pretrained" (hub cache; for generic-vit the finished run of its preset), a folder
            (config.json and model.safetensors; for CLIP open_clip_config.json and
            open_clip_model.safetensors or open_clip_pytorch_model.bin), for generic-vit also a run
            by folder or name, or "scratch" (random, of the caller's seed; full size).

    Raises:
        UserError: unknown name, or weights that are not on this machine; says what to fetch.
        BadData: a folder without weights, with those of another architecture, or with a key
            missing or of another shape.
    """
    entry = _entry(name)
    if weights == "scratch":
        return _build(name, entry.config)
    if name == "generic-vit" and not (Path(weights) / "model.safetensors").is_file():
        return _load_stand_in(weights)
    if weights == "pretrained":
        folder = cached_folder(name)
        if folder is None:
            raise UserError(f"{name}: weights not on this machine; {download_hint(name)}")
    else:
        folder = Path(weights).expanduser()
        if not folder.is_dir():
            raise BadData(f"{folder}: no such folder; {download_hint(name)}")
    load = _load_clip if entry.kind == "open_clip" else _load_transformers
    model = load(name, folder).eval()
    model.weights = weights
    return model


def build_full_size(name: str) -> Foundation:
    """The published architecture on the meta device: shapes and counts, no memory."""
    with torch.device("meta"):
        return _build(name, _entry(name).config)


def cached_folder(name: str) -> Path | None:
    """Folder in the hub cache that holds all files of a model, or None."""
    from huggingface_hub import try_to_load_from_cache

    entry = _entry(name)
    found = [try_to_load_from_cache(entry.repo, file) for file in entry.files]
    return Path(found[0]).parent if found and all(isinstance(f, str) for f in found) else None


def download_hint(name: str) -> str:
    """What to fetch and where to put it, as the end of a message."""
    entry = _entry(name)
    if not entry.repo:
        return "pretrain it (two minutes): python -m facelib train --preset generic-vit"
    return (
        f"fetch them into the hub cache: hf download {entry.repo} {' '.join(entry.files)}; or put "
        f"{' and '.join(entry.files)} from huggingface.co/{entry.repo} into a folder and name it: "
        "--weights DIR (training: init=DIR)"
    )


def weights_digest(model: nn.Module) -> str:
    """Sixteen hex digits over a model's weights and, of a `Foundation`, all that it does to images.

    The key of cached embeddings: input size, normalisation and pooling are in it.
    """
    digest = hashlib.sha256()
    for key in ("name", "input_size", "pooling"):
        digest.update(f"{key}={getattr(model, key, '')};".encode())
    for key in ("mean", "std"):
        digest.update(str(getattr(model, key, torch.zeros(0)).flatten().tolist()).encode())
    for key, tensor in sorted(model.state_dict().items()):
        digest.update(f"{key}{tuple(tensor.shape)}{tensor.dtype}".encode())
        plain = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(memoryview(plain.view(torch.uint8).numpy()))
    return digest.hexdigest()[:16]


def _entry(name: str) -> FoundationEntry:
    if name not in FOUNDATIONS:
        raise UserError(f"foundation model {name!r}: allowed are {', '.join(FOUNDATIONS)}")
    return FOUNDATIONS[name]


def _build(name: str, config: Mapping) -> Foundation:
    """Random weights in the architecture of a config."""
    if FOUNDATIONS[name].kind == "open_clip":
        import open_clip

        # Only the image tower is used; the text tower is as small as it can be.
        encoder = open_clip.CLIP(
            config["embed_dim"],
            vision_cfg=dict(config["vision_cfg"]),
            text_cfg=_NO_TEXT,
            quick_gelu=config.get("quick_gelu", False),
        ).visual
        return Foundation(name, encoder, config["embed_dim"], config["vision_cfg"]["image_size"])
    model_class, config_class = _classes(FOUNDATIONS[name].kind)
    return _wrap(name, model_class(config_class(**config)))


def _classes(kind: str) -> tuple[type, type]:
    import transformers

    stem = {"dinov2": "Dinov2", "ijepa": "IJepa"}[kind]
    return getattr(transformers, f"{stem}Model"), getattr(transformers, f"{stem}Config")


def _wrap(name: str, encoder: nn.Module) -> Foundation:
    size, kind = encoder.config.image_size, FOUNDATIONS[name].kind
    # DINOv2 interpolates its position embeddings; I-JEPA takes its own size only.
    input_size = min(size, INPUT_LIMIT) if kind == "dinov2" else size
    return Foundation(name, encoder, encoder.config.hidden_size, input_size)


def _load_clip(name: str, folder: Path) -> Foundation:
    config = _read_config(folder / "open_clip_config.json", name).get("model_cfg", {})
    path = next((folder / f for f in CLIP_WEIGHTS if (folder / f).is_file()), None)
    if path is None:
        raise BadData(f"{folder}: no {' or '.join(CLIP_WEIGHTS)}; {download_hint(name)}")
    from open_clip.factory import load_state_dict
    from open_clip.transformer import VisionTransformer

    with _naming(folder, "not an open_clip model"):
        model = _build(name, config)
    if not isinstance(model.encoder, VisionTransformer):
        found = type(model.encoder).__name__
        raise BadData(f"{folder}: image tower {found}, {name} wants a VisionTransformer")
    with _naming(path, "not a weights file"):
        state = load_state_dict(str(path))
    prefix = "visual."
    state = {k[len(prefix) :]: v.float() for k, v in state.items() if k.startswith(prefix)}
    wanted = model.encoder.state_dict()
    missing = [f"{prefix}{k}" for k in wanted if k not in state]
    shapes = [
        (f"{prefix}{k}", tuple(state[k].shape), tuple(v.shape))
        for k, v in wanted.items()
        if k in state and state[k].shape != v.shape
    ]
    _refuse(path, missing, shapes)
    model.encoder.load_state_dict(state, strict=False)
    return model


def _load_transformers(name: str, folder: Path) -> Foundation:
    kind = FOUNDATIONS[name].kind
    found = _read_config(folder / "config.json", name).get("model_type")
    if found != kind:
        raise BadData(
            f"{folder / 'config.json'}: model_type {found!r}, {name} wants {kind!r}: another "
            f"architecture; {download_hint(name)}"
        )
    path = folder / "model.safetensors"
    if not path.is_file():
        raise BadData(f"{folder}: no model.safetensors; {download_hint(name)}")
    with _naming(path, "not a weights file of transformers"), _quiet_transformers():
        encoder, info = _classes(kind)[0].from_pretrained(
            folder, local_files_only=True, dtype=torch.float32, output_loading_info=True,
            ignore_mismatched_sizes=True,
        )  # fmt: skip
    # A masked-pretraining token is unused here, and I-JEPA's file has none.
    missing = sorted(k for k in info["missing_keys"] if not k.endswith("mask_token"))
    _refuse(path, missing, sorted(info["mismatched_keys"]))
    return _wrap(name, encoder)


def _refuse(path: Path, missing: list[str], shapes: list[tuple]) -> None:
    """Transformers would fill such weights with random numbers and only warn."""
    if missing:
        raise BadData(
            f"{path}: key {missing[0]!r} is missing ({len(missing)} in all): another architecture, "
            "or an incomplete file; fetch it again"
        )
    if shapes:
        key, found, wanted = shapes[0]
        raise BadData(
            f"{path}: {key!r} has shape {tuple(found)}, its configuration wants {tuple(wanted)}"
        )


def _load_stand_in(weights: str) -> Foundation:
    """generic-vit as trained by a run: its preset's, or one by folder or name."""
    from facelib.config import make_config
    from facelib.paths import runs_root
    from facelib.runs import load_run
    from facelib.train import load_model

    own = make_config("generic-vit").run_name
    path = runs_root() / own if weights == "pretrained" else Path(weights)
    if weights == "pretrained" and not (path / "config.json").is_file():
        raise UserError(f"generic-vit: weights not on this machine; {download_hint('generic-vit')}")
    run = load_run(path)
    if run.config.backbone != "generic-vit" or run.config.lora_rank:
        raise UserError(
            f"{run.name}: backbone {run.config.backbone!r} with lora_rank={run.config.lora_rank}; "
            f"wanted a generic-vit without adapters, for example {own}"
        )
    if run.state != "done":
        raise UserError(f"{run.name} is not done: python -m facelib train --run {run.name}")
    model = load_model(run.path)[0]
    model.weights = weights
    return model


def _read_config(path: Path, name: str) -> dict:
    if not path.is_file():
        raise BadData(f"{path.parent}: no {path.name}; {download_hint(name)}")
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise BadData(f"{path}: not JSON ({error})") from error
    if not isinstance(found, dict):
        raise BadData(f"{path}: holds a {type(found).__name__}, wanted an object")
    return found


@contextlib.contextmanager
def _naming(path: Path, what: str) -> Iterator[None]:
    """Errors of other people's loaders as one line that names the file."""
    try:
        yield
    except Exception as error:
        first = (str(error).splitlines() or [""])[0][:200]
        raise BadData(f"{path}: {what} ({type(error).__name__}: {first})") from error


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No loading report and no progress bar: what matters in it is an error here."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
