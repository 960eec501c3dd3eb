"""The runs that notebooks will ask for, trained before them: each once, on all cores.

A notebook trains its runs where it needs them; between these it draws and computes on one core. So
`study`, and what compares outputs in `make test` (`notebooks/conftest.py`), train them first. A
notebook's metadata name them under `facelib.trains`: the settings that differ from the smoke run,
with `held_out` for the run of that notebook's preset without so many people. What is not named
there is trained by the notebook, as ever.
"""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from facelib.config import Config, make_config
from facelib.runner import notebooks
from facelib.runs.launch import launch_all
from facelib.studies.strangers import held_out_labels, without

log = logging.getLogger(__name__)


def declared_runs(paths: Iterable[Path]) -> list[Config]:
    """The configurations that notebooks name, each once: the longest first."""
    found = [configuration(given) for path in paths
             for given in notebooks.facelib_metadata(path).get("trains", [])]  # fmt: skip
    unlike = {cfg.run_name: cfg for cfg in found}
    return sorted(unlike.values(), key=lambda cfg: -cfg.images_seen)


def configuration(given: Mapping[str, object]) -> Config:
    """The configuration of an entry of `trains`."""
    settings = dict(given)
    people = settings.pop("held_out", 0)
    cfg = make_config(**settings)
    return without(cfg, held_out_labels(cfg, people)) if people else cfg


def train_ahead(paths: Iterable[Path]) -> None:
    """Train what the notebooks name and is not finished; runs that begin with another come last."""
    configs = declared_runs(paths)
    fresh = [cfg for cfg in configs if cfg.init == "scratch"]
    for wave in (fresh, [cfg for cfg in configs if cfg not in fresh]):
        if wave:
            log.info("runs that the notebooks share: %s", ", ".join(c.run_name for c in wave))
            launch_all(wave)
