"""A momentum encoder: a copy of the backbone that follows it slowly."""

import copy

import torch
from torch import nn


class MomentumEncoder(nn.Module):
    """A copy of the backbone that follows it: θ_m ← m_e·θ_m + (1 − m_e)·θ_f, without gradient.

    Batch statistics are those of its own batch, as in the backbone; dropout is off. The running
    statistics are its own and are not averaged.

    Args:
        backbone: is copied. momentum: m_e (published: 0.999).
    """

    def __init__(self, backbone: nn.Module, momentum: float):
        super().__init__()
        self.momentum = momentum
        self.network = copy.deepcopy(backbone).requires_grad_(False)

    def train(self, mode: bool = True) -> "MomentumEncoder":
        """As in any module, but dropout stays off: a stored feature is no random view."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.eval()
        return self

    @torch.no_grad()
    def follow(self, backbone: nn.Module) -> None:
        """One step of the moving average."""
        own, new = list(self.network.parameters()), list(backbone.parameters())
        torch._foreach_lerp_(own, new, 1 - self.momentum)

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) -> (B, d)."""
        return self.network(images)
