"""IJB-B and IJB-C from their official files: lists in, embeddings of the loose crops out.

Columns of the text files are separated by blanks, as InsightFace hands them out (`ijbb_` too):

| file | a line | lines in IJB-C |
|---|---|---|
| `ijbc_face_tid_mid.txt` | image, template id, media id | 469,375 |
| `ijbc_template_pair_label.txt` | template id, template id, 1 same person or 0 | 15,658,489 |
| `ijbc_name_5pts_score.txt` | image, x1 y1 … x5 y5, detector score | 469,375 |

What is computed from them stands in `facelib.metrics.templates`.
"""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from facelib.data.feed import to_input
from facelib.distributed import best_device
from facelib.errors import BadData, UserError
from facelib.formats.decode import decode, map_in_threads, resize
from facelib.metrics.templates import TemplateProtocol
from facelib.paths import atomic_file
from facelib.prepare.align import LANDMARK_COLUMNS, align
from facelib.runs.folder import load_run
from facelib.safety.readers import encoding_of, reading
from facelib.training.trained import load_model

log = logging.getLogger(__name__)

SETS = ("ijbb", "ijbc")


def read_protocol(folder: Path, name: str | None = None) -> TemplateProtocol:
    """Read the official files of a folder.

    Args:
        folder: holds them. name: "ijbb" or "ijbc", needed where both are there.

    Raises:
        UserError: no set there, or two. BadData: a file that is missing, or whose lines are wrong.
    """
    folder = Path(folder)
    found = [n for n in SETS if (folder / f"{n}_face_tid_mid.txt").is_file()]
    if name is None and len(found) != 1:
        what = "both IJB-B and IJB-C are there: add --name ijbb or --name ijbc" if found else (
            "no ijbb_face_tid_mid.txt or ijbc_face_tid_mid.txt; give the official meta folder"
        )  # fmt: skip
        raise UserError(f"{folder}: {what}")
    name = name or found[0]
    if name not in SETS:
        raise UserError(f"name={name!r}: allowed are {', '.join(SETS)}")
    path = folder / f"{name}_face_tid_mid.txt"
    images = _read_columns(path, ["name", "template", "media"], "image, template id, media id")
    ids, template, media = np.unique(images["template"]), images["template"], images["media"]
    path = folder / f"{name}_template_pair_label.txt"
    pairs = _read_columns(path, ["t1", "t2", "label"], "template id, template id, label")
    if set(pairs["label"]) != {0, 1}:
        raise BadData(f"{path}: labels {sorted(set(pairs['label']))[:4]}, wanted 0 and 1")
    index = [_rows_of(ids, pairs[side].to_numpy(), path) for side in ("t1", "t2")]
    names = images["name"].to_list()
    points = _read_points(folder / f"{name}_name_5pts_score.txt", names)
    same = pairs["label"].to_numpy() == 1
    return TemplateProtocol(
        names, template.to_numpy(np.int64), media.to_numpy(np.int64), ids, *index, same, *points
    )


def _read_columns(path: Path, columns: list[str], meaning: str) -> pd.DataFrame:
    """A file of blank-separated columns: `name` is text, `x…` and `score` floats, others int32."""
    if not path.is_file():
        raise BadData(f"{path}: no such file; wanted lines of {meaning}")
    kinds = {c: str if c == "name" else np.float64 if c[0] in "xys" else np.int32 for c in columns}
    wanted = f"lines of {meaning}"
    with reading(path, wanted), warnings.catch_warnings():
        # Of columns beyond the last, which pandas cuts off.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        with open(path, "rb") as file:
            encoding = encoding_of(file.read(2))
        frame = pd.read_csv(
            path, sep=" ", encoding=encoding, names=columns, dtype=kinds, index_col=False,
            keep_default_na=False, skipinitialspace=True,
        )  # fmt: skip
    if not len(frame):
        raise BadData(f"{path}: empty; wanted lines of {meaning}")
    return frame


def _read_points(path: Path, names: list[str]) -> tuple[np.ndarray | None, np.ndarray | None]:
    if not path.is_file():
        return None, None
    frame = _read_columns(
        path, ["name", *LANDMARK_COLUMNS, "score"], "image, x1 y1 … x5 y5, detector score"
    )
    theirs = frame["name"].to_list()
    wrong = [i for i, (a, b) in enumerate(zip(names, theirs)) if Path(a).name != Path(b).name]
    if len(theirs) != len(names) or wrong:
        where = f"line {wrong[0] + 1} is {theirs[wrong[0]]}" if wrong else f"{len(theirs)} lines"
        raise BadData(f"{path}: {where}, wanted the {len(names)} images of the template list")
    points, score = frame[LANDMARK_COLUMNS].to_numpy(), frame["score"].to_numpy()
    odd = np.flatnonzero(~(np.isfinite(points).all(axis=1) & np.isfinite(score) & (score > 0)))
    if len(odd):
        raise BadData(f"{path}: line {odd[0] + 1}: wanted finite landmarks and a score above 0")
    return points.reshape(-1, 5, 2), score


def _rows_of(ids: np.ndarray, wanted: np.ndarray, path: Path) -> np.ndarray:
    """Rows of the sorted `ids` (T,) for template ids (P,)."""
    rows = np.searchsorted(ids, wanted).clip(max=len(ids) - 1)
    unknown = np.flatnonzero(ids[rows] != wanted)
    if len(unknown):
        raise BadData(
            f"{path}: line {unknown[0] + 1} names template {wanted[unknown[0]]}, which no image has"
        )
    return rows


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
        except BadData as error:
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
