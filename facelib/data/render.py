"""One picture of a person, aligned to the ArcFace template by its true landmarks.

Pipeline: pose the mesh, project it, fit the five projected landmarks to the template, rasterise
straight into the aligned crop at twice its size, shade, then develop with lens and sensor.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from facelib.data import raster, shading
from facelib.data.heads import HeadAssets
from facelib.data.mesh import LAYERS, Model, pose
from facelib.data.people import eye_positions
from facelib.data.scene import Conditions, develop, paint_background

# InsightFace's template of a 112×112 crop: left-of-image eye, other eye, nose tip, mouth corners.
TEMPLATE = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)
OVERSAMPLE = 2
HEAD_CENTRE = np.array([0, 7.1, 0.35], np.float32)


@dataclass(frozen=True)
class Picture:
    """image (S, S, 3) uint8 RGB; landmarks (5, 2) float32 pixels, template order; angles in degrees."""

    image: np.ndarray
    landmarks: np.ndarray
    yaw: float
    pitch: float
    roll: float


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Head to camera (3, 3) float32: yaw about y, then pitch about x, then roll about z."""
    (cy, cp, cr), (sy, sp, sr) = np.cos((yaw, pitch, roll)), np.sin((yaw, pitch, roll))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return (about_z @ about_x @ about_y).astype(np.float32)


def fit_similarity(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least-squares rotation and scale M (2, 2) and shift t (2,) with target ≈ source @ M.T + t."""
    source_mean, target_mean = source.mean(0), target.mean(0)
    a, b = source - source_mean, target - target_mean
    size = (a**2).sum()
    p = (a * b).sum() / size
    q = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / size
    matrix = np.array([[p, -q], [q, p]])
    return matrix, target_mean - matrix @ source_mean


def assemble(assets: HeadAssets, model: Model, conditions: Conditions):
    """All geometry of a picture in the head's frame, as flat arrays for the rasteriser.

    Returns:
        dict with positions, triangles, part, tint, rest, level, open_sky; head vertices come first.
    """
    head, layers = pose(assets, model, conditions.actions, conditions.hair_volume)
    below = model.layer_of
    copies = len(LAYERS)
    blocks = [
        (head, assets.triangles, assets.part, 0, assets.base, 0.0, assets.occlusion),
        (
            layers,
            np.concatenate([model.layer_triangles + i * len(below) for i in range(copies)]),
            raster.SHELL,
            0,
            np.tile(assets.base[below], (copies, 1)),
            np.repeat(np.float32(LAYERS), len(below)),
            np.tile(np.maximum(assets.occlusion[below], 0.5), copies),
        ),
    ]
    for patch in (model.curtain, model.frame):
        if patch is not None:
            blocks.append(
                (
                    patch.positions,
                    patch.triangles,
                    patch.part,
                    patch.tint,
                    patch.rest,
                    patch.level,
                    0.8,
                )
            )
    return _concatenate(blocks)


def _concatenate(blocks) -> dict[str, np.ndarray]:
    starts = np.cumsum([0] + [len(block[0]) for block in blocks])
    columns = {"positions": [], "triangles": [], "part": [], "tint": []}
    columns |= {"rest": [], "level": [], "open_sky": []}
    for start, (positions, triangles, part, tint, rest, level, sky) in zip(starts, blocks):
        n, t = len(positions), len(triangles)
        columns["positions"].append(positions)
        columns["triangles"].append(triangles + np.int32(start))
        columns["part"].append(np.broadcast_to(np.int32(part), t))
        columns["tint"].append(np.full(t, tint, np.int32))
        columns["rest"].append(rest)
        columns["level"].append(np.broadcast_to(np.float32(level), n))
        columns["open_sky"].append(np.broadcast_to(np.float32(sky), n))
    return {name: np.concatenate(parts) for name, parts in columns.items()}


def render(assets: HeadAssets, model: Model, conditions: Conditions, size: int = 112) -> Picture:
    """Draw one picture; the same arguments give the same bytes."""
    scene = assemble(assets, model, conditions)
    turn = rotation(conditions.yaw, conditions.pitch, conditions.roll)
    pivot = model.person.positions[assets.nose_tip] - np.array([0, 0, 0.6], np.float32)
    camera = (scene["positions"] - pivot) @ turn.T
    normals = raster.vertex_normals(camera, scene["triangles"])
    _smooth_layer_normals(normals, len(assets.base), model)
    landmarks, screen = _project(assets, model, conditions, camera, turn, pivot, size)
    n = size * OVERSAMPLE
    depth = np.full((n, n), -9, np.float32)
    index = np.full((n, n), -1, np.int32)
    weights = np.zeros((n, n, 2), np.float32)
    surface = (scene["triangles"], scene["part"])
    raster.rasterise(
        screen, *surface, scene["rest"], scene["level"], model.texture, depth, index, weights
    )
    centred = camera - turn @ (HEAD_CENTRE - pivot)
    lit = raster.visible_from(centred, *surface, conditions.lamp)
    light = paint_background(conditions, n)
    half = conditions.lamp + np.array([0, 0, 1], np.float32)
    shading.shade(
        light, index, weights, *surface, scene["tint"], normals, scene["rest"], scene["level"],
        scene["open_sky"], lit, model.texture, _palette(model, conditions),
        assets.eye_centres, _gaze(conditions), conditions.lamp, half / np.linalg.norm(half),
        conditions.lamp_rgb, conditions.sky_rgb, conditions.ground_rgb, _look(model, conditions),
    )  # fmt: skip
    return Picture(
        image=develop(light, conditions, size),
        landmarks=landmarks.astype(np.float32),
        yaw=float(np.degrees(conditions.yaw)),
        pitch=float(np.degrees(conditions.pitch)),
        roll=float(np.degrees(conditions.roll)),
    )


def _smooth_layer_normals(normals: np.ndarray, heads: int, model: Model) -> None:
    """Hair layers shade mostly as the skin below, so that their many folds do not glitter."""
    count = len(model.layer_of)
    for i in range(len(LAYERS)):
        block = slice(heads + i * count, heads + (i + 1) * count)
        mixed = normals[block] + normals[model.layer_of]
        normals[block] = mixed / (np.linalg.norm(mixed, axis=1, keepdims=True) + 1e-9)


def _project(assets, model, conditions, camera, turn, pivot, size):
    """Landmarks (5, 2) in the crop and screen coordinates (N, 3) in the oversampled crop."""
    eyes = (eye_positions(assets, model.person.positions) - pivot) @ turn.T
    eyes += turn[:, 2] * np.float32(0.11)  # from the middle of the eyeball to the pupil
    left, right = assets.mouth_corners
    points = np.stack([eyes[1], eyes[0], camera[assets.nose_tip], camera[right], camera[left]])

    def flatten(xyz):
        scale = conditions.distance / (conditions.distance - xyz[:, 2])
        return np.stack([xyz[:, 0] * scale, -xyz[:, 1] * scale], -1)

    flat = flatten(points.astype(np.float64))
    matrix, shift = fit_similarity(flat, (TEMPLATE + conditions.jitter) * size / 112)
    screen = np.empty_like(camera)
    screen[:, :2] = (flatten(camera) @ matrix.T + shift) * OVERSAMPLE
    screen[:, 2] = 1 / (conditions.distance - camera[:, 2])
    return flat @ matrix.T + shift, screen


def _gaze(conditions: Conditions) -> np.ndarray:
    """Unit directions (2, 3) of left and right eye in the head's frame; they converge a little."""
    across, up = conditions.gaze
    turn = np.array([across - 0.03, across + 0.03])
    return np.stack([np.sin(turn), np.full(2, np.sin(up)), np.cos(turn)], -1) / np.sqrt(
        1 + np.sin(up) ** 2
    )


def _palette(model: Model, conditions: Conditions) -> np.ndarray:
    palette = np.zeros((6, 3), np.float32)
    palette[shading.HAIR] = model.person.hair
    palette[shading.IRIS] = model.person.iris
    palette[shading.SHIRT] = conditions.shirt
    return palette


def _look(model: Model, conditions: Conditions) -> np.ndarray:
    look = np.zeros(5, np.float32)
    look[shading.AMBIENT], look[shading.KEY] = conditions.ambient, conditions.key
    look[shading.OIL], look[shading.COLLAR] = conditions.oil, conditions.collar
    look[shading.GREY] = 0.6 * model.person.grey
    return look


def contact_row(pictures) -> np.ndarray:
    """Pictures side by side."""
    return cv2.hconcat([picture.image for picture in pictures])
