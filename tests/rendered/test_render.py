"""Rendered pictures: geometry, determinism, and what a viewer would notice."""

import dataclasses

import numpy as np
import pytest

from facelib.prepare.align import ARCFACE_TEMPLATE
from facelib.rendered import raster
from facelib.rendered.heads import load_assets
from facelib.rendered.mesh import build_model
from facelib.rendered.occluders import WORN
from facelib.rendered.people import sample_person, shape_axes
from facelib.rendered.render import render
from facelib.rendered.scene import sample_conditions


@pytest.fixture(scope="module")
def assets(tmp_path_factory):
    return load_assets(tmp_path_factory.mktemp("heads"))


@pytest.fixture(scope="module")
def model(assets):
    return build_model(assets, dataclasses.replace(sample_person(assets, 4), glasses=0))


def studio(yaw: float = 0.0, **changes):
    """Conditions without anything that disturbs."""
    calm = sample_conditions(np.random.default_rng(1), yaw, strength=0.0)
    return dataclasses.replace(calm, **{"shows_glasses": 1.0, **changes})


def test_landmarks_of_a_frontal_face_lie_on_the_template(assets, model):
    # Mutation: left and right eye swapped, or y not flipped: off by more than 30 pixels.
    picture = render(assets, model, studio(), 112)
    assert np.abs(picture.landmarks - ARCFACE_TEMPLATE).max() < 10


def test_positive_yaw_turns_the_nose_to_the_right_of_the_image(assets, model):
    # Mutation: a transposed rotation turns the other way.
    for yaw in (-0.6, 0.6):
        points = render(assets, model, studio(yaw), 64).landmarks
        middle = points[[0, 1, 3, 4], 0].mean()
        assert np.sign(points[2, 0] - middle) == np.sign(yaw)


def test_same_arguments_give_the_same_bytes(assets, model):
    # Mutation: noise or background from an unseeded generator.
    conditions = sample_conditions(np.random.default_rng(2), 0.3)
    once, again = (render(assets, model, conditions, 64).image for _ in range(2))
    assert once.tobytes() == again.tobytes()


@pytest.mark.parametrize("yaw", [0.0, 0.9, -1.5])
def test_no_background_shows_through_the_face(assets, model, yaw):
    # Mutation: culling front faces, or a seam in the mesh: background pixels inside the face.
    one, two = (render(assets, model, studio(yaw, seed=s), 64) for s in (1, 2))
    centre = one.landmarks.mean(0).round().astype(int)
    column = centre[0] - round(8 * np.sin(yaw))  # in profile the landmarks lie at the edge
    rows, columns = slice(centre[1] - 9, centre[1] + 9), slice(column - 4, column + 4)
    assert np.array_equal(one.image[rows, columns], two.image[rows, columns])
    assert not np.array_equal(one.image, two.image)


def test_the_eyes_look_where_the_gaze_says(assets, model):
    # Mutation: gaze ignored, or its sign turned round.
    def dark_column(across):
        picture = render(assets, model, studio(gaze=(across, 0.0), actions={}), 112)
        x, y = picture.landmarks[0].round().astype(int)
        eye = picture.image[y - 3 : y + 4, x - 7 : x + 8].astype(float).mean((0, 2))
        weight = eye.max() - eye
        return (weight * np.arange(15)).sum() / weight.sum()

    assert dark_column(0.5) > dark_column(-0.5) + 1


@pytest.mark.parametrize("kind", [*WORN, "object"])
def test_an_occluder_hides_a_part_of_the_picture(assets, model, kind):
    # Mutation: an occluder drawn behind the face, or over all of it.
    bare = render(assets, model, studio(), 64).image.astype(int)
    worn = render(assets, model, studio(occluder=kind), 64).image.astype(int)
    changed = (np.abs(bare - worn).max(-1) > 12).mean()
    assert 0.01 < changed < 0.75


def test_glasses_are_drawn_round_the_eyes_and_dark_lenses_hide_them(assets, model):
    # Mutation: lenses not depth-tested, or frames fitted to the average head.
    bare = render(assets, model, studio(), 112)
    dark = render(assets, model, studio(shows_glasses=0.0, dark_lenses=True), 112)
    for x, y in bare.landmarks[:2].round().astype(int):
        patch = (slice(y - 3, y + 4), slice(x - 3, x + 4))
        assert dark.image[patch].max() < 0.6 * bare.image[patch].max()  # no white of the eye
    assert np.abs(dark.image[90:].astype(int) - bare.image[90:]).mean() < 4


def test_neighbouring_triangles_leave_no_gap_and_the_nearer_one_wins():
    # Mutation: a fill rule that drops shared edges, or a reversed depth test.
    corners = np.array([[1, 1, 1], [9, 1, 1], [1, 9, 1], [9, 9, 1]], np.float32)
    near = corners + np.float32([0, 0, 1])
    points = np.concatenate([near, corners])
    triangles = np.array([[0, 1, 2], [1, 3, 2], [4, 5, 6], [5, 7, 6]], np.int32)
    depth = np.full((10, 10), -9, np.float32)
    index = np.full((10, 10), -1, np.int32)
    raster.rasterise_plain(points, triangles, depth, index, np.zeros((10, 10, 2), np.float32))
    assert (index[1:9, 1:9] >= 0).all() and (index >= 0).sum() == 64
    assert index.max() == 1


def test_opposite_targets_become_one_signed_axis():
    # Mutation: "decr" and "incr" drawn independently cancel each other.
    names = ["nose-hump-decr", "nose-hump-incr", "head-oval", "l-eye-trans-down", "l-eye-trans-up"]
    assert shape_axes(names) == [(0, 1), (2, -1), (3, 4)]


def test_spread_zero_gives_the_same_local_shape_and_more_spread_gives_more(assets):
    # Mutation: spread not applied to the local shapes.
    def deviation(spread):
        heads = [sample_person(assets, seed, spread).positions for seed in range(6)]
        return np.std(heads, axis=0).mean()

    assert deviation(0.0) < deviation(1.0) < deviation(1.6)
