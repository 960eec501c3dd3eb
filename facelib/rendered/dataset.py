"""The one door of this room: data sets of rendered faces and of shapes, made on first use."""

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd

from facelib.locks import cores
from facelib.paths import data_root, make_folder
from facelib.rendered import shapes
from facelib.rendered.shapes import ShapesSpec, shapes_dataset
from facelib.rendered.spec import AGAIN, ITSELF, STRANGER, RenderedSpec

__all__ = [
    "AGAIN",
    "ITSELF",
    "STRANGER",
    "RenderedSpec",
    "ShapesSpec",
    "draw_faces",
    "draw_shapes",
    "draw_twins",
    "person_traits",
    "rendered_dataset",
    "shapes_dataset",
]
draw_shapes = shapes.contact_sheet


def rendered_dataset(spec: RenderedSpec, root: Path | None = None, workers: int = 0) -> Path:
    """Folder of the rendered data set of `spec`, made on first use.

    Args:
        root: where data sets live, default `data_root()`.
        workers: drawing processes, 0: one per core.

    Raises:
        UserError: the 3-D assets are not installed.
    """
    root = Path(root or data_root())
    workers = workers or cores()

    def build(folder: Path) -> None:
        planted, synthetic, _ = _renderer()
        if spec.planted:
            base = rendered_dataset(replace(spec, planted=0), root, workers)
            planted.build_planted(spec, folder, base, root, workers)
        else:
            synthetic.build_rendered(spec, folder, root, workers)

    return make_folder(root / f"rendered-{spec.digest()}", build)


def draw_faces(spec: RenderedSpec, **options) -> np.ndarray:
    """Picture of the first training people, see `synthetic.contact_sheet`."""
    return _renderer()[1].contact_sheet(spec, **options)


def person_traits(spec: RenderedSpec, root: Path | None = None) -> pd.DataFrame:
    """Traits of the benchmarks' people by their identity, see `traits.person_traits`."""
    return _renderer()[2].person_traits(spec, root)


def draw_twins(spec: RenderedSpec, **options) -> tuple[list[bytes], pd.DataFrame]:
    """Heads with one trait changed, see `traits.draw_twins`."""
    return _renderer()[2].draw_twins(spec, **options)


def _renderer() -> tuple[ModuleType, ...]:
    """The modules that draw. Importing them loads numba's kernels: only drawing waits for that."""
    from facelib.rendered import planted, synthetic, traits

    return planted, synthetic, traits
