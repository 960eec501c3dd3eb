"""Embeddings of the loose crops of IJB-B and IJB-C, whose lists `facelib.prepare.ijb` reads."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from facelib.data.feed import to_input
from facelib.distributed import best_device
from facelib.errors import BadData, UserError
from facelib.formats.decode import decode, map_in_threads, resize
from facelib.metrics.templates import TemplateProtocol
from facelib.paths import atomic_file
from facelib.prepare.align import align
from facelib.runs.folder import load_run
from facelib.training.trained import load_model

log = logging.getLogger(__name__)


def embed_faces(
    protocol: TemplateProtocol,
    images: Path,
    embed: Callable[[np.ndarray], np.ndarray],
    size: int,
    batch: int = 256,
    border: str = "black",
) -> np.ndarray:
    """Align and embed the images of a protocol: float32 (N, d).

    Args:
        images: folder of the loose crops. embed: uint8 RGB (B, size, size, 3) -> (B, d).
        size: network input in pixels. border: of `align`, as in training.

    Raises:
        UserError: the protocol has no landmarks. BadData: an image that is missing or damaged.
    """
    if protocol.landmarks is None:
        raise UserError("no ijbX_name_5pts_score.txt in the folder: its landmarks align the images")

    def face(i: int) -> np.ndarray:
        path = Path(images) / protocol.names[i]
        if not path.is_file():
            raise BadData(f"{path}: no such image of the template list")
        try:
            face = align(decode(path.read_bytes()), protocol.landmarks[i], border=border)
            return resize(face, size)
        except UserError as error:
            raise BadData(f"{path}: {error}") from None

    parts = []
    total = len(protocol.names)
    for number, faces in enumerate(map_in_threads(face, range(total), batch)):
        parts.append(embed(np.stack(faces)).astype(np.float32))
        if number % 40 == 0:
            log.info("embedded %d of %d images", number * batch + len(faces), total)
    return np.concatenate(parts)


def run_embedder(run_dir: Path | str) -> tuple[Callable[[np.ndarray], np.ndarray], int, str]:
    """(embed, size, border) of a run for `embed_faces`; embed: f(x) + f(flip x), any length."""
    device = best_device()
    run = load_run(run_dir)
    model = load_model(run)[0].to(device)

    @torch.inference_mode()
    def embed(pixels: np.ndarray) -> np.ndarray:
        x = to_input(torch.from_numpy(pixels).permute(0, 3, 1, 2), device)
        return (model(x) + model(x.flip(3))).float().cpu().numpy()

    border = "replicate" if run.config.fill_border == "replicate" else "black"
    return embed, run.config.image_size, border


def save_array(path: Path, emb: np.ndarray) -> None:
    """Write an `.npy` that appears only when complete."""
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
        np.save(file, emb)
