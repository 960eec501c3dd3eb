"""Backbones, built from a `Config`: IResNet, ViT, foundation models, LoRA adapters.

May import runs and losses and all below them.
To add one: a file here, its name in `limits.py`, a branch in `build_backbone`.
"""

from torch import nn

from facelib.config import Config
from facelib.models.foundation import load_foundation
from facelib.models.initial import load_backbone
from facelib.models.iresnet import iresnet
from facelib.models.lora import add_adapters
from facelib.models.registry import FOUNDATIONS
from facelib.models.vit import SIZES, FaceViT
from facelib.runs.weights import init_file


def build_backbone(cfg: Config) -> nn.Module:
    """The backbone of a config: an `IResNet`, a `FaceViT`, or a `Foundation` with its own `dim`.

    `cfg.init` gives the weights: `init_file` for an IResNet or vit, `load_foundation`'s weights for
    a foundation model. With `cfg.lora_rank` above 0 that model is frozen under adapters.
    """
    if cfg.backbone in FOUNDATIONS:
        model = load_foundation(cfg.backbone, cfg.init)
        if cfg.lora_rank:
            own = cfg.lora_targets, cfg.seed, cfg.lora_spread
            add_adapters(model, cfg.lora_rank, cfg.lora_alpha, *own)
        if cfg.recompute:
            model.enable_recompute()
        return model
    if cfg.backbone in SIZES:
        own = cfg.mask_ratio, cfg.drop_path, cfg.recompute
        model = FaceViT(SIZES[cfg.backbone], cfg.image_size, cfg.dim, *own)
    else:
        sizes = {"width": cfg.width, "image_size": cfg.image_size, "dim": cfg.dim}
        model = iresnet(cfg.backbone, **sizes, dropout=cfg.dropout)
    if cfg.init != "scratch":
        load_backbone(model, init_file(cfg.init))
    return model
