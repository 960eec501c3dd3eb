"""Backbones, built from a `Config`."""

from facelib.config import Config
from facelib.models.iresnet import IResNet, iresnet, load_backbone


def build_backbone(cfg: Config) -> IResNet:
    """The backbone that a config describes, with `cfg.init` weights loaded if it names a file."""
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
