"""Where runs and data go while pytest compares the notebooks' outputs (`pytest --nbval-lax`).

Not among the user's: into a folder named by the digest of facelib's sources. A second comparison
of the same code finds its runs there, and code that changed is never judged by older runs. The runs
that the chosen notebooks share are trained before the first cell: in a cell, a training would leave
its progress among the outputs that are compared.
"""

import os
import shutil
from pathlib import Path

import pytest

from facelib.paths import REPO
from facelib.runner.notebooks import library_digest, list_notebooks

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


def pytest_sessionstart(session) -> None:
    config = session.config
    if hasattr(config, "workerinput") or config.option.collectonly:
        return  # a worker of pytest-xdist: the process that starts it has trained them
    from facelib.errors import UserError
    from facelib.runner.ahead import train_ahead

    given = [Path(arg.partition("::")[0]).resolve() for arg in config.args]
    inside = [path for folder in given if folder.is_dir() for path in list_notebooks(folder)]
    try:
        with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            train_ahead([path for path in given if path.suffix == ".ipynb"] + inside)
    except UserError as error:
        raise pytest.UsageError(str(error)) from None
