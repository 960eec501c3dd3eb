"""Checkpoints: one file, written atomically, that holds all a run needs to continue bit for bit.

With adapters (LoRA) the frozen base is left out: the file names its digest, and loading on other
base weights is an error.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from facelib import distributed
from facelib.config import FIELDS, NOT_IN_DIGEST
from facelib.digests import digest_stream
from facelib.errors import BadData, UserError
from facelib.models.lora import is_adapter
from facelib.paths import atomic_file
from facelib.runs.folder import Run
from facelib.runs.weights import MOVE as AGAIN
from facelib.runs.weights import check_kinds
from facelib.safety.archive import load_archive
from facelib.safety.seal import seal_file
from facelib.training import shards

LENGTH = {"images_seen", "epochs", "continues"}  # may differ from a run that is continued
BACKBONE, ENCODER = "backbone.", "encoder."  # a momentum encoder is a copy of the backbone


def save_checkpoint(trainer, name: str) -> None:
    """Write `checkpoints/<name>`: learner, optimiser, scaler, step, and every rank's RNG states."""
    rng = {"cpu": torch.get_rng_state()}
    if trainer.accelerator.device.type == "cuda":
        rng["cuda"] = torch.cuda.get_rng_state()
    states = [rng]
    if distributed.world_size() > 1:
        states = [None] * distributed.world_size()
        dist.all_gather_object(states, rng)
    plain = trainer.plain_learner
    learner = shards.whole_state(plain, trained_state(plain))
    optimizer = shards.whole_optimizer(plain, trainer.optimizer.state_dict())
    if trainer.accelerator.is_main_process:
        base, scaler = base_digest(plain), trainer.accelerator.scaler
        content = {
            "learner": learner,
            "optimizer": optimizer,
            "scaler": scaler.state_dict() if scaler is not None else None,
            "step": trainer.step,
            "best": trainer.best,
            "losses": list(trainer.metrics.losses),  # logged since the last validation
            "rng": states,
            "digest": _digest(learner, base),
            "base": base,
            "config": trainer.cfg.to_dict(),
        }
        path = trainer.run.path / "checkpoints" / name
        try:
            with atomic_file(path) as temporary:
                torch.save(content, temporary)
                seal_file(temporary)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            free = shutil.disk_usage(path.parent).free / 2**20
            raise UserError(
                f"cannot write {path} ({free:.0f} MB of disk are free): {str(error)[:80]}; "
                "free space, then go on from the checkpoint before this one: "
                f"python -m facelib train --run {trainer.run.ref}"
            ) from error
    trainer.accelerator.wait_for_everyone()


def base_digest(learner: nn.Module) -> str:
    """Digest of the frozen weights under a learner's adapters; empty without adapters."""
    return getattr(getattr(learner, "backbone", None), "base_digest", "")


def trained_state(learner: nn.Module) -> dict[str, torch.Tensor]:
    """A learner's state without the frozen weights under its adapters."""
    state = learner.state_dict()
    if not base_digest(learner):
        return state
    frozen = (BACKBONE, ENCODER)
    return {k: v for k, v in state.items() if not k.startswith(frozen) or is_adapter(k)}


def load_trained_state(learner: nn.Module, state: dict, where: str) -> None:
    """Put a checkpoint's learner into one that was built from the same configuration.

    Args:
        state: content of a checkpoint. where: what to call it in an error.

    Raises:
        BadData: trained on other base weights, or another set of tensors.
    """
    found, wanted = state.get("base", ""), base_digest(learner)
    if found != wanted:
        raise BadData(
            f"{where} was trained on base weights {found or 'none'}, init= gives "
            f"{wanted or 'none'}: bring these base weights back, or start a new run"
        )
    own = trained_state(learner)
    different = sorted(set(own) ^ set(state["learner"]))
    if different:
        raise BadData(f"{where} and this configuration differ in the tensor {different[0]!r}")
    try:
        learner.load_state_dict(shards.own_state(learner, state["learner"]), strict=not wanted)
    except RuntimeError as error:  # a tensor of another shape
        reason = str(error).splitlines()[-1].strip()[:200]
        raise BadData(f"{where} is of another configuration: {reason}") from error


def load_checkpoint(path: Path) -> dict:
    """Read a checkpoint (tensors and plain values only) whose bytes and weights are as written.

    Raises:
        BadData: no such file, a damaged one, or a file of other content.
    """
    path = Path(path)
    if not path.is_file():
        raise BadData(f"{path}: no such checkpoint; list runs: python -m facelib runs")
    state = load_archive(path, AGAIN)
    check_kinds(state, path)
    if found := _wrong_tensors(state["learner"], path.stat().st_size):
        raise BadData(f"{path}: cannot be read as a checkpoint: {found}; {AGAIN}")
    digest = _digest(state["learner"], str(state.get("base", "")))
    if digest != state["digest"]:
        raise BadData(
            f"{path}: its weights have the digest {digest}, the file says {state['digest'][:16]!r}:"
            f" changed since they were saved; {AGAIN}"
        )
    return state


def check_settings(state: dict, run: Run, fresh: bool = False) -> None:
    """BadData where a run's config.json is not the one that its checkpoint was trained with.

    Args:
        fresh: the checkpoint is of the run that this one continues: their lengths differ.
    """
    trained = state.get("config") or {}
    free = (
        {"name", "skip_bad", *NOT_IN_DIGEST}
        | ({*LENGTH} if fresh else set())
        | ({"processes"} if run.config.elastic else set())
    )
    changed = [
        f"{name}={getattr(run.config, name)!r} (trained with {value!r})"
        for name, value in trained.items()
        if name in FIELDS and name not in free and value != getattr(run.config, name)
    ]
    if changed:
        raise BadData(
            f"{run.path / 'config.json'}: edited since the checkpoint was trained: "
            f"{', '.join(changed)}; put it back, or start a run of its own: "
            "python -m facelib train --set KEY=VALUE"
        )


def _wrong_tensors(learner: dict, size: int) -> str:
    """What is no plain tensor of the size that the file has; "" where all are."""
    for name, tensor in learner.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            return f"'learner' holds {str(name)[:60]!r}: a {type(tensor).__name__}, wanted a tensor"
        if tensor.layout != torch.strided or tensor.numel() * tensor.element_size() > size:
            return f"{name[:60]!r} is no tensor that a file of {size} bytes holds"
    return ""


def restore(state: dict, trainer) -> tuple[int, float | None]:
    """Put a checkpoint's state into a trainer; returns (step, best score so far).

    Raises:
        BadData: a state of another run, or of another version.
    """
    where = f"{trainer.run.name}: last.pt"
    load_trained_state(trainer.plain_learner, state, where)
    check_settings(state, trainer.run, fresh=bool(trainer.cfg.continues))
    try:
        optimizer = shards.own_optimizer(trainer.plain_learner, state["optimizer"])
        trainer.optimizer.load_state_dict(optimizer)
        if state.get("scaler") is not None and trainer.accelerator.scaler is not None:
            trainer.accelerator.scaler.load_state_dict(state["scaler"])
        if distributed.rank() < len(state["rng"]):
            rng = state["rng"][distributed.rank()]
            torch.set_rng_state(rng["cpu"])
            if "cuda" in rng and trainer.accelerator.device.type == "cuda":
                torch.cuda.set_rng_state(rng["cuda"])
        trainer.metrics.losses = [float(loss) for loss in state.get("losses", [])]
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError, IndexError) as error:
        reason = (str(error).splitlines() or [""])[0][:100]
        raise BadData(
            f"{where}: not the state of this configuration ({type(error).__name__}: {reason});"
            f" {AGAIN}"
        ) from error
    return state["step"], state.get("best")


def _digest(tensors: dict[str, torch.Tensor], base: str) -> str:
    """Sixteen hex digits over base weights, names and values: the key of cached embeddings."""

    def parts() -> Iterator[str | np.ndarray]:
        yield base
        for name, tensor in tensors.items():
            yield name
            yield tensor.detach().cpu().numpy()

    return digest_stream(parts())
