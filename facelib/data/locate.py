"""From the names in a `Config` to folders and files."""

from pathlib import Path
from shlex import quote

import numpy as np

from facelib.config import EMBEDDED, Config
from facelib.data.split import draw_subset, subset_of
from facelib.errors import UserError
from facelib.formats.record_index import find_rec
from facelib.formats.trees import is_tree
from facelib.paths import data_root
from facelib.rendered.dataset import (
    RenderedSpec,
    ShapesSpec,
    draw_faces,
    rendered_dataset,
    shapes_dataset,
)


def rendered_spec(cfg: Config) -> RenderedSpec:
    """The specification of the rendered faces that a config asks for."""
    return RenderedSpec(
        identities=cfg.data_identities,
        images=cfg.data_images,
        test_identities=cfg.test_identities,
        size=cfg.data_size,
        spread=cfg.data_spread,
        nuisance=cfg.data_nuisance,
        seed=cfg.data_seed,
        planted=cfg.data_planted,
    )


def picture_faces(cfg: Config, **options) -> np.ndarray:
    """Picture (H, W, 3) uint8 of the first training people of a config's rendered set."""
    return draw_faces(rendered_spec(cfg), **options)


def shapes_spec(cfg: Config) -> ShapesSpec:
    """The specification of the pictures without faces that a config asks for."""
    return ShapesSpec(cfg.data_identities, cfg.data_images, cfg.data_size, cfg.data_seed)


def train_folder(cfg: Config) -> Path:
    """Folder with train.rec and train.idx, or with one folder per person, or another `.rec` file;
    what is drawn here is made on first use."""
    if cfg.data == "shapes":
        return shapes_dataset(shapes_spec(cfg))
    if cfg.data == "rendered":
        return rendered_dataset(rendered_spec(cfg))
    folder = _resolve(cfg.data)
    if not any(folder.glob("*.rec")) and not is_tree(folder) and not find_rec(folder).is_file():
        raise UserError(
            f"data={cfg.data!r}: no train.rec in {folder}, and no pictures in folders of people; "
            "give a folder with either, or make one with: python -m facelib prepare folder IMAGES "
            f"--out {quote(str(folder))}"
        )
    return folder


def drawn_labels(cfg: Config) -> np.ndarray | None:
    """Labels (N,) of an embedded set, drawn or not; None where files decide them."""
    if cfg.data not in EMBEDDED or cfg.exclude or cfg.data_planted:
        return None
    labels = np.repeat(np.arange(cfg.data_identities), cfg.data_images)
    subset = subset_of(cfg)
    if subset:
        labels = np.unique(labels[draw_subset(labels, *subset)], return_inverse=True)[1]
    return labels


def training_files(cfg: Config) -> list[Path]:
    """The files that decide what a config trains on."""
    folder, exclude = train_folder(cfg), exclusion_file(cfg)
    if is_tree(folder):
        return [folder, exclude] if exclude else [folder]
    rec = find_rec(folder)
    found = [rec, rec.with_suffix(".idx"), rec.with_name("names.txt")]
    found = [path for path in found[: 3 if exclude else 2] if path.is_file()]
    return [*found, exclude] if exclude else found


def benchmark_paths(cfg: Config) -> list[Path]:
    """The `.bin` files of `cfg.benchmarks`: beside train.rec, in the data root, or full paths."""
    folder = train_folder(cfg)
    folder = folder if folder.is_dir() else folder.parent
    return [
        benchmark_path(name.strip(), folder) for name in cfg.benchmarks.split(",") if name.strip()
    ]


def benchmark_path(name: str, folder: Path) -> Path:
    """A `.bin` file by name or path: in `folder`, or in the data root."""
    file = name if name.endswith(".bin") else f"{name}.bin"
    candidates = [folder / file, _resolve(file)]
    for path in candidates:
        if path.is_file():
            return path
    hint = "make it with: python -m facelib prepare --help"
    if name.startswith(("agedb", "calfw", "cplfw")) and "/" not in name:
        hint = f"it lies in InsightFace's training folders: copy it there, or {hint}"
    raise UserError(
        f"benchmark {name!r}: not at {' or '.join(str(p) for p in dict.fromkeys(candidates))}; "
        f"{hint}"
    )


def exclusion_file(cfg: Config) -> Path | None:
    """File of the identities that a config leaves out: beside the data sets, or a full path."""
    return _resolve(cfg.exclude) if cfg.exclude else None


def _resolve(name: str) -> Path:
    path = Path(name).expanduser()
    return path if path.is_absolute() else data_root() / path
