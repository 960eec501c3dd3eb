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

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from facelib.config import make_config
from facelib.digests import digest_stream
from facelib.errors import UserError
from facelib.models.registry import FOUNDATIONS, cached_folder, download_hint, entry_of
from facelib.models.weights import build_encoder, load_encoder
from facelib.paths import make_folder, runs_root
from facelib.runs.folder import load_run
from facelib.runs.weights import WEIGHTS_FOLDER

STAND_IN = "generic-vit"
INPUT_LIMIT = 224  # DINOv2's config names 518 pixels, its last phase; source A feeds 224

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

    def __init__(self, name: str, encoder: nn.Module):
        super().__init__()
        entry = entry_of(name)
        self.name, self.kind, self.pooling = name, entry.kind, entry.pooling
        self.weights = "scratch"
        self.encoder, (self.dim, self.input_size) = encoder, _sizes(encoder, self.kind)
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
    if weights == "scratch":
        return Foundation(name, build_encoder(name, entry_of(name).config))
    if name == STAND_IN and not any(Path(weights).expanduser().glob("model.safetensors*")):
        return _load_stand_in(weights)
    if weights == "pretrained":
        folder = cached_folder(name)
        if folder is None:
            raise UserError(f"{name}: weights not on this machine; {download_hint(name)}")
    else:
        folder = Path(weights).expanduser()
    model = Foundation(name, load_encoder(name, folder)).eval()
    model.weights = weights
    return model


def build_full_size(name: str) -> Foundation:
    """The published architecture on the meta device: shapes and counts, no memory."""
    with torch.device("meta"):
        return Foundation(name, build_encoder(name, entry_of(name).config))


def weights_digest(model: nn.Module) -> str:
    """Sixteen hex digits over a model's weights and, of a `Foundation`, all that it does to images.

    The key of cached embeddings: input size, normalisation and pooling are in it.
    """

    def parts() -> Iterator[str | np.ndarray]:
        for key in ("name", "input_size", "pooling"):
            yield f"{key}={getattr(model, key, '')};"
        for key in ("mean", "std"):
            yield str(getattr(model, key, torch.zeros(0)).flatten().tolist())
        for key, tensor in sorted(model.state_dict().items()):
            yield f"{key}{tuple(tensor.shape)}{tensor.dtype}"
            plain = tensor.detach().cpu().contiguous().reshape(-1)
            yield plain.view(torch.uint8).numpy()

    return digest_stream(parts())


def _sizes(encoder: nn.Module, kind: str) -> tuple[int, int]:
    """(d, input pixels) of an encoder."""
    if kind == "open_clip":
        return encoder.output_dim, encoder.image_size[0]
    size = encoder.config.image_size
    # DINOv2 interpolates its position embeddings; I-JEPA takes its own size only.
    return encoder.config.hidden_size, min(size, INPUT_LIMIT) if kind == "dinov2" else size


def _load_stand_in(weights: str) -> Foundation:
    """generic-vit as trained by a run: its preset's, or one by folder or name."""
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
        raise UserError(f"{run.name} is not done: python -m facelib train --run {run.ref}")
    model = Foundation("generic-vit", load_encoder("generic-vit", run.path / WEIGHTS_FOLDER)).eval()
    model.weights = "pretrained" if run.name == own else run.name
    return model


def save_weights(model: Foundation, folder: Path) -> None:
    """Write an encoder as published models come: config.json and model.safetensors."""

    def write(temporary: Path) -> None:
        model.encoder.save_pretrained(temporary)

    if folder.is_dir():
        shutil.rmtree(folder)  # of an earlier end of the same run
    make_folder(folder, write)
