"""One picture of a person, aligned to the ArcFace template by its true landmarks.

Pipeline: pose the mesh, project it, fit the five projected landmarks to the template, rasterise
straight into the aligned crop at twice its size, shade, then develop with lens and sensor.
"""

from dataclasses import dataclass

import numpy as np

from facelib.prepare.align import ARCFACE_TEMPLATE, TEMPLATE_SIZE, similarity_transform
from facelib.rendered import raster
from facelib.rendered.assembly import assemble
from facelib.rendered.heads import HeadAssets, eye_centres
from facelib.rendered.mesh import Model
from facelib.rendered.normals import visible_from
from facelib.rendered.scene import Conditions, develop, hold_object, paint_background

OVERSAMPLE = 2
# Linear RGB: black, tortoise, brown, steel, gold.
FRAME_COLOURS = (
    (0.01, 0.01, 0.01), (0.06, 0.03, 0.015), (0.03, 0.012, 0.01), (0.2, 0.2, 0.21), (0.3, 0.2, 0.08)
)  # fmt: skip
PUPIL = np.array([0, 0, 0.12], np.float32)  # from the middle of the eyeball
HEAD_CENTRE = np.array([0, 7.1, 0.35], np.float32)


@dataclass(frozen=True)
class Picture:
    """An RGB image (S, S, 3) uint8, landmarks (5, 2) in pixels, angles in degrees, what hides."""

    image: np.ndarray
    landmarks: np.ndarray
    yaw: float
    pitch: float
    roll: float
    hidden: str  # "", or what hides a part of the face, by commas


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Head to camera (3, 3) float32: yaw about y, then pitch about x, then roll about z."""
    (cy, cp, cr), (sy, sp, sr) = np.cos((yaw, pitch, roll)), np.sin((yaw, pitch, roll))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return (about_z @ about_x @ about_y).astype(np.float32)


def render(assets: HeadAssets, model: Model, conditions: Conditions, size: int = 112) -> Picture:
    """Draw one picture; the same arguments give the same bytes."""
    shape = assemble(assets, model, conditions)
    camera = _Camera(assets, model, shape.positions, conditions, size)
    seen = camera.turn_to(shape.positions)
    normals = shape.normals @ camera.rotation.T
    screen = camera.project(seen)
    n = size * OVERSAMPLE
    depth = np.full((n, n), -9, np.float32)
    index = np.full((n, n), -1, np.int32)
    weights = np.zeros((n, n, 2), np.float32)
    surface, hair = (shape.triangles, shape.part), (shape.rest, shape.level)
    raster.rasterise(screen, *surface, *hair, model.texture, depth, index, weights)
    casters = shape.triangles[shape.casts_shadow]
    lit = visible_from(seen - camera.turn_to(HEAD_CENTRE), casters, conditions.lamp)
    light = paint_background(conditions, n)
    half = conditions.lamp + np.array([0, 0, 1], np.float32)
    raster.shade(
        light, index, weights, *surface, shape.tint, normals, *hair, shape.open_sky, lit,
        model.texture, _palette(model, conditions), assets.eye_centres, _gaze(conditions),
        conditions.lamp, half / np.linalg.norm(half), conditions.lamp_rgb, conditions.sky_rgb,
        conditions.ground_rgb, _look(model, conditions),
    )  # fmt: skip
    if shape.lenses is not None:
        light = _draw_lenses(light, depth, camera, shape.lenses, conditions)
    if conditions.occluder == "object":
        light = hold_object(light, conditions)
    image, landmarks = develop(light, conditions, size), camera.landmarks.astype(np.float32)
    angles = np.degrees((conditions.yaw, conditions.pitch, conditions.roll)).tolist()
    worn = "dark glasses" if conditions.dark_lenses else "glasses"
    hides = [conditions.occluder, worn if shape.lenses is not None else ""]
    return Picture(image, landmarks, *angles, ", ".join(filter(None, hides)))


class _Camera:
    """Turns the head, projects it in perspective, and fits its landmarks to the template."""

    def __init__(self, assets: HeadAssets, model: Model, posed, conditions: Conditions, size: int):
        neutral = model.person.positions
        self.distance = np.float32(conditions.distance)
        self.rotation = rotation(conditions.yaw, conditions.pitch, conditions.roll)
        self.pivot = neutral[assets.nose_tip] - np.array([0, 0, 0.6], np.float32)
        left_eye, right_eye = eye_centres(assets.base, assets.part_of_vertex, neutral) + PUPIL
        left, right = posed[assets.mouth_corners]
        points = np.stack([right_eye, left_eye, posed[assets.nose_tip], right, left])
        flat = self._flatten(self.turn_to(points).astype(np.float64))
        target = (ARCFACE_TEMPLATE + conditions.jitter) * size / TEMPLATE_SIZE
        fitted = similarity_transform(flat, target)
        self.matrix, self.shift = fitted[:, :2], fitted[:, 2]
        self.landmarks = flat @ self.matrix.T + self.shift  # (5, 2) pixels of the crop

    def turn_to(self, positions: np.ndarray) -> np.ndarray:
        """Head frame (N, 3) -> camera frame."""
        return (positions - self.pivot) @ self.rotation.T

    def _flatten(self, seen: np.ndarray) -> np.ndarray:
        scale = self.distance / (self.distance - seen[:, 2])
        return np.stack([seen[:, 0] * scale, -seen[:, 1] * scale], -1)

    def project(self, seen: np.ndarray) -> np.ndarray:
        """Camera frame -> screen x, y of the oversampled crop and 1 / distance, (N, 3)."""
        screen = np.empty(seen.shape, np.float32)
        screen[:, :2] = (self._flatten(seen) @ self.matrix.T + self.shift) * OVERSAMPLE
        screen[:, 2] = 1 / (self.distance - seen[:, 2])
        return screen


def _draw_lenses(light, depth, camera: _Camera, lenses: np.ndarray, conditions: Conditions):
    """Lay tinted or clear glass with a soft reflection over what is behind it."""
    count = lenses.shape[1]
    points = np.concatenate([lenses.mean(1), lenses.reshape(-1, 3)]).astype(np.float32)
    ring = np.arange(2, count + 1)
    fans = [np.stack([np.full(count - 1, e), e * count + ring, e * count + ring + 1], -1)
            for e in (0, 1)]  # fmt: skip
    screen = camera.project(camera.turn_to(points))
    index = np.full(depth.shape, -1, np.int32)
    weights = np.zeros((*depth.shape, 2), np.float32)
    raster.rasterise_plain(screen, np.concatenate(fans).astype(np.int32), depth, index, weights)
    inside = index >= 0
    rows, columns = np.nonzero(inside)
    sheen = 0.5 + 0.5 * np.sin((rows + 0.6 * columns) * (9.0 / len(depth)) + conditions.seed % 6)
    through, glare = (0.04, 0.04) if conditions.dark_lenses else (0.90, 0.09)
    reflected = (0.012 + glare * sheen**6)[:, None] * conditions.sky_rgb
    light[inside] = light[inside] * np.float32(through) + reflected.astype(np.float32)
    return light


def _gaze(conditions: Conditions) -> np.ndarray:
    """Unit directions (2, 3) of left and right eye in the head's frame; they converge a little."""
    across, up = conditions.gaze
    turn = np.array([across - 0.03, across + 0.03])
    return np.stack([np.sin(turn), np.full(2, np.sin(up)), np.cos(turn)], -1) / np.sqrt(
        1 + np.sin(up) ** 2
    )


def _palette(model: Model, conditions: Conditions) -> np.ndarray:
    palette = np.zeros((raster.MATERIAL + len(raster.PART_COLOURS), 3), np.float32)
    palette[raster.MATERIAL :] = raster.PART_COLOURS
    palette[raster.HAIR] = model.person.hair
    palette[raster.IRIS] = model.person.iris
    palette[raster.SHIRT] = conditions.shirt
    palette[raster.FRAME] = FRAME_COLOURS[model.person.seed % len(FRAME_COLOURS)]
    palette[raster.CLOTH] = conditions.cloth
    palette[raster.HAND] = model.person.skin * np.float32(0.95)
    return palette


def _look(model: Model, conditions: Conditions) -> np.ndarray:
    look = np.zeros(5, np.float32)
    look[raster.AMBIENT], look[raster.KEY] = conditions.ambient, conditions.key
    look[raster.OIL], look[raster.COLLAR] = conditions.oil, conditions.collar
    look[raster.GREY] = 0.15 * model.person.grey
    return look
