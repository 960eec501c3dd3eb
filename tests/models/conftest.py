"""Tiny foundation models, in folders as the hub would give them."""

from pathlib import Path

import pytest

from tests.models.tiny_foundations import DIMS, save_tiny


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Name -> folder with random weights, made once: tests only read them."""
    root = tmp_path_factory.mktemp("tiny-models")
    return {name: save_tiny(name, root / name) for name in DIMS}
