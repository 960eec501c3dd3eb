"""Patches of mesh that are added to a head, and glasses, the most common of them."""

from dataclasses import dataclass

import numpy as np

from facelib.rendered import raster
from facelib.rendered.heads import HeadAssets, eye_centres
from facelib.rendered.normals import vertex_normals
from facelib.rendered.raster import FRAME


@dataclass(frozen=True)
class Patch:
    """A piece of geometry with what shading needs; N vertices, T triangles."""

    positions: np.ndarray  # (N, 3) float32
    triangles: np.ndarray  # (T, 3) int32
    part: int
    rest: np.ndarray  # (N, 3) float32, where the texture is read
    level: np.ndarray  # (N,) float32, height in a hair layer
    tint: int = 0  # palette row

    def normals(self) -> np.ndarray:
        """Unit vertex normals (N, 3)."""
        return vertex_normals(self.positions, self.triangles)


@dataclass(frozen=True)
class Frame:
    """Glasses: half width and height of a lens, its squareness (2 = ellipse), rim thickness."""

    width: float
    height: float
    power: float
    rim: float


FRAMES = (
    Frame(0.235, 0.165, 3.2, 0.018),
    Frame(0.215, 0.200, 2.0, 0.010),
    Frame(0.240, 0.150, 4.5, 0.026),
    Frame(0.225, 0.180, 2.4, 0.012),
)
LENS_POINTS = 28


def grid_triangles(rows: int, columns: int) -> np.ndarray:
    """Two triangles (T, 3) int32 for each cell of a grid of vertices in row order."""
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)[None]).reshape(-1)
    right, below, across = corner + 1, corner + columns, corner + columns + 1
    return np.concatenate(
        [np.stack([corner, below, right], -1), np.stack([right, below, across], -1)]
    ).astype(np.int32)


def tube(path: np.ndarray, radius, up, sides: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Sweep a polygon of `radius` (a number or (P,)) along `path` (P, 3): positions, triangles."""
    tangent = np.gradient(path, axis=0)
    across = np.cross(tangent, up)
    across /= np.linalg.norm(across, axis=1, keepdims=True) + 1e-9
    above = np.cross(across, tangent)
    above /= np.linalg.norm(above, axis=1, keepdims=True) + 1e-9
    turn = np.linspace(0, 2 * np.pi, sides + 1)[None, :, None]
    ring = np.cos(turn) * across[:, None] + np.sin(turn) * above[:, None]
    points = path[:, None] + np.reshape(radius, (-1, 1, 1)) * ring
    return points.reshape(-1, 3), grid_triangles(len(path), sides + 1)


def merge(pieces, part: int, tint: int) -> Patch:
    """Join (positions, triangles) pieces to one patch of one material."""
    starts = np.cumsum([0] + [len(points) for points, _ in pieces])
    points = np.concatenate([points for points, _ in pieces]).astype(np.float32)
    faces = [faces + start for (_, faces), start in zip(pieces, starts)]
    faces = np.concatenate(faces).astype(np.int32)
    return Patch(points, faces, part, points, np.zeros(len(points), np.float32), tint)


def glasses(assets: HeadAssets, positions: np.ndarray, number: int) -> tuple[Patch, np.ndarray]:
    """Frame number 1.. fitted to a head (V, 3): (rims, bridge and temples, lenses (2, n, 3))."""
    frame = FRAMES[(number - 1) % len(FRAMES)]
    skin = positions[assets.part_of_vertex == raster.SKIN]
    centres = eye_centres(assets.base, assets.part_of_vertex, positions)
    ears = np.zeros(len(positions), bool)
    ears[assets.triangles[assets.part == raster.EAR]] = True
    ears &= assets.part_of_vertex == raster.SKIN
    turn = np.linspace(0, 2 * np.pi, LENS_POINTS)
    power = 2 / frame.power
    round_x = np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** power * frame.width
    round_y = np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** power * frame.height
    pieces, lenses, inner = [], [], []
    for side, eye in zip((1, -1), centres):
        x = eye[0] + side * (0.02 + round_x)
        y = eye[1] - 0.035 + round_y
        plane = -0.25 * np.abs(x - eye[0] + side * frame.width)
        near = np.hypot(x[:, None] - skin[None, :, 0], y[:, None] - skin[None, :, 1]) < 0.07
        front = np.where(near & (skin[None, :, 2] > eye[2] - 0.3), skin[None, :, 2], -9).max(1)
        depth = max((front - plane).max() + 0.03, eye[2] + 0.24)
        outline = np.stack([x, y, plane + depth], -1)
        lenses.append(outline)
        inner.append(outline[LENS_POINTS // 2 - 3])
        pieces.append(tube(outline, frame.rim, (0, 0, 1)))
        ear = positions[ears & (assets.base[:, 0] * side > 0)]
        top = ear[ear[:, 1].argmax()] + (0.0, -0.02, -0.05)
        hinge = outline[2]
        t = np.linspace(0, 1, 7)[:, None]
        bow = 0.07 * side * np.sin(np.pi * t) * np.array([[1.0, 0, 0]])
        pieces.append(tube(hinge * (1 - t) + top * t + bow, max(frame.rim, 0.014), (0, 1, 0)))
    t = np.linspace(0, 1, 6)[:, None]
    arch = np.sin(np.pi * t) * np.array([[0, 0.03, 0.03]])
    pieces.append(tube(inner[0] * (1 - t) + inner[1] * t + arch, frame.rim, (0, 1, 0)))
    return merge(pieces, raster.SOLID, FRAME), np.stack(lenses).astype(np.float32)
