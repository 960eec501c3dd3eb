"""What is known of each foundation model before it is loaded, and where its weights would be."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from facelib.errors import UserError

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
        "stand-in ViT", "dinov2", "mean", _IMAGENET_MEAN, _IMAGENET_STD, _GENERIC,
    ),
}  # fmt: skip


def entry_of(name: str) -> FoundationEntry:
    """The entry of a model; UserError for an unknown name."""
    if name not in FOUNDATIONS:
        raise UserError(f"foundation model {name!r}: allowed are {', '.join(FOUNDATIONS)}")
    return FOUNDATIONS[name]


def cached_folder(name: str) -> Path | None:
    """Folder in the hub cache that holds all files of a model, or None."""
    from huggingface_hub import try_to_load_from_cache

    entry = entry_of(name)
    found = [try_to_load_from_cache(entry.repo, file) for file in entry.files]
    return Path(found[0]).parent if found and all(isinstance(f, str) for f in found) else None


def download_hint(name: str) -> str:
    """What to fetch and where to put it, as the end of a message."""
    entry = entry_of(name)
    if not entry.repo:
        return "pretrain it (two minutes): python -m facelib train --preset generic-vit"
    return (
        f"fetch them into the hub cache: hf download {entry.repo} {' '.join(entry.files)}; or put "
        f"{' and '.join(entry.files)} from huggingface.co/{entry.repo} into a folder and name it: "
        "--weights DIR (training: init=DIR)"
    )
