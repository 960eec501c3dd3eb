"""Training of IResNet-50 at 112 pixels on one GPU, and InfoNCE of a large batch; prints JSON.

    python tests/bench/bench_gpu.py [--batch 256] [--steps 60] [--workers 8] [--large 32768]

ArcFace over 100 people, in fp16 and bf16, eager and compiled; images per second:

    loop         facelib's run, JPEGs decoded by `workers` processes: medians of its metrics lines
    bare         forward, backward and fused step of the same learner on tensors that are there
    insightface  arcface_torch's step restated (train_v2.py): fp16 backbone, fp32 logits of all
                 centres, gradient scaler, norm clipped at 5, SGD; eager, on the same tensors

`peak_share` is the bare step's arithmetic (three forward passes) against products of 8,192-square
matrices in the same type, measured here. `infonce` is forward and backward of 512 numbers an
image: milliseconds and MB beyond the embeddings, by blocks and as a matrix. Without CUDA it says
so in `skipped`.
"""

import argparse
import contextlib
import json
import math
import os
import statistics
import tempfile
import time
from pathlib import Path

import repo  # noqa: F401
import torch
import torch.nn.functional as F
from bench_training_loop import PEOPLE, write_faces
from torch.utils.flop_counter import FlopCounterMode

from facelib.config import Config, make_config
from facelib.losses.infonce import InfoNCE
from facelib.runs.launch import launch
from facelib.training.learner import build_learner, compile_backbone
from facelib.training.schedule import build_optimizer

CARD = torch.device("cuda")
WARM_UP, SIDE = 20, 8192
HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}


def seconds_of(call, times: int) -> float:
    """Seconds of one call, on a card that is warm."""
    for _ in range(WARM_UP):
        call()
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(times):
        call()
    torch.cuda.synchronize()
    return (time.perf_counter() - begin) / times


def tensors(cfg: Config) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels that stay on the card."""
    images = torch.randn(cfg.global_batch, 3, cfg.image_size, cfg.image_size, device=CARD)
    labels = torch.randint(PEOPLE, (cfg.global_batch,), device=CARD)
    return images.contiguous(memory_format=torch.channels_last), labels


def bare(cfg: Config, steps: int) -> float:
    """Images per second of the learner's own step."""
    learner = build_learner(cfg, PEOPLE).to(CARD).train()
    compile_backbone(cfg, learner, CARD)
    optimizer = build_optimizer(cfg, list(learner.parameters()))
    scaler = torch.amp.GradScaler("cuda", enabled=cfg.precision == "fp16")
    images, labels = tensors(cfg)

    def step() -> None:
        with torch.autocast("cuda", HALF[cfg.precision]):
            loss, _ = learner(images, labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()

    return cfg.global_batch / seconds_of(step, steps)


def insightface(cfg: Config, steps: int) -> float:
    """Images per second of arcface_torch's step, restated."""
    network = build_learner(cfg, PEOPLE).backbone.to(CARD, memory_format=torch.contiguous_format)
    centres = torch.nn.Parameter(0.01 * torch.randn(PEOPLE, cfg.dim, device=CARD))
    weights = [*network.train().parameters(), centres]
    optimizer = torch.optim.SGD(weights, lr=0.02, momentum=0.9, weight_decay=5e-4)
    scaler = torch.amp.GradScaler("cuda", growth_interval=100)
    images, labels = tensors(cfg)
    images, rows = images.contiguous(), torch.arange(cfg.global_batch, device=CARD)

    def step() -> None:
        with torch.autocast("cuda", torch.float16):
            z = network(images)
        cosine = F.linear(F.normalize(z.float()), F.normalize(centres)).clamp(-1, 1)
        own = cosine[rows, labels]
        margin = own * math.cos(0.5) - (1 - own * own).clamp_min(0).sqrt() * math.sin(0.5)
        logits = cosine.index_put((rows, labels), margin) * 64
        scaler.scale(F.cross_entropy(logits, labels)).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()

    return cfg.global_batch / seconds_of(step, steps)


def loop(cfg: Config) -> float:
    """Images per second of a whole run, from its metrics lines after the warm-up."""
    lines = launch(cfg).metrics().dropna(subset=["images_per_s"])
    return float(lines[lines["step"] > WARM_UP]["images_per_s"].median())


def forward_flops(cfg: Config) -> int:
    """Arithmetic of one image's forward pass."""
    network = build_learner(cfg, PEOPLE).backbone.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, cfg.image_size, cfg.image_size))
    return counter.get_total_flops()


def product_rate(dtype: torch.dtype) -> float:
    """FLOP/s of large matrix products."""
    a, b = (torch.randn(SIDE, SIDE, device=CARD, dtype=dtype) for _ in range(2))
    return 2 * SIDE**3 / seconds_of(lambda: a @ b, 20)


def measure_infonce(batch: int) -> dict:
    """Milliseconds and memory by blocks and as a matrix."""
    found, labels = {}, torch.arange(batch, device=CARD) // 2
    for name, block in (("blocks", 4096), ("matrix", 0)):
        z = torch.randn(batch, 512, device=CARD, requires_grad=True)
        loss = InfoNCE(0.07, block=block)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        with contextlib.suppress(torch.OutOfMemoryError):
            spent = statistics.median(
                seconds_of(lambda z=z, loss=loss: loss(z, labels)[0].backward(), 3)
                for _ in range(5)
            )
            extra = (torch.cuda.max_memory_allocated() - before) / 2**20
            found[name] = {"ms": round(1000 * spent, 1), "extra_mb": round(extra)}
    return found


def measure(options: argparse.Namespace, folder: str) -> dict:
    """Everything, on a card."""
    os.environ["FACELIB_RUNS"] = folder
    write_faces(Path(folder) / "faces", 112)
    result = {"card": torch.cuda.get_device_name(CARD), **vars(options)}
    for precision, compiled in ((p, c) for p in HALF for c in ("never", "cuda")):
        cfg = make_config(
            data=f"{folder}/faces", benchmarks="", val_fraction=0.0, backbone="iresnet50", width=64,
            image_size=112, dim=512, global_batch=options.batch, workers=options.workers,
            images_seen=(WARM_UP + options.steps) * options.batch, precision=precision,
            compile=compiled, save_every=10**6,
        )  # fmt: skip
        fast = bare(cfg, options.steps)
        share = 3 * forward_flops(cfg) * fast / product_rate(HALF[precision])
        found = {"loop": round(loop(cfg)), "bare": round(fast), "peak_share": round(share, 3)}
        if (precision, compiled) == ("fp16", "never"):
            found["insightface"] = round(insightface(cfg, options.steps))
        result[f"{precision}, {'eager' if compiled == 'never' else 'compiled'}"] = found
    return result | {"infonce": measure_infonce(options.large)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--large", type=int, default=32_768)
    options = parser.parse_args()
    if torch.cuda.is_available():
        with tempfile.TemporaryDirectory() as folder:
            result = measure(options, folder)
    else:
        result = {"skipped": "no CUDA device on this machine"}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
