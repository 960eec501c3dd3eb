"""Backbones, built from a `Config`."""

from torch import nn

from facelib.config import Config
from facelib.models.foundation import FOUNDATIONS, load_foundation
from facelib.models.iresnet import iresnet, load_backbone


def build_backbone(cfg: Config) -> nn.Module:
    """The backbone that a config describes: an `IResNet`, or a `Foundation` with its own `dim`.

    `cfg.init` gives the weights: a checkpoint file for an IResNet, `load_foundation`'s weights for
    a foundation model.
    """
    if cfg.backbone in FOUNDATIONS:
        model = load_foundation(cfg.backbone, cfg.init)
        if cfg.recompute:
            model.enable_recompute()
        return model
    model = iresnet(
        cfg.backbone,
        width=cfg.width,
        image_size=cfg.image_size,
        dim=cfg.dim,
        dropout=cfg.dropout,
    )
    if cfg.init != "scratch":
        load_backbone(model, cfg.init)
    return model
