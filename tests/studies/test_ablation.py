"""Rows of the cluster-guided ablation: one config each, recognised again from their settings."""

import pytest

from facelib.config import make_config
from facelib.errors import UserError
from facelib.studies.ablation import LABELS, ROWS, method_of_row, row_config
from facelib.studies.results import method_of

BASE = make_config(loss="cluster", seed=3, data_seed=3)


def test_every_row_is_another_run_that_is_known_by_its_settings():
    # Catches: two rows with the same settings, a label under another row's name.
    configs = {row: row_config(row, BASE) for row in ROWS}
    assert len({cfg.run_name for cfg in configs.values()}) == len(ROWS)
    for row, cfg in configs.items():
        wanted = "arcface" if row == "baseline" else f"cluster-{row}"
        assert method_of(cfg.to_dict()) == wanted
        assert (cfg.seed, cfg.data_seed, cfg.images_seen) == (3, 3, BASE.images_seen)


def test_the_baseline_is_the_arcface_run_of_the_study():
    # Catches: a baseline with settings of its own, which would be trained once more.
    assert row_config("baseline", make_config(loss="cluster")) == make_config()


def test_settings_that_are_no_row_get_a_label_of_their_own():
    # Catches: an unlisted combination shown under a row's name; old records without new settings.
    cfg = make_config(loss="cluster", cluster_contrast=2.0)
    assert method_of_row(cfg.to_dict()) == "cluster"
    assert "cluster" in LABELS
    old = {k: v for k, v in BASE.to_dict().items() if k != "images_per_identity"}
    assert method_of_row(old) == "cluster-all"


def test_single_terms_switch_the_others_off():
    # Catches: a "single loss" with a trace of another one.
    weights = ("cluster_margin", "cluster_contrast", "cluster_align")
    wanted = {"cg": (1, 0, 0), "clucon": (0, 1, 0), "cluali": (0, 0, 0.5), "all": (1, 1, 0.5),
              "cg+clucon": (1, 1, 0), "cg+cluali": (1, 0, 0.5)}  # fmt: skip
    for row, values in wanted.items():
        assert tuple(getattr(row_config(row, BASE), name) for name in weights) == values


def test_an_unknown_row_names_those_that_exist():
    # Catches: a misspelt row that trains the literal one.
    with pytest.raises(UserError, match="row 'al': allowed are baseline, cg"):
        row_config("al", BASE)
