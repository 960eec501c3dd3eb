"""Things that hide part of a face in some pictures: surgical mask, scarf, beanie, a hand.

Cloth is a grid of rest points laid over the posed head: each takes the place of its nearest skin
vertex, moved outwards and smoothed, so that cloth follows the head and stands off it.
"""

import cv2
import numpy as np
from scipy.spatial import cKDTree

from facelib.rendered import raster
from facelib.rendered.accessories import Patch, grid_triangles, merge, tube
from facelib.rendered.heads import HeadAssets
from facelib.rendered.raster import AXIS_Z, CLOTH, HAND

WORN = ("mask", "scarf", "beanie", "hand")


def occluder(assets: HeadAssets, head: np.ndarray, kind: str, rng) -> Patch:
    """The named thing fitted to a posed head (V, 3); `rng` draws its exact place and shape."""
    put_on = {"mask": _mask, "scarf": _scarf, "beanie": _beanie, "hand": _hand}[kind]
    return put_on(assets, head, rng)


def _mask(assets: HeadAssets, head: np.ndarray, rng) -> Patch:
    """A surgical mask from the nose bridge to under the chin, with loops to the ears."""
    turn = np.linspace(-64, 64, 21)[None, :]
    drop = np.linspace(0, 1, 12)[:, None]
    high = rng.uniform(6.9, 7.06) - 0.20 * (np.abs(turn) / 64) ** 1.2
    low = 6.02 + 0.42 * (np.abs(turn) / 64) ** 1.5
    grid = _over_face(assets, turn, high + (low - high) * drop)
    points = _drape(assets, head, grid, stand_off=0.06, smooth=3)
    points += 0.012 * np.sin(drop * 26)[..., None] * (0, 0, 1)  # pleats
    pieces = [(points.reshape(-1, 3), grid_triangles(*points.shape[:2]))]
    for column, side in ((0, -1), (-1, 1)):
        ear = head[_ear_root(assets, side)]
        for row in (1, 8):
            start = points[row, column]
            middle = (start + ear) / 2 + np.array([0.05 * side, 0, 0])
            pieces.append(tube(np.stack([start, middle, ear]), 0.012, (0, 1, 0), sides=3))
    return merge(pieces, raster.DRAPE, CLOTH)


def _scarf(assets: HeadAssets, head: np.ndarray, rng) -> Patch:
    """A scarf round the neck, pulled up to the chin or over the mouth."""
    turn = np.linspace(-180, 180, 41)[None, :]
    drop = np.linspace(0, 1, 9)[:, None]
    high = rng.uniform(6.25, 6.72) - 0.08 * (np.abs(turn) / 180)
    grid = _over_face(assets, turn, high + (5.55 - high) * drop)
    points = _drape(assets, head, grid, stand_off=0.13, smooth=4)
    folds = 0.05 * np.sin(drop * rng.uniform(12, 18) + np.radians(turn) * 2 + rng.uniform(0, 6))
    points += folds[..., None] * _outward(grid)
    return merge([(points.reshape(-1, 3), grid_triangles(*points.shape[:2]))], raster.DRAPE, CLOTH)


def _beanie(assets: HeadAssets, head: np.ndarray, rng) -> Patch:
    """A knitted hat from above the brows to the crown, with a thicker brim."""
    turn = np.radians(np.linspace(-180, 180, 37))[None, :]
    rise = np.linspace(0, 1, 10)[:, None]
    edge = rng.uniform(7.70, 7.90) - 0.28 * (np.abs(turn) / np.pi)
    height = edge + (8.47 - edge) * np.sin(rise * np.pi / 2)
    radius = 0.86 * np.sqrt(np.clip(1 - ((height - 7.5) / 1.0) ** 2, 0.0, 1))
    grid = np.stack([radius * np.sin(turn), height, AXIS_Z + radius * np.cos(turn)], -1)
    points = _drape(assets, head, grid, stand_off=0.075, smooth=2)
    brim = 0.045 * (rise < 0.25) + 0.006 * np.sin(rise * 40)
    points += (brim + 0 * turn)[..., None] * _outward(grid)
    points[..., 1] += 0.10 * rise**3
    return merge([(points.reshape(-1, 3), grid_triangles(*points.shape[:2]))], raster.DRAPE, CLOTH)


def _hand(assets: HeadAssets, head: np.ndarray, rng) -> Patch:
    """Four fingers and a thumb laid across cheek, mouth or chin."""
    side = rng.choice((-1, 1))
    target = head[assets.nose_tip] + (side * rng.uniform(0.05, 0.4), rng.uniform(-0.75, -0.3), 0.0)
    lean = rng.uniform(-0.5, 0.6)
    along = np.array([-side * np.cos(lean), np.sin(lean), 0])
    across = np.array([side * np.sin(lean), np.cos(lean), 0])
    pieces = []
    t = -0.5 * np.cos(np.linspace(0, np.pi, 13))[:, None]
    taper = np.sqrt(np.clip(1 - (2 * np.abs(t[:, 0])) ** 7, 0.0, 1))
    for finger, reach in enumerate((0.85, 1.0, 0.95, 0.75)):
        offset = across * 0.165 * (finger - 1.5) + along * (reach - 1) / 2
        path = target + offset + along * t * 1.1 * reach + (0, 0, 0.02)
        path[:, 2] -= 0.45 * (t[:, 0] + 0.1) ** 2 * (1 + (t[:, 0] < 0))
        pieces.append(tube(path, 0.085 * taper, (0, 0, 1), sides=7))
    palm = target - along * 0.78 + along * t * 0.8 - (0, 0, 0.18)
    pieces.append(tube(palm, 0.32 * taper, (0, 0, 1), sides=9))
    return merge(pieces, raster.DRAPE, HAND)


def _over_face(assets: HeadAssets, degrees: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Rest points (R, C, 3) of the outer surface at angles (1, C) and heights (R, C)."""
    turn = np.radians(degrees) + 0 * height
    column = 0.5 + 0.75 * turn / np.pi - 0.25 * (turn / np.pi) ** 3
    row = (raster.TOP_Y - height) / (raster.TOP_Y - raster.BOTTOM_Y)
    last = raster.TEXTURE - 1
    row, column = (np.clip(share * last, 0, last).astype(int) for share in (row, column))
    return assets.layout[row, column]


def _drape(assets, head, grid, stand_off: float, smooth: int) -> np.ndarray:
    """Lay rest points (R, C, 3) on the posed head: never closer than `stand_off`, smoothed."""
    skin = np.flatnonzero(assets.part_of_vertex == raster.SKIN)
    nearest = skin[cKDTree(assets.base[skin]).query(grid)[1]]
    outward = _outward(grid)
    to_surface = ((assets.base[nearest] - grid) * outward).sum(-1, keepdims=True)
    bare = grid + (head - assets.base)[nearest] + outward * to_surface
    soft = bare
    for _ in range(smooth):
        padded = np.pad(soft, ((1, 1), (1, 1), (0, 0)), mode="reflect", reflect_type="odd")
        soft = (padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]) / 4
    sunk = np.maximum(((bare - soft) * outward).sum(-1), 0)
    sunk = cv2.GaussianBlur(cv2.dilate(sunk, np.ones((3, 3))), (3, 3), 0)[..., None]
    return soft + outward * (sunk + stand_off)


def _outward(grid: np.ndarray) -> np.ndarray:
    """Unit directions (R, C, 3) away from the head's axis; upwards near the crown."""
    away = grid - np.array([0, 7.5, AXIS_Z])
    away[..., 1] = np.maximum(away[..., 1] - 0.35, 0)
    return away / (np.linalg.norm(away, axis=-1, keepdims=True) + 1e-9)


def _ear_root(assets: HeadAssets, side: int) -> int:
    skin = np.flatnonzero(assets.part_of_vertex == raster.SKIN)
    return skin[((assets.base[skin] - (0.76 * side, 7.12, 0.42)) ** 2).sum(1).argmin()]
