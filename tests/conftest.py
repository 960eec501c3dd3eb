"""Shared fixtures. Real faces are optional: tests that want them skip where they are absent."""

import os
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
TRAINING_FIXTURES = {"runs", "trained", "two_ranks"}  # each trains networks once per module


def pytest_itemcollected(item):
    """Mark each test that waits for a training as slow: whichever comes first pays for it."""
    if TRAINING_FIXTURES & set(getattr(item, "fixturenames", ())):
        item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def real_faces() -> Path:
    """Folder with real development faces: `$FACELIB_REAL_FACES`, else `../shared/data`."""
    repo = Path(__file__).resolve().parent.parent
    folder = Path(os.environ.get("FACELIB_REAL_FACES") or repo.parent / "shared" / "data")
    if not (folder / "lfw_train" / "train.rec").is_file():
        pytest.skip(f"real development faces are not on this machine ({folder})")
    return folder


@pytest.fixture(scope="session")
def tiny_records(tmp_path_factory) -> Path:
    """24 identities × 6 blotchy 32-pixel images in the real training format."""
    import cv2

    from facelib.formats.recordio import write_face_records

    rng = np.random.default_rng(0)
    images = []
    for label in range(24):
        base = rng.integers(0, 255, (4, 4, 3), np.uint8)
        for _ in range(6):
            noisy = np.clip(base + rng.normal(0, 30, base.shape), 0, 255).astype(np.uint8)
            large = cv2.resize(noisy, (32, 32), interpolation=cv2.INTER_CUBIC)
            images.append((label, cv2.imencode(".jpg", large)[1].tobytes()))
    folder = tmp_path_factory.mktemp("tiny")
    write_face_records(folder, images, size=(32, 32), names=[f"person {i}" for i in range(24)])
    return folder


@pytest.fixture(scope="session")
def planted_root(tmp_path_factory) -> Path:
    """A data root with 50 + 12 rendered training people, the 12 among 20 of the benchmarks."""
    from facelib.rendered.dataset import RenderedSpec, rendered_dataset

    root = tmp_path_factory.mktemp("planted")
    spec = RenderedSpec(identities=50, images=2, test_identities=20, size=32, seed=5, planted=12)
    rendered_dataset(spec, root, workers=1)
    return root


@pytest.fixture
def themed():
    """The project's theme without a screen; figures are closed after the test."""
    import matplotlib.pyplot as plt

    from facelib.studies import plots

    plt.switch_backend("Agg")
    plots.set_theme()
    yield
    plt.close("all")


@pytest.fixture
def runs_folder(tmp_path, monkeypatch) -> Path:
    """An empty runs root for this test."""
    monkeypatch.setenv("FACELIB_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"
