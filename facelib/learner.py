"""Backbone and criterion as one module, built from a `Config`."""

import torch
from torch import nn

from facelib.config import Config
from facelib.losses import LOSSES
from facelib.losses.memory import MomentumEncoder
from facelib.models import build_backbone


class Learner(nn.Module):
    """Backbone and criterion as one module, so that DDP wraps both. forward -> (loss, logs).

    With several views the trunk runs once and each view is another dropout mask over its output:
    the criterion gets (views·B, d) embeddings, view after view, and as many labels.

    A criterion with an `encoder_momentum` gets a momentum encoder: in training its embeddings of
    the batch go to `criterion.remember(features, labels)` before the loss is computed.
    """

    def __init__(self, backbone: nn.Module, criterion: nn.Module, views: int = 1):
        super().__init__()
        self.backbone, self.criterion, self.views = backbone, criterion, views
        momentum = getattr(criterion, "encoder_momentum", None)
        self.encoder = None if momentum is None else MomentumEncoder(backbone, momentum)
        # What DDP need not send from the first rank at each step (its own name for the list).
        same = getattr(criterion, "same_on_all_ranks", ())
        self._ddp_params_and_buffers_to_ignore = [f"criterion.{name}" for name in same]

    def forward(self, images: torch.Tensor, labels: torch.Tensor):
        z, labels = self.embed(images), labels.repeat(self.views)
        features = self.encoder(images) if self.encoder and self.training else None
        with torch.autocast(images.device.type, enabled=False):
            if features is not None:
                self.criterion.remember(_at_least_fp32(features), labels)
            return self.criterion(_at_least_fp32(z), labels)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) -> (views·B, d)."""
        if self.views == 1:
            return self.backbone(images)
        h = self.backbone.trunk(images)
        return torch.cat([self.backbone.embed(h) for _ in range(self.views)])

    def after_step(self, progress: float) -> None:
        """After an optimiser step: `progress` is the part of the run that is done, in [0, 1]."""
        if self.encoder:
            self.encoder.follow(self.backbone)
        after_step = getattr(self.criterion, "after_step", None)
        if after_step:
            after_step(progress)

    def diagnostics(self) -> dict[str, float]:
        """What the criterion tells of its state for a metrics line."""
        found = getattr(self.criterion, "diagnostics", None)
        return found() if found else {}


def _at_least_fp32(z: torch.Tensor) -> torch.Tensor:
    return z.to(torch.promote_types(z.dtype, torch.float32))


def build_learner(cfg: Config, classes: int) -> Learner:
    """Seeded weights: the same on every rank and in every run with this seed."""
    torch.manual_seed(cfg.seed)
    backbone = build_backbone(cfg).to(memory_format=torch.channels_last)
    entry = LOSSES[cfg.loss]
    dim = getattr(backbone, "dim", cfg.dim)  # a foundation model brings its own
    return Learner(backbone, entry.build(cfg.replace(dim=dim), classes), entry.views)
