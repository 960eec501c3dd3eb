"""IJB-B and IJB-C, 1:1: templates of several images, compared over the official list of pairs.

The official text files, columns separated by blanks, as InsightFace hands them out (`ijbb_` too):

| file | a line | lines in IJB-C |
|---|---|---|
| `ijbc_face_tid_mid.txt` | image, template id, media id | 469,375 |
| `ijbc_template_pair_label.txt` | template id, template id, 1 same person or 0 | 15,658,489 |
| `ijbc_name_5pts_score.txt` | image, x1 y1 … x5 y5, detector score | 469,375 |

Template: the mean of its images inside each media (a video is one), the sum over its media, unit
norm. Score: cosine. Figures: TAR at FAR 1e-6 … 1e-1 by order statistics. As InsightFace does by
default, an image's embedding is f(x) + f(flip x), not normalised, times its detector score.
"""

import logging
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from facelib.errors import BadData, UserError
from facelib.formats.decode import decode, resize
from facelib.metrics.verification import auc, far_name, tar_at_far
from facelib.paths import atomic_file
from facelib.prepare.align import LANDMARK_COLUMNS, align
from facelib.readers import reading

log = logging.getLogger(__name__)

FARS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
BLOCK = 1 << 16  # pairs that are scored at once
SETS = ("ijbb", "ijbc")
READERS = 4  # threads: decoding and warping release the GIL


@dataclass(frozen=True, eq=False)
class TemplateProtocol:
    """N images in T templates, and P pairs of templates.

    Attributes:
        names: N image files. template, media: int64 (N,), ids of each image.
        ids: int64 (T,), sorted template ids. index1, index2: (P,) rows of `ids`. same: bool (P,).
        landmarks: float (N, 5, 2) pixels, detector: float (N,) scores; None without their file.
    """

    names: list[str]
    template: np.ndarray
    media: np.ndarray
    ids: np.ndarray
    index1: np.ndarray
    index2: np.ndarray
    same: np.ndarray
    landmarks: np.ndarray | None
    detector: np.ndarray | None


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
    if not np.isin(pairs["label"].unique(), (0, 1)).all():
        raise BadData(f"{path}: labels {sorted(pairs['label'].unique())[:4]}, wanted 0 and 1")
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
        frame = pd.read_csv(
            path, sep=" ", names=columns, dtype=kinds, index_col=False, keep_default_na=False,
            skipinitialspace=True,
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
    return frame[LANDMARK_COLUMNS].to_numpy().reshape(-1, 5, 2), frame["score"].to_numpy()


def _rows_of(ids: np.ndarray, wanted: np.ndarray, path: Path) -> np.ndarray:
    """Rows of the sorted `ids` (T,) for template ids (P,)."""
    rows = np.searchsorted(ids, wanted).clip(max=len(ids) - 1)
    unknown = np.flatnonzero(ids[rows] != wanted)
    if len(unknown):
        raise BadData(
            f"{path}: line {unknown[0] + 1} names template {wanted[unknown[0]]}, which no image has"
        )
    return rows


def template_embeddings(emb: np.ndarray, template: np.ndarray, media: np.ndarray) -> np.ndarray:
    """Unit template embeddings, float32 (T, d), in the order of the sorted template ids.

    Args:
        emb: (N, d) image embeddings of any length. template, media: (N,) ids of each image.

    Raises:
        UserError: an embedding that is not finite, or a template whose media cancel out.
    """
    bad = np.flatnonzero(~np.isfinite(emb).all(axis=1))
    if len(bad):
        raise UserError(f"{len(bad)} of {len(emb)} embeddings are not finite (first: row {bad[0]})")
    order = np.lexsort((media, template))
    t, m = template[order], media[order]
    starts = np.flatnonzero(np.r_[True, (t[1:] != t[:-1]) | (m[1:] != m[:-1])])
    sums = np.add.reduceat(emb[order].astype(np.float64), starts, axis=0)
    means = sums / np.diff(np.r_[starts, len(t)])[:, None]  # one row a media of a template
    first = np.flatnonzero(np.r_[True, t[starts][1:] != t[starts][:-1]])
    pooled = np.add.reduceat(means, first, axis=0)  # (T, d)
    length = np.linalg.norm(pooled, axis=1, keepdims=True)
    if not length.all():
        raise UserError(f"template {t[starts][first][length.argmin()]} has an embedding of zeros")
    return (pooled / length).astype(np.float32)


def score_pairs(unit: np.ndarray, index1: np.ndarray, index2: np.ndarray) -> np.ndarray:
    """Cosines float32 (P,) of pairs of rows of `unit` (T, d), a block of pairs at a time."""
    score = np.empty(len(index1), np.float32)
    for start in range(0, len(score), BLOCK):
        part = slice(start, start + BLOCK)
        score[part] = np.einsum("pd,pd->p", unit[index1[part]], unit[index2[part]])
    return score


def verify_templates(
    protocol: TemplateProtocol, emb: np.ndarray, detector_score: bool = True
) -> dict:
    """All figures of a template protocol.

    Args:
        emb: (N, d) embeddings in the order of `protocol.names`.
        detector_score: weigh images by their detector score, where the protocol has it.

    Returns:
        JSON-able dict; `tar_at_far` is null where the impostors are too few.
    """
    if emb.ndim != 2 or len(emb) != len(protocol.names):
        raise UserError(
            f"embeddings of shape {emb.shape}, wanted ({len(protocol.names)}, d): one row an image "
            "of the template list, in its order"
        )
    weighed = detector_score and protocol.detector is not None
    emb = emb * protocol.detector[:, None].astype(np.float32) if weighed else emb
    unit = template_embeddings(emb, protocol.template, protocol.media)
    score, same = score_pairs(unit, protocol.index1, protocol.index2), protocol.same
    if same.all() or not same.any():
        raise UserError(f"all {len(same)} pairs are of one kind: nothing to verify")
    return {
        "images": len(emb),
        "templates": len(unit),
        "genuine": int(same.sum()),
        "impostors": int((~same).sum()),
        "detector_score": weighed,
        "tar_at_far": {far_name(k): v for k, v in tar_at_far(score, same, FARS).items()},
        "auc": auc(score, same),
    }


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
    with ThreadPoolExecutor(READERS) as pool:
        for start in range(0, len(protocol.names), batch):
            rows = range(start, min(start + batch, len(protocol.names)))
            parts.append(embed(np.stack(list(pool.map(face, rows)))).astype(np.float32))
            if start % (40 * batch) == 0:
                log.info("embedded %d of %d images", rows.stop, len(protocol.names))
    return np.concatenate(parts)


def run_embedder(run_dir: Path | str) -> tuple[Callable[[np.ndarray], np.ndarray], int, str]:
    """(embed, size, border) of a run for `embed_faces`; embed: f(x) + f(flip x), any length."""
    import torch

    from facelib.data.feed import to_input
    from facelib.runs.folder import load_run
    from facelib.training.train import load_model

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = load_run(run_dir)
    model = load_model(run.path)[0].to(device)

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
