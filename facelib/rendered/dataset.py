"""The one door of this room: data sets of rendered faces and of shapes, made on first use."""

import os
from dataclasses import replace
from pathlib import Path

from facelib.paths import data_root, make_folder
from facelib.rendered import shapes, synthetic
from facelib.rendered.planted import build_planted
from facelib.rendered.shapes import ShapesSpec, shapes_dataset
from facelib.rendered.synthetic import RenderedSpec, build_rendered

__all__ = [
    "RenderedSpec",
    "ShapesSpec",
    "draw_faces",
    "draw_shapes",
    "rendered_dataset",
    "shapes_dataset",
]
draw_faces, draw_shapes = synthetic.contact_sheet, shapes.contact_sheet


def rendered_dataset(
    spec: RenderedSpec | None = None, root: Path | None = None, workers: int | None = None
) -> Path:
    """Folder of the rendered data set of `spec`, made on first use.

    Args:
        root: where data sets live, default `data_root()`.
        workers: drawing processes, default one per core.

    Raises:
        UserError: a value out of range, or the 3-D assets are not installed.
    """
    spec, root = spec or RenderedSpec(), Path(root or data_root())
    workers = workers or len(os.sched_getaffinity(0))

    def build(folder: Path) -> None:
        if spec.planted:
            base = rendered_dataset(replace(spec, planted=0), root, workers)
            build_planted(spec, folder, base, root, workers)
        else:
            build_rendered(spec, folder, root, workers)

    return make_folder(root / f"rendered-{spec.digest()}", build)
