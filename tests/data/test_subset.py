"""A subset of a training set: so many people, so many images of each, drawn by the seed."""

import re

import numpy as np
import pytest

from facelib.cli.main import main
from facelib.config import make_config
from facelib.data.datasets import open_records
from facelib.data.people import people_of
from facelib.data.split import draw_subset
from facelib.errors import UserError
from facelib.formats.decode import encode_jpeg
from facelib.formats.recordio import write_face_records

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(40), np.arange(1, 41)))


@pytest.fixture
def folder(tmp_path):
    """Six people with 1 … 6 images; the grey of an image is that of its person."""
    grey = {label: encode_jpeg(np.full((16, 16, 3), 40 * label, np.uint8)) for label in range(6)}
    records = [(label, grey[label]) for label in range(6) for _ in range(label + 1)]
    write_face_records(tmp_path, records, size=(16, 16))
    return tmp_path


def test_a_subset_has_the_shape_that_was_asked_for():
    # Catches: people with too few images, an image twice, images of others.
    kept = draw_subset(LABELS, 9, 12, seed=3)
    people, counts = np.unique(LABELS[kept], return_counts=True)
    assert len(people) == 9 and set(counts) == {12} and len(set(kept)) == 108
    assert (np.diff(kept) > 0).all() and people.min() >= 11  # person n has n + 1 images


def test_the_seed_draws_people_and_images():
    first, again, other = (draw_subset(LABELS, 9, 12, seed) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert set(LABELS[first]) != set(LABELS[other])
    rich = np.repeat(np.arange(2), 50)
    assert not np.array_equal(draw_subset(rich, 2, 10, 0), draw_subset(rich, 2, 10, 1))


def test_all_with_enough_images_can_be_drawn():
    assert len(draw_subset(LABELS, 29, 12, seed=0)) == 29 * 12


def test_a_config_trains_on_its_subset_under_a_name_of_its_own(folder):
    # Catches: a subset that the plan sees and the training does not, labels with gaps.
    whole = make_config(data=str(folder), image_size=16)
    cfg = whole.replace(subset="3x4")
    records, people = open_records(cfg), people_of(cfg)
    assert cfg.run_name != whole.run_name
    assert np.array_equal(records.keys, people.keys) and len(records) == 12
    assert np.array_equal(np.unique(records.labels), [0, 1, 2])
    for i in range(len(records)):
        assert records.image(i)[0].mean() == pytest.approx(40 * records.stored[i], abs=3)


def test_a_subset_that_is_not_there_is_refused_before_there_is_a_run(folder, runs_folder, capsys):
    # Catches: an advised subset that is refused in turn.
    line = f"train --set data={folder} subset=4x5 global_batch=4 benchmarks= --dry-run"
    assert main(line.split()) == 2
    advice = re.search(r"use subset=(\w+)", capsys.readouterr().err)[1]
    assert (advice, runs_folder.exists()) == ("2x5", False)
    assert len(open_records(make_config(data=str(folder), subset=advice))) == 10


def test_a_subset_that_faces_would_not_have_is_refused_before_they_are_drawn(tmp_path, monkeypatch):
    # Catches: minutes of drawing before the error.
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path))
    with pytest.raises(UserError, match="use subset=250x24|fewer images"):
        people_of(make_config(subset="9000x90"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["5", "1x5", "5x1", "x", "5x5x5", "-5x5", "a x b", "٣x٤x"])
def test_text_that_is_no_subset_is_named(text):
    with pytest.raises(UserError, match="subset=.*PEOPLExIMAGES"):
        make_config(subset=text)
