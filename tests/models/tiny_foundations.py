"""Tiny CLIP, DINOv2 and I-JEPA in the files that the hub has, for the real loading code."""

import json
from pathlib import Path

import torch

TINY_VIT = {"image_size": 28, "patch_size": 14, "hidden_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2}  # fmt: skip
TINY_CLIP = {
    "embed_dim": 24,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 16, "width": 64, "heads": 1, "layers": 1},
}
DIMS = {"clip-vit-b32": 24, "dinov2-vit-b14": 32, "ijepa-vit-h14": 32}


def save_tiny(name: str, folder: Path) -> Path:
    """A small model of a kind with random weights, saved as its hub repository is."""
    torch.manual_seed(1)
    folder.mkdir(parents=True, exist_ok=True)
    if name == "clip-vit-b32":
        import open_clip
        from safetensors.torch import save_file

        state = open_clip.CLIP(**TINY_CLIP).state_dict()  # the text tower too, as in real files
        save_file(
            {k: v.contiguous() for k, v in state.items()}, folder / "open_clip_model.safetensors"
        )
        config = {"model_cfg": TINY_CLIP, "preprocess_cfg": {}}
        (folder / "open_clip_config.json").write_text(json.dumps(config))
        return folder
    from transformers import Dinov2Config, Dinov2Model, IJepaConfig, IJepaModel

    if name == "dinov2-vit-b14":
        model = Dinov2Model(Dinov2Config(**TINY_VIT))
    else:
        model = IJepaModel(IJepaConfig(**TINY_VIT, intermediate_size=64))
    model.save_pretrained(folder)
    return folder
