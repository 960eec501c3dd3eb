"""The explorer in JupyterLab: `Explorer(runs)` as the last line of a cell."""

import json
from collections.abc import Sequence
from pathlib import Path

import anywidget
import traitlets

from facelib.runs.folder import Run
from facelib.studies.explorer.gather import gather
from facelib.studies.results import Result

HERE = Path(__file__).parent


class Explorer(anywidget.AnyWidget):
    """Scores, thresholds and pairs of evaluated runs; arguments and errors as in `gather`."""

    _esm = HERE / "explorer.js"
    _css = HERE / "explorer.css"
    data = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        runs: Sequence[Run | Result | Path | str],
        benchmark: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(data=json.dumps(gather(runs, benchmark)))
