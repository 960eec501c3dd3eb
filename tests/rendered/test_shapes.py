"""Pictures without faces: a training set in the study's own format, written whole or not at all."""

import numpy as np
import pytest

from facelib.config import make_config
from facelib.data.datasets import FaceRecords
from facelib.data.locate import train_folder
from facelib.errors import UserError
from facelib.rendered import shapes
from facelib.rendered.shapes import ShapesSpec, draw_views, shapes_dataset

SMALL = ShapesSpec(instances=6, views=3, size=32)


def test_the_set_is_an_ordinary_training_set(tmp_path):
    folder = shapes_dataset(SMALL, tmp_path)
    records = FaceRecords(folder, 32)
    assert records.labels.tolist() == np.repeat(range(6), 3).tolist()
    # A class holds the views of one instance, as they were drawn (JPEG changes them a little).
    drawn, kept = draw_views(SMALL, 2)[1].astype(int), records[2 * 3 + 1][0].permute(1, 2, 0)
    assert np.abs(drawn - kept.numpy()).mean() < 8
    assert shapes_dataset(SMALL, tmp_path) == folder  # found, not drawn again


def test_the_pictures_depend_on_the_spec_and_their_number_only():
    # Catches: a generator shared between instances, so that a larger set has other pictures.
    more = ShapesSpec(instances=9, views=5, size=32)
    assert (draw_views(SMALL, 4) == draw_views(more, 4)[:3]).all()
    assert (draw_views(SMALL, 4) != draw_views(ShapesSpec(6, 3, 32, seed=1), 4)).any()
    assert SMALL.digest() != more.digest() != ShapesSpec(9, 5, 32, seed=1).digest()


def test_views_of_an_instance_are_nearer_than_those_of_others():
    # Catches: views drawn from different instances: there would be nothing to learn.
    spec = ShapesSpec(instances=60, views=2, size=32)
    views = np.stack([draw_views(spec, i) for i in range(60)])
    middle = views[:, :, 8:24, 8:24].reshape(60, 2, -1).astype(float)
    middle -= middle.mean(2, keepdims=True)
    middle /= np.linalg.norm(middle, axis=2, keepdims=True)
    cosines = middle[:, 0] @ middle[:, 1].T
    assert np.diag(cosines).mean() > cosines.mean() + 0.2


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail_at_four(spec, number):
        if number == 4:
            raise KeyboardInterrupt
        return draw_views(spec, number)

    monkeypatch.setattr(shapes, "draw_views", fail_at_four)
    with pytest.raises(KeyboardInterrupt):
        shapes_dataset(SMALL, tmp_path)
    assert [p.name for p in tmp_path.iterdir() if not p.name.endswith(".lock")] == []


def test_a_config_names_them_and_wrong_sizes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path))
    cfg = make_config("generic-vit", data_identities=6, data_images=3)
    assert train_folder(cfg).name == f"shapes-{SMALL.digest()}"
    with pytest.raises(UserError, match="views=1 must be from 2"):
        ShapesSpec(views=1)
