"""Length, rate and optimiser of a run: functions of its `Config`."""

import math

import torch
from torch import nn

from facelib.config import Config


def build_optimizer(cfg: Config, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """SGD with momentum, Adam (decay in the gradient) or AdamW (decoupled decay).

    The parameters must be on their device: `fused` counts where all are on CUDA.
    """
    shared = {"lr": cfg.lr, "weight_decay": cfg.weight_decay}
    if cfg.fused and all(p.device.type == "cuda" for p in parameters):
        shared["fused"] = True
    if cfg.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=cfg.momentum, **shared)
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[cfg.optimizer](
        parameters, **shared
    )


def total_steps(cfg: Config, steps_per_epoch: int) -> int:
    """Length of the run in optimiser steps."""
    if cfg.images_seen:
        return max(1, round(cfg.images_seen / cfg.global_batch))
    return max(1, round(cfg.epochs * steps_per_epoch))


def learning_rate(cfg: Config, step: int, steps: int) -> float:
    """Linear warm-up, then a cosine to zero, or a tenth from each of `drops` on; per step."""
    warm = cfg.warmup * steps
    if step < warm:
        return cfg.lr * (step + 1) / math.ceil(warm)
    if cfg.schedule == "steps":
        return cfg.lr * 0.1 ** sum(step >= float(part) * steps for part in cfg.drops.split(","))
    return cfg.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1.0, steps - warm)))
