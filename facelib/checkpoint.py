"""Checkpoints: one file, written atomically, that holds all a run needs to continue bit for bit."""

import hashlib
import shutil
from pathlib import Path

import torch
import torch.distributed as dist

from facelib import distributed
from facelib.errors import BadData, UserError
from facelib.paths import atomic_file


def save_checkpoint(trainer, name: str) -> None:
    """Write `checkpoints/<name>`: learner, optimiser, scaler, step, and every rank's RNG states."""
    rng = {"cpu": torch.get_rng_state()}
    if trainer.accelerator.device.type == "cuda":
        rng["cuda"] = torch.cuda.get_rng_state()
    states = [rng]
    if distributed.world_size() > 1:
        states = [None] * distributed.world_size()
        dist.all_gather_object(states, rng)
    if trainer.accelerator.is_main_process:
        learner = trainer.plain_learner.state_dict()
        scaler = trainer.accelerator.scaler
        content = {
            "learner": learner,
            "optimizer": trainer.optimizer.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else None,
            "step": trainer.step,
            "best": trainer.best,
            "rng": states,
            "digest": _digest(learner),
            "config": trainer.cfg.to_dict(),
        }
        path = trainer.run.path / "checkpoints" / name
        try:
            with atomic_file(path) as temporary:
                torch.save(content, temporary)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            free = shutil.disk_usage(path.parent).free / 2**20
            raise UserError(
                f"cannot write {path} ({free:.0f} MB of disk are free): {str(error)[:80]}; "
                "free space and run again, the checkpoint before this one is untouched"
            ) from error
    trainer.accelerator.wait_for_everyone()


def load_checkpoint(path: Path) -> dict:
    """Read a checkpoint (tensors and plain values only)."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise BadData(f"{path}: no such checkpoint; list runs: python -m facelib runs") from None
    except Exception as error:
        raise BadData(
            f"{path}: cannot be read as a checkpoint ({type(error).__name__}); "
            "move it away and run again"
        ) from error


def restore(state: dict, trainer) -> tuple[int, float | None]:
    """Put a checkpoint's state into a trainer; returns (step, best score so far)."""
    trainer.plain_learner.load_state_dict(state["learner"])
    trainer.optimizer.load_state_dict(state["optimizer"])
    if state["scaler"] is not None and trainer.accelerator.scaler is not None:
        trainer.accelerator.scaler.load_state_dict(state["scaler"])
    if distributed.rank() < len(state["rng"]):
        rng = state["rng"][distributed.rank()]
        torch.set_rng_state(rng["cpu"])
        if "cuda" in rng and trainer.accelerator.device.type == "cuda":
            torch.cuda.set_rng_state(rng["cuda"])
    return state["step"], state["best"]


def _digest(tensors: dict[str, torch.Tensor]) -> str:
    """Sixteen hex digits over names and values: the key of cached embeddings."""
    found = hashlib.sha256()
    for name, tensor in tensors.items():
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]
