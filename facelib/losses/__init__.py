"""Losses, one file each: its `ROW` (what the project must know of it), its class and `build`.

May import metrics, formats and what stands below; nothing of the training loop.
To add one: a file here with ROW, a class and `build(cfg, classes, dim)`; nothing else changes.
`parts/` holds what losses share, `scale/` losses by blocks and over processes.

A criterion maps (z, labels) to (loss, {name: value}), in fp32. Its state is in registered buffers.
What else it may have, and the loop then uses:

    after_step(progress)          called after each step with the fraction of the run that is done
    encoder_momentum              a momentum encoder embeds each training batch as well, for
    remember(features, labels)    which gets those embeddings before the loss is computed
    each_rank_keeps               names of tensors that DDP leaves alone: equal on all ranks
                                  anyway, or another part on each (a submodule may have it too)
    diagnostics()                 {name: float} of its state, for each metrics line

The loop never compares a loss's name: it asks the row.
"""

import importlib

from torch import nn

from facelib.config import Config
from facelib.rows import LOSS_ROWS

_MODULES = {name: importlib.import_module(f"facelib.losses.{name}") for name in LOSS_ROWS}
for _name, _module in _MODULES.items():
    if not callable(getattr(_module, "build", None)):
        raise ImportError(f"{_module.__file__}: no function build(cfg, classes, dim)")


def build_loss(cfg: Config, classes: int, dim: int | None = None) -> nn.Module:
    """The criterion of a configuration.

    Args:
        classes: number of training identities. dim: embedding size, where it is not `cfg.dim`.
    """
    return _MODULES[cfg.loss].build(cfg, classes, dim or cfg.dim)
