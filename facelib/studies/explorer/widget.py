"""The explorer in JupyterLab: `Explorer(runs)` or `explore(results)` as the last line of a cell."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import anywidget
import traitlets
from IPython.display import FileLink, Markdown, display

from facelib.runs.folder import Run
from facelib.runs.progress import watched
from facelib.studies.explorer.gather import gather
from facelib.studies.explorer.page import HERE, module, write_page
from facelib.studies.results import Result

PAGE = "explorer.html"


class Explorer(anywidget.AnyWidget):
    """Scores, thresholds and pairs of evaluated runs; arguments and errors as in `gather`.

    Args:
        found: what `gather` found, where that is known.
    """

    _esm = module()
    _css = HERE / "explorer.css"
    data = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        runs: Sequence[Run | Result | Path | str] = (),
        benchmark: str | Sequence[str] | None = None,
        found: dict | None = None,
    ) -> None:
        super().__init__(data=json.dumps(found or gather(runs, benchmark)))


def explore(results: Sequence[Result]) -> Explorer | Markdown:
    """The end of a chapter: write the explorer into the last run's folder, and show it to a person.

    A notebook that a program executes gets one line of text, the same on every machine.
    """
    found, folder = gather(results), results[-1].folder
    path = write_page(found, folder / PAGE)
    if not watched():
        return Markdown(f"The page `{folder.name}/{PAGE}` in the folder of runs shows the scores, "
                        "thresholds and pairs of these runs.")  # fmt: skip
    display(FileLink(os.path.relpath(path), result_html_prefix="The same as a page: "))
    return Explorer(found=found)
