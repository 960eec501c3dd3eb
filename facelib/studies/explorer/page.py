"""The explorer as one HTML file: no network, no server, and no name of the data can run."""

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from facelib.paths import atomic_file
from facelib.runs.folder import Run
from facelib.studies.explorer.gather import gather
from facelib.studies.results import Result

HERE = Path(__file__).parent
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Scores and pairs</title><style>{css}</style></head>
<body><main id="explorer">{home}<h1>Scores and pairs</h1></main>
<script type="application/json" id="data">{data}</script>
<script type="module">{script}</script></body></html>
"""
START = """
const data = document.getElementById("data").textContent;
render({ model: { get: () => data }, el: document.getElementById("explorer") });
"""


def write_explorer(
    runs: Sequence[Run | Result | Path | str],
    path: Path | str,
    benchmark: str | Sequence[str] | None = None,
) -> Path:
    """Write the explorer of evaluated runs as one file; arguments and errors as in `gather`."""
    return write_page(gather(runs, benchmark), path)


def write_page(data: dict, path: Path | str, home: str = "") -> Path:
    """Write the page that shows what `gather` found; `home`: HTML that leads back, on top."""
    path = Path(path)
    with atomic_file(path) as temporary:
        temporary.write_text(page_of(data, home), encoding="utf-8")
    return path


def module() -> str:
    """The explorer as one ES module."""
    return "".join(
        (HERE / name).read_text(encoding="utf-8") for name in ("parts.js", "explorer.js")
    )


def page_of(data: dict, home: str = "") -> str:
    """The text of that page."""
    css = (HERE / "explorer.css").read_text(encoding="utf-8")
    script = module() + START
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(css)}; script-src {_hash(script)}"
    )
    # Without "<" no name can end the element that holds the data.
    text = json.dumps(data).replace("<", "\\u003c")
    return PAGE.format(policy=policy, home=home, css=css, script=script, data=text)


def _hash(source: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"
