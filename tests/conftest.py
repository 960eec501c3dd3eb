"""Shared fixtures. Real faces are optional: tests that want them skip where they are absent."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def real_faces() -> Path:
    """Folder with real development faces: `$FACELIB_REAL_FACES`, else `../shared/data`."""
    repo = Path(__file__).resolve().parent.parent
    folder = Path(os.environ.get("FACELIB_REAL_FACES") or repo.parent / "shared" / "data")
    if not (folder / "lfw_train" / "train.rec").is_file():
        pytest.skip(f"real development faces are not on this machine ({folder})")
    return folder
