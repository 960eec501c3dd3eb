"""The explorer's data and file. Its behaviour: test_explorer_browser.py."""

import base64
import json
from html.parser import HTMLParser

import numpy as np
import pytest

from facelib.cli.main import main
from facelib.config import make_config
from facelib.errors import UserError
from facelib.metrics.geometry import unit
from facelib.runs.folder import create_run
from facelib.studies.explorer import nearest
from facelib.studies.explorer.gather import gather
from facelib.studies.explorer.page import write_explorer
from facelib.studies.explorer.widget import Explorer
from tests.studies.explorer_runs import made_centres, made_results


def unpack(text, kind):
    return np.frombuffer(base64.b64decode(text), kind)


def test_the_explorer_holds_the_saved_scores_to_the_last_bit():
    # Catches: rounded cosines, runs or pairs in another order, the best threshold as a distance.
    results = made_results()
    (found,) = gather(results)["benchmarks"]
    for result, row in zip(results, found["runs"], strict=True):
        assert (unpack(row["score"], "<f8") == result.scores("toy").score).all()
        assert {k: row[k] for k in ("strict", "best")} == result.thresholds("toy")
    assert (unpack(found["index2"], "<i4") == results[0].bench.index2).all()
    assert (unpack(found["same"], "u1") == results[0].bench.same).all()


def test_a_name_cannot_break_out_of_the_page(tmp_path):
    # Catches: data written into the page as it is.
    class Scripts(HTMLParser):
        count = 0

        def handle_starttag(self, tag, attrs):
            self.count += tag == "script"

    text = write_explorer(made_results(), tmp_path / "new" / "e.html").read_text()
    parser = Scripts()
    parser.feed(text)
    assert parser.count == 2  # the data and the explorer
    assert "alert(1)" in text


def test_seven_thousand_pairs_of_six_runs_stay_below_15_megabytes(tmp_path, monkeypatch):
    # Catches: pictures of full size, scores as decimal text, faces beyond the bytes that are left.
    monkeypatch.setattr(nearest, "training_centres", made_centres)
    results = made_results(7000, 6, 14_000)
    assert write_explorer(results, tmp_path / "e.html").stat().st_size < 15e6
    with pytest.raises(UserError, match="6 runs on 1 benchmarks leave no room.*fewer runs"):
        gather(results, limit=1_000_000)


def test_each_picture_has_its_three_nearest_people_of_the_training(monkeypatch):
    # Catches: the farthest, centres that are not unit, a person's number of another run.
    monkeypatch.setattr(nearest, "training_centres", made_centres)
    results = made_results()
    found = gather(results)
    cosine = unit(results[1].emb) @ made_centres(None).unit.T
    near = found["benchmarks"][0]["runs"][1]["near"]
    people = unpack(near["person"], "<u2").reshape(-1, 3)
    names = np.array(found["people"])[people]
    assert (names == np.array(made_centres(None).names)[np.argsort(-cosine)[:, :3]]).all()
    told = unpack(near["cosine"], "<i2").reshape(-1, 3) / 10000
    np.testing.assert_allclose(told, -np.sort(-cosine)[:, :3], atol=1e-4)


def test_people_that_are_nearest_seldom_have_no_picture_in_a_full_page(monkeypatch):
    # Catches: numbers of people beyond those of the page.
    monkeypatch.setattr(nearest, "training_centres", made_centres)
    monkeypatch.setattr(nearest, "FACES", 4)
    found = gather(made_results())
    people = unpack(found["benchmarks"][0]["runs"][0]["near"]["person"], "<u2")
    assert len(found["people"]) == 4 and set(people) == {0, 1, 2, 3, nearest.NO_FACE}


def test_runs_of_other_pairs_are_refused():
    # Catches: cosines of different pairs side by side.
    first, second = made_results()
    other = vars(second.bench) | {"digest": "another"}
    vars(second)["bench"] = type(second.bench)(**other)
    with pytest.raises(UserError, match="run-1 has other images or pairs than run-0"):
        gather([first, second])


def test_the_widget_shows_the_same_data():
    # Catches: another component in JupyterLab than in the file.
    results = made_results()
    assert json.loads(Explorer(results).data) == gather(results)


def test_explore_says_in_one_line_what_is_missing(runs_folder, capsys):
    # Catches: a traceback, a message without the next command.
    assert main(["explore", "none"]) == 2
    assert "python -m facelib runs" in capsys.readouterr().err
    run = create_run(make_config(), runs_folder)
    assert main(["explore", run.name]) == 2
    assert f"python -m facelib eval {run.name}" in capsys.readouterr().err
