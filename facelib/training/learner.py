"""Backbone and criterion as one module, built from a `Config`."""

import torch
from torch import nn

from facelib.config import Config
from facelib.data.feed import memory_format
from facelib.limits import FOUNDATION_MODELS, IRESNETS
from facelib.losses import build_loss
from facelib.losses.parts.encoder import MomentumEncoder
from facelib.models import build_backbone
from facelib.models.initial import take_centres
from facelib.rows import LOSS_ROWS
from facelib.training.shards import own_state


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
        self._ddp_params_and_buffers_to_ignore = [
            ".".join(filter(None, ("criterion", path, name)))
            for path, module in criterion.named_modules()
            for name in getattr(module, "each_rank_keeps", ())
        ]

    def forward(self, images: torch.Tensor, labels: torch.Tensor | None = None, pull=None):
        """(loss, logs); or, with `pull`, the scalar of a replay in facelib.training.gradcache.

        Args:
            images: (B, 3, S, S). labels: (B,).
            pull: gradients of a loss at z (views·B, d) and, or None, at the criterion's weights:
                the scalar is their inner product with both, so that its gradient is the loss's.
        """
        z = self.embed(images)
        if pull is None:
            return self.loss(z, labels, self.features(images))
        at_z, at_weights = pull
        with torch.autocast(images.device.type, enabled=False):
            total = (at_least_fp32(z) * at_z).sum()
            for weight, gradient in zip(trained_weights(self.criterion), at_weights or []):
                total = total + (0 if gradient is None else (weight * gradient).sum())
        return total

    def features(self, images: torch.Tensor) -> torch.Tensor | None:
        """The momentum encoder's (B, d), in training, for a criterion that asks for them."""
        return self.encoder(images) if self.encoder and self.training else None

    def loss(self, z: torch.Tensor, labels: torch.Tensor, features: torch.Tensor | None = None):
        """(loss, logs) of embeddings (views·B, d); labels (B,); features (B, d) to remember."""
        labels = labels.repeat(self.views)
        with torch.autocast(z.device.type, enabled=False):
            if features is not None:
                self.criterion.remember(at_least_fp32(features), labels)
            return self.criterion(at_least_fp32(z), labels)

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


def trained_weights(module: nn.Module) -> list[nn.Parameter]:
    """Parameters that get a gradient, in order."""
    return [p for p in module.parameters() if p.requires_grad]


def at_least_fp32(z: torch.Tensor) -> torch.Tensor:
    """The same numbers in fp32, or as they are in fp64."""
    return z.to(torch.promote_types(z.dtype, torch.float32))


def compile_backbone(cfg: Config, learner: Learner, device: torch.device) -> bool:
    """torch.compile, in place, where the config asks for it; returns whether it did.

    Compiled is the call of the backbone (not CoReFace's two halves); names of weights stay.
    """
    known = cfg.backbone not in FOUNDATION_MODELS
    wanted = cfg.compile == "always" or (cfg.compile == "cuda" and device.type == "cuda" and known)
    if wanted:
        learner.backbone.compile()
    return wanted


def build_learner(cfg: Config, classes: int) -> Learner:
    """Seeded weights: the same on every rank and in every run with this seed."""
    torch.manual_seed(cfg.seed)
    backbone = build_backbone(cfg).to(memory_format=memory_format(cfg))
    dim = getattr(backbone, "dim", None)  # a foundation model brings its own
    learner = Learner(backbone, build_loss(cfg, classes, dim), LOSS_ROWS[cfg.loss].views)
    if cfg.init != "scratch" and cfg.backbone in IRESNETS and LOSS_ROWS[cfg.loss].head:
        centres = take_centres(cfg, learner, classes)
        learner.load_state_dict(own_state(learner, centres), strict=False)
    return learner
