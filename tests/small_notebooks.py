"""Small notebooks for tests of the machinery: a title, a cell of parameters, then given code."""

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

PARAMETERS = 'count: int = 3  # how many\nname: str = "a"  # a word\nrate: float = 0.1  # a number'


def write_small(path: Path, *cells: str, parameters: str = PARAMETERS, **metadata) -> Path:
    """Write a notebook. Cells that begin with `#` and a space are Markdown, the others code."""
    tagged = new_code_cell(parameters, metadata={"tags": ["parameters"]})
    made = [new_markdown_cell(f"# {path.stem[:2]} A title\n\nA first sentence. A second."), tagged]
    made += [new_markdown_cell(c) if c.startswith("# ") else new_code_cell(c) for c in cells]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=made, metadata={"facelib": metadata}), path)
    return path
