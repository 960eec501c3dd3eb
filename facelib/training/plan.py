"""What a training run will do, before it starts: steps, negatives, time, memory, disk."""

import os
import time
from pathlib import Path

import numpy as np
import torch

from facelib.config import Config
from facelib.data.datasets import open_records
from facelib.data.feed import DECODED_LIMIT, memory_format
from facelib.data.locate import drawn_labels
from facelib.data.sampler import build_sampler
from facelib.data.split import checked_split
from facelib.distributed import best_device
from facelib.limits import bank_negatives, negative_centres, negatives_per_anchor
from facelib.locks import bf16_units
from facelib.models.lora import count_parameters
from facelib.paths import runs_root
from facelib.rows import LOSS_ROWS
from facelib.training.checkpoint import trained_state
from facelib.training.gradcache import embed_in_chunks
from facelib.training.learner import build_learner
from facelib.training.schedule import total_steps

PROBE_STEPS = 3
PROBE_IMAGES = 64
HEAVY = 10_000_000  # parameters above which a CPU probes with 8 images


def plan(cfg: Config) -> dict:
    """Estimates for a config on this machine; the speed is measured on a few steps.

    Counts come from the data; rendered faces are not drawn for it, their settings say how many.

    Returns:
        JSON-able dict with images, identities, steps, negatives, chunk, parameters, images_per_s,
        minutes, memory_mb and memory (of one process, see `memory_parts`), disk_mb. `images_per_s`
        is of one process of this machine, times `processes`: on other hardware, run the plan there.
    """
    labels = drawn_labels(cfg)
    labels = open_records(cfg).labels if labels is None else labels
    train, val = checked_split(cfg, labels)
    entry = LOSS_ROWS[cfg.loss]
    classes = len(np.unique(labels[train]))
    sampler = build_sampler(cfg, entry.layout, labels[train], cfg.global_batch)
    steps = total_steps(cfg, sampler.steps_per_epoch)
    learner = build_learner(cfg, classes)
    trained, parameters = count_parameters(learner)
    saved = sum(tensor.numel() for tensor in trained_state(learner).values())
    saved += trained * (1 if cfg.optimizer == "sgd" else 2)  # the optimiser's moments
    parts = memory_parts(cfg, learner, classes)
    speed = _measure(cfg, learner, classes) * cfg.processes
    return {
        "run": cfg.run_name,
        "images": len(train),
        "validation_images": len(val),
        "identities": classes,
        "steps": steps,
        "images_seen": steps * cfg.global_batch,
        "epochs": round(steps * cfg.global_batch / len(train), 2),
        "negatives_per_anchor": None if entry.layout == "plain" else negatives_per_anchor(cfg),
        "chunk": cfg.chunk or None,
        "trained_images_per_step": cfg.anchors * cfg.processes * cfg.accumulate or None,
        "bank_negatives": bank_negatives(cfg, classes) or None,
        "negative_centres": negative_centres(cfg, classes) if entry.head else None,
        "parameters": parameters,
        "trained_parameters": trained if cfg.lora_rank else None,
        "images_per_s": round(speed, 1),
        "minutes": float(f"{steps * cfg.global_batch / speed / 60:.3g}"),
        "memory_mb": round(sum(parts.values())),
        "memory": ", ".join(f"{name} {round(mb)}" for name, mb in parts.items() if round(mb)),
        "disk_mb": round(saved * 4 * (1 if cfg.select == "last" else 2) / 2**20, 1),
        "decoded_in_memory": not cfg.workers
        and len(labels) * cfg.image_size**2 * 3 <= DECODED_LIMIT,
    }


def memory_parts(cfg: Config, learner: torch.nn.Module, classes: int) -> dict[str, float]:
    """Memory of one process in MB, by what holds it: an estimate, without libraries and data.

    weights: parameters, state, gradients and the optimiser's moments; activations: what the
    backbone keeps for backward, of the images that are embedded together (counted on a few);
    logits: the criterion's matrices with their gradients.
    """
    centres = sum(p.numel() for p in learner.criterion.parameters())
    spare = centres * (1 - 1 / cfg.processes) if cfg.sharded else 0  # on the other processes
    trained, _ = count_parameters(learner)
    copies = 1 + (1 if cfg.optimizer == "sgd" else 2)  # gradient, moments
    held = sum(t.numel() for t in learner.state_dict().values()) + trained * copies
    own = cfg.global_batch // (cfg.processes * cfg.accumulate)
    half = 0.5 if cfg.precision != "fp32" else 1.0
    return {
        "weights": 4 * (held - spare * (1 + copies)) / 2**20,
        "activations": half * _activations(cfg, learner) * (cfg.chunk or own) / 2**20,
        "logits": 4 * _logits(cfg, own, classes) / 2**20,
    }


def _activations(cfg: Config, learner: torch.nn.Module) -> float:
    """Bytes that the backbone keeps for the backward pass of an image, in fp32."""
    kept: dict[int, int] = {}
    own = {p.untyped_storage().data_ptr() for p in learner.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    images = torch.zeros(2, 3, cfg.image_size, cfg.image_size)
    images = images.contiguous(memory_format=memory_format(cfg))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        z = learner.embed(images)
    del z
    return sum(kept.values()) / len(images)


def _logits(cfg: Config, own: int, classes: int) -> float:
    """Numbers in the criterion's matrices: cosines, logits, softmax and their gradient."""
    entry = LOSS_ROWS[cfg.loss]
    joint = own * (cfg.processes if cfg.gather else 1)
    found = 0.0
    if entry.head:
        centres = 1 + negative_centres(cfg, classes)
        rows = own * cfg.processes if cfg.sharded else own
        found += _matrix(cfg.centre_block, rows * entry.views,
                         centres / (cfg.processes if cfg.sharded else 1))  # fmt: skip
    if "loss_block" in entry.taken or entry.layout == "groups":
        found += _matrix(cfg.loss_block, own, joint + bank_negatives(cfg, classes))
    return found


def _matrix(block: int, rows: float, columns: float) -> float:
    """Numbers that a matrix takes with its copies: four whole, or two of a block."""
    return 2 * min(block, rows) * min(block, columns) if block else 4 * rows * columns


def _measure(cfg: Config, learner: torch.nn.Module, classes: int) -> float:
    """Images per second of forward + backward of one process, on random images.

    A batch in chunks is embedded twice (facelib.training.gradcache), and so is the probe; with
    `anchors` only their share of it.
    """
    device = best_device()
    own = cfg.global_batch // (cfg.processes * cfg.accumulate)
    heavy = device.type == "cpu" and sum(p.numel() for p in learner.parameters()) > HEAVY
    batch = max(4, min(own, 8 if heavy else PROBE_IMAGES) // 2 * 2)
    learner = learner.to(device).train()
    images = torch.randn(batch, 3, cfg.image_size, cfg.image_size, device=device)
    images = images.contiguous(memory_format=memory_format(cfg))
    labels = torch.arange(batch // 2, device=device).repeat_interleave(2) % classes
    kept = max(2, batch * cfg.anchors // own // 2 * 2) if cfg.anchors else batch
    kinds = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}
    able = device.type == "cuda" or (cfg.precision == "bf16" and bf16_units())
    dtype = kinds[cfg.precision] if able else None
    for step in range(PROBE_STEPS + 1):
        if step == 1:  # the first one warms up
            begin = time.perf_counter()
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            if cfg.chunk:
                _, features, _ = embed_in_chunks(learner, images, cfg.chunk)
                loss, _ = learner.loss(learner.embed(images[:kept]), labels[:kept], features)
            else:
                loss, _ = learner(images, labels)
        loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
    return PROBE_STEPS * batch / (time.perf_counter() - begin)


def describe_plan(found: dict) -> str:
    """The plan as lines for a person."""
    lines = [f"{key.replace('_', ' '):>22}: {value}" for key, value in found.items()
             if value is not None]  # fmt: skip
    lines.append(f"{'free disk':>22}: {_free_gb(runs_root()):.0f} GB")
    return "\n".join(lines)


def _free_gb(path: Path) -> float:
    while not path.exists():
        path = path.parent
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize / 2**30
