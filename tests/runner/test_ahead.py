"""The runs that notebooks share are trained before them, each once."""

import contextlib
import importlib.util
import re
from types import SimpleNamespace

import pytest

from facelib.config import make_config
from facelib.errors import UserError
from facelib.runner import ahead, notebooks
from tests.small_notebooks import write_small

RUN = re.compile(r"\b(?:smoke|generic-vit)[a-z-]*-[0-9a-f]{8}\b")


def test_a_run_of_several_notebooks_is_named_once_and_a_long_one_comes_first(tmp_path):
    # Catches: a run trained twice; both cores waiting for one long run at the end.
    first = write_small(tmp_path / "00_a.ipynb", trains=[{}, {"loss": "infonce"}])
    second = write_small(tmp_path / "01_b.ipynb", trains=[{"images_seen": 50_000}, {}])
    wanted = [{"images_seen": 50_000}, {}, {"loss": "infonce"}]
    assert ahead.declared_runs([first, second]) == [make_config(**given) for given in wanted]


def test_a_run_that_begins_with_another_waits_for_it(tmp_path, monkeypatch):
    # Catches: adapters that are trained before the model that they adapt is there.
    waves = []
    monkeypatch.setattr(ahead, "launch_all", lambda wave: waves.append([c.name for c in wave]))
    given = [{"preset": "smoke-lora"}, {"preset": "generic-vit"}, {}]
    ahead.train_ahead([write_small(tmp_path / "00_a.ipynb", trains=given)])
    assert waves == [["generic-vit-infonce", "smoke-arcface"], ["smoke-lora-infonce"]]


@pytest.mark.parametrize("trains", [3, ["loss"], [{"held_out": "40"}], [{"los": "infonce"}]])
def test_a_wrong_list_of_runs_is_one_clear_line(tmp_path, trains):
    # Catches: a traceback instead of the notebook's name or the setting that is meant.
    with pytest.raises(UserError, match=r"00_a\.ipynb|did you mean 'loss'"):
        ahead.declared_runs([write_small(tmp_path / "00_a.ipynb", trains=trains)])


@pytest.mark.parametrize("path", notebooks.list_notebooks(), ids=lambda path: path.stem)
def test_the_notebook_names_each_run_that_its_outputs_show(path):
    # Catches: a notebook that trains on one core what could have been trained before it.
    given = notebooks.facelib_metadata(path)
    named = [one for one in given.get("trains", []) if "held_out" not in one]
    outputs = [c.outputs for c in notebooks.read_notebook(path).cells if c.cell_type == "code"]
    assert set(RUN.findall(str(outputs))) <= {ahead.configuration(one).run_name for one in named}
    assert len(given.get("trains", [])) == given["estimate"]["runs"]


def test_what_compares_outputs_trains_the_chosen_notebooks_runs_once(monkeypatch):
    # Catches: runs trained where the comparison does not look; one training for each worker.
    asked = []
    monkeypatch.setattr(ahead, "train_ahead", asked.append)
    found = importlib.util.spec_from_file_location("conf", notebooks.FOLDER / "conftest.py")
    conftest = importlib.util.module_from_spec(found)
    found.loader.exec_module(conftest)
    manager = SimpleNamespace(global_and_fixture_disabled=contextlib.nullcontext)
    config = SimpleNamespace(
        option=SimpleNamespace(collectonly=False),
        pluginmanager=SimpleNamespace(getplugin=lambda _: manager),
        args=[f"{notebooks.FOLDER / '02_arcface.ipynb'}::Cell 1"],
    )
    conftest.pytest_sessionstart(SimpleNamespace(config=config))
    config.args = [str(notebooks.FOLDER)]
    conftest.pytest_sessionstart(SimpleNamespace(config=config))
    config.workerinput = {}
    conftest.pytest_sessionstart(SimpleNamespace(config=config))
    assert [[path.stem for path in paths][:3] for paths in asked] == [
        ["02_arcface"], ["00_start_here", "01_data", "02_arcface"]
    ]  # fmt: skip
