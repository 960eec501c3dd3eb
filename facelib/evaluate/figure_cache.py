"""Figures of a scores file, kept beside it: intervals are a second of work and many ask for them.

`NAME.figures.json` beside `NAME.npz`: {"key", "figures"}. The key covers the scores, the number of
replicates and the sources of the protocols, so that no figure outlives what it came from.
"""

import functools
import json
import logging
from dataclasses import fields
from pathlib import Path

from facelib.digests import digest
from facelib.errors import BadData
from facelib.metrics import verification
from facelib.metrics.scores import Scores
from facelib.metrics.verification import verify_scores
from facelib.runs.folder import read_json, write_json

log = logging.getLogger(__name__)

SOURCES = ("bootstrap.py", "scores.py", "verification.py")


def kept_figures(path: Path, scores: Scores, bootstrap: int = 1000) -> dict:
    """`verify_scores(...).to_dict()`, read from `path` where it was written for the same.

    Args:
        path: where they are kept; written where absent, damaged or of something else.
    """
    key = _key(scores, bootstrap)
    try:
        kept = read_json(path, default={})
    except BadData as error:
        log.warning("%s: computing again", error)
        kept = {}
    if isinstance(kept, dict) and kept.get("key") == key:
        return kept["figures"]
    figures = json.loads(json.dumps(verify_scores(scores, bootstrap).to_dict()))
    write_json(path, {"key": key, "figures": figures})
    return figures


def _key(scores: Scores, bootstrap: int) -> str:
    parts = [f"{_code()} {bootstrap}"]
    for field in fields(scores):
        values = getattr(scores, field.name)
        if values is not None:
            parts += [f"{field.name} {values.dtype} {values.shape}", values]
    return digest(*parts)


@functools.cache
def _code() -> str:
    here = Path(verification.__file__).parent
    return digest(*((here / name).read_text() for name in SOURCES), digits=64)
