"""What a run has trained: its checkpoint, and its network for evaluation."""

from pathlib import Path

import torch
from torch import nn

from facelib.errors import UserError
from facelib.limits import FOUNDATION_MODELS
from facelib.models import build_backbone
from facelib.runs.folder import Run, load_run
from facelib.runs.origin import check_data
from facelib.training.checkpoint import (
    BACKBONE,
    check_settings,
    load_checkpoint,
    load_trained_state,
)
from facelib.training.learner import Learner


def load_trained(run: Run | str | Path) -> dict:
    """The checkpoint used for the evaluation of a run, see `Run.checkpoint`."""
    run = load_run(run)
    if not run.checkpoint.is_file():
        raise UserError(
            f"{run.name}: no {run.checkpoint.name} yet; train it: "
            f"python -m facelib train --run {run.ref}"
        )
    return load_checkpoint(run.checkpoint)


def load_model(run: Run | str | Path) -> tuple[nn.Module, str]:
    """The trained backbone in eval mode, and a digest of its checkpoint (see `load_trained`).

    The module maps RGB floats (B, 3, S, S) in [-1, 1] to embeddings (B, dim), not normalised.
    """
    run = load_run(run)
    check_data(run)
    state, cfg = load_trained(run), run.config
    # Of a foundation model, init also says the architecture, and holds the base under adapters.
    init = cfg.init if cfg.backbone in FOUNDATION_MODELS else "scratch"
    backbone = build_backbone(cfg.replace(init=init))
    kept = {k: v for k, v in state["learner"].items() if k.startswith(BACKBONE)}
    learner = Learner(backbone, nn.Identity())
    load_trained_state(learner, {**state, "learner": kept}, run.name)
    check_settings(state, run)
    return backbone.to(memory_format=torch.channels_last).eval(), state["digest"]
