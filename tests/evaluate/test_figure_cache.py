"""Figures kept beside their scores."""

import json

import numpy as np
import pytest

from facelib.evaluate import figure_cache as figures
from facelib.metrics.scores import make_scores
from facelib.metrics.verification import verify_scores


def scores(shift: float = 0.0):
    rng = np.random.default_rng(0)
    same = np.arange(60) % 2 == 0
    people = np.repeat(np.arange(30), 2)
    return make_scores(
        np.clip(rng.normal(same * 0.3 + shift, 0.1), -1, 1), same, id1=people, id2=people[::-1]
    )


@pytest.fixture
def computed(monkeypatch) -> list[int]:
    """Replicates of each computation."""
    calls = []

    def count(scores, bootstrap):
        calls.append(bootstrap)
        return verify_scores(scores, bootstrap)

    monkeypatch.setattr(figures, "verify_scores", count)
    return calls


def test_kept_figures_are_those_that_would_be_computed(tmp_path, computed):
    # Catches: figures that change on their way through the file, a file that is never read.
    path = tmp_path / "a.figures.json"
    first = figures.kept_figures(path, scores(), 20)
    assert figures.kept_figures(path, scores(), 20) == first
    assert computed == [20]
    plain = verify_scores(scores(), 20).to_dict()
    assert first["best"]["accuracy"] == plain["best"]["accuracy"]
    assert first["intervals"]["auc"] == list(plain["intervals"]["auc"])


def test_other_scores_replicates_or_code_are_computed_again(tmp_path, computed, monkeypatch):
    # Catches: a key that leaves one of them out, so that old figures stand for new scores.
    path = tmp_path / "a.figures.json"
    figures.kept_figures(path, scores(), 20)
    figures.kept_figures(path, scores(0.01), 20)
    figures.kept_figures(path, scores(0.01), 30)
    monkeypatch.setattr(figures, "_code", lambda: "another protocol")
    figures.kept_figures(path, scores(0.01), 30)
    assert computed == [20, 20, 30, 30]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"key": 1}'])
def test_a_damaged_file_is_computed_again(tmp_path, computed, damage):
    # Catches: an evaluation that fails for ever after a full disk.
    path = tmp_path / "a.figures.json"
    path.write_text(damage)
    assert figures.kept_figures(path, scores(), 0) == figures.kept_figures(path, scores(), 0)
    assert computed == [0]


def test_figures_altered_by_hand_are_computed_again(tmp_path, computed, caplog):
    # Catches: a key that is believed whatever stands beside it; files of before refused.
    path = tmp_path / "a.figures.json"
    first = figures.kept_figures(path, scores(), 0)
    kept = json.loads(path.read_text())
    kept["figures"]["best"]["accuracy"] = 0.999
    path.write_text(json.dumps(kept))
    assert figures.kept_figures(path, scores(), 0) == first
    assert "a.figures.json: was altered after it was written; computing again" in caplog.text
    path.write_text(json.dumps({"key": kept["key"], "figures": first}))  # of an earlier version
    assert figures.kept_figures(path, scores(), 0) == first
    path.write_text(json.dumps({"key": kept["key"]}))
    assert figures.kept_figures(path, scores(), 0) == first
    assert computed == [0, 0, 0]
