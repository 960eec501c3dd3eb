"""One batch that does not fit in memory: embed, take the loss, and replay chunk by chunk.

GradCache (Gao et al., arXiv 2101.06983). For a loss L over the embeddings z of all images:

    1. embed the images in chunks without a graph, keeping the state of the random numbers
    2. g = ∂L/∂z and the gradient of the criterion's own weights, from all embeddings at once
    3. embed each chunk again, with its random numbers, and send (z·g).sum() back

Memory holds the activations of one chunk, whatever the batch, for one more forward pass. Every
image still meets the whole batch (with `gather`, that of all processes). Under DDP gradients are
reduced in the last replay only, and the criterion sees each batch once.

Exact where the embedding of an image does not depend on its neighbours: dropout is replayed, but
BatchNorm in training mode normalises by the chunk, so that a step is that of chunks (as it is that
of processes under DDP), and its running statistics move once a chunk, in the replay. With
`freeze_batchnorm` a step in chunks is the step of the whole batch.

With `anchors` only the first images are trained on. The rest of the batch costs a forward pass
and no memory: negatives of the current network, as many as one likes.
"""

import contextlib
import logging
from collections.abc import Iterator

import torch
from accelerate import Accelerator
from torch import nn

from facelib.training.learner import Learner, at_least_fp32, trained_weights

log = logging.getLogger(__name__)


def backward_in_chunks(
    accelerator: Accelerator,
    learner: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    chunk: int,
    weight: float = 1.0,
    sync: bool = True,
    anchors: int = 0,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Add the gradient of weight · L to the learner's weights; returns (L, logs).

    Args:
        learner: as prepared by the accelerator. images: (B, 3, S, S). labels: (B,).
        chunk: images embedded at a time. sync: reduce gradients over the processes.
        anchors: only so many images get a gradient from the loss, the first ones; the chunks of
            the others are not replayed. 0: all.
    """
    plain = accelerator.unwrap_model(learner)
    with accelerator.autocast():
        z, features, states = embed_in_chunks(plain, images, chunk)
    z.requires_grad_()
    loss, logs = plain.loss(z, labels, features)
    own = trained_weights(plain.criterion)
    at_z, *at_own = torch.autograd.grad(loss * weight, [z, *own], allow_unused=True)
    parts = at_z.unflatten(0, (plain.views, -1)).split(chunk, 1)  # view after view in each
    devices = [images.device] if images.device.type == "cuda" else []
    with torch.random.fork_rng(devices):  # the next step goes on from here, not from a replay
        replayed = states[: anchors // chunk or None]
        for part, gradient, state in zip(images.split(chunk), parts, replayed):
            last = state is replayed[-1]
            _set_random_state(state, images.device)
            with contextlib.nullcontext() if last and sync else accelerator.no_sync(learner):
                pull = (gradient.flatten(0, 1), at_own if last else None)
                accelerator.backward(learner(part, pull=pull))
    return loss.detach(), logs


@torch.no_grad()
def embed_in_chunks(
    learner: Learner, images: torch.Tensor, chunk: int
) -> tuple[torch.Tensor, torch.Tensor | None, list]:
    """Embeddings of all images, a chunk at a time; the backbone's running statistics stay.

    Returns:
        (z, features, states): (views·B, d) in fp32 or more; what the momentum encoder makes of
        them in training, else None; the random state before each chunk.
    """
    z, features, states = [], [], []
    for part in images.split(chunk):
        states.append(_random_state(images.device))
        with _still_statistics(learner.backbone):
            z.append(at_least_fp32(learner.embed(part)).unflatten(0, (learner.views, -1)))
        features.append(learner.features(part))
    joined = None if features[0] is None else torch.cat(features)
    return torch.cat(z, 1).flatten(0, 1), joined, states


def tell_of_batch_statistics(learner: nn.Module, chunk: int) -> None:
    """Log that BatchNorm normalises by chunks, where it does."""
    if any(module.training for module in learner.modules() if _is_batchnorm(module)):
        log.info(
            "chunk=%d: BatchNorm's statistics are those of %d images, not of the batch; "
            "freeze_batchnorm=true makes the step exact",
            chunk,
            chunk,
        )


@contextlib.contextmanager
def _still_statistics(module: nn.Module) -> Iterator[None]:
    """BatchNorm in training mode normalises as before, and its running statistics do not move."""
    found = [m for m in module.modules() if _is_batchnorm(m) and m.track_running_stats]
    for batchnorm in found:
        batchnorm.track_running_stats = False
    try:
        yield
    finally:
        for batchnorm in found:
            batchnorm.track_running_stats = True


def _is_batchnorm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm)


def _random_state(device: torch.device) -> tuple[torch.Tensor, torch.Tensor | None]:
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), cuda


def _set_random_state(state: tuple[torch.Tensor, torch.Tensor | None], device: torch.device):
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)
