"""Figures of a scores file, kept beside it: intervals are a second of work and many ask for them.

`NAME.figures.json` beside `NAME.npz`: {"figures", "key", "digest"}, see `facelib.digests`. The key
covers the scores, the number of replicates and the sources of the protocols.
"""

import functools
import json
import logging
from pathlib import Path

from facelib.digests import check_stamps, digest, stamped
from facelib.errors import BadData
from facelib.metrics import verification
from facelib.metrics.scores import Scores
from facelib.metrics.verification import verify_scores
from facelib.runs.folder import write_json
from facelib.safety.readers import read_object

log = logging.getLogger(__name__)

SOURCES = ("caveats.py", "intervals.py", "scores.py", "verification.py")


def kept_figures(path: Path, scores: Scores, bootstrap: int = 1000) -> dict:
    """`verify_scores(...).to_dict()`, read from `path` where it was written for the same.

    Args:
        path: where they are kept; written where absent, damaged or of something else.
    """
    key = digest(f"{_code()} {bootstrap} {scores.digest}")
    again = "computing again"
    try:
        kept = read_object(path, again, default={})
        if kept.get("key") == key and isinstance(kept.get("figures"), dict):
            check_stamps(kept, key, path, again)
            return kept["figures"]
    except BadData as error:
        log.warning("%s", error)
    figures = json.loads(json.dumps(verify_scores(scores, bootstrap).to_dict()))
    write_json(path, stamped({"figures": figures}, key))
    return figures


@functools.cache
def _code() -> str:
    here = Path(verification.__file__).parent
    return digest(*((here / name).read_text() for name in SOURCES), digits=64)
