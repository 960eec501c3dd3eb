"""Where runs and data go while pytest compares the notebooks' outputs (`pytest --nbval-lax`).

Not among the user's: into a folder named by the digest of facelib's sources. A second comparison
of the same code finds its runs there, and code that changed is never judged by older runs.
"""

import os
import shutil

from facelib.paths import REPO
from facelib.runner.notebooks import library_digest

CHECKS = REPO / ".data" / "checks"


def pytest_configure(config) -> None:
    folder = CHECKS / library_digest()
    for path in CHECKS.glob("*"):
        if path != folder:
            shutil.rmtree(path)
    for name in ("runs", "data"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        os.environ[f"FACELIB_{name.upper()}"] = str(folder / name)
    paths = [str(REPO), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
