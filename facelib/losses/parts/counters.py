"""Counts that belong to a loss's state but stay off the GPU, where reading them would wait."""

import torch
from torch import nn


class Counting(nn.Module):
    """A module whose attributes `counters`, whole numbers, are in its checkpoint."""

    counters: tuple[str, ...] = ("seen",)

    def get_extra_state(self) -> torch.Tensor:
        """The counters: a scalar if there is one, else (counters,)."""
        return torch.tensor([getattr(self, name) for name in self.counters]).squeeze()

    def set_extra_state(self, state: torch.Tensor) -> None:
        for name, value in zip(self.counters, state.flatten().tolist(), strict=True):
            setattr(self, name, value)
