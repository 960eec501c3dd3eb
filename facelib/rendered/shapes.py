"""Pictures without any face: lit, textured shapes and fractals, to pretrain the stand-in on.

A class is one *instance*: an outline, a height map and a coloured texture of random noise, patches
and fractals. Its images are *views* of it: turned, moved, under another light, on another
background, partly hidden, blurred, in other colours. So the ordinary pair batch of InfoNCE holds
two augmented views of each instance, and the files are an ordinary training set.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from tqdm.auto import tqdm

from facelib.digests import digest_values
from facelib.errors import UserError
from facelib.formats.decode import encode_jpeg
from facelib.formats.recordio import write_face_records
from facelib.paths import data_root, make_folder

log = logging.getLogger(__name__)

LOOK_VERSION = 1  # part of the digest: raise it when other pictures are drawn
MAP = 64  # pixels a side of an instance's maps


@dataclass(frozen=True)
class ShapesSpec:
    """How many instances, views of each, pixels a side."""

    instances: int = 4000
    views: int = 6
    size: int = 32
    seed: int = 0

    def __post_init__(self):
        for name, low, high in (("instances", 2, 10**6), ("views", 2, 1000), ("size", 16, 256)):
            if not low <= (value := getattr(self, name)) <= high:
                raise UserError(f"shapes: {name}={value} must be from {low} to {high}")

    def digest(self) -> str:
        """First 8 hex digits of a hash of all values and of the drawing's version."""
        return digest_values({"look": LOOK_VERSION, **asdict(self)}, digits=8)


def shapes_dataset(spec: ShapesSpec, root: Path | None = None) -> Path:
    """Folder of the training set of `spec`, made on first use; whole or not at all."""

    folder = Path(root or data_root()) / f"shapes-{spec.digest()}"
    return make_folder(folder, partial(_build, spec))


def _build(spec: ShapesSpec, folder: Path) -> None:
    names = [f"shape-{i:05d}" for i in range(spec.instances)]
    write_face_records(folder, _encoded(spec), size=(spec.size, spec.size), names=names)
    text = json.dumps({"look": LOOK_VERSION, **asdict(spec)}, indent=2)
    (folder / "spec.json").write_text(text + "\n")


def _encoded(spec: ShapesSpec) -> Iterator[tuple[int, bytes]]:
    log.info("drawing %d views of %d shapes", spec.instances * spec.views, spec.instances)
    for number in tqdm(range(spec.instances), desc="shapes", mininterval=1, disable=None):
        for view in draw_views(spec, number):
            yield number, encode_jpeg(view)


def draw_views(spec: ShapesSpec, number: int) -> np.ndarray:
    """Views (V, size, size, 3) uint8 RGB of instance `number`."""
    instance = draw_instance(np.random.default_rng([spec.seed, number]))
    rngs = (np.random.default_rng([spec.seed, number, view + 1]) for view in range(spec.views))
    return np.stack([draw_view(instance, rng, spec.size) for rng in rngs])


def contact_sheet(spec: ShapesSpec, instances: int = 5, scale: int = 2) -> np.ndarray:
    """Picture of the first instances: one a row, a view a column."""
    rows = [np.concatenate(draw_views(spec, number), 1) for number in range(instances)]
    return np.concatenate(rows).repeat(scale, 0).repeat(scale, 1)


def draw_instance(rng: np.random.Generator) -> np.ndarray:
    """A random shape, half of them mirror-symmetric: (MAP, MAP, 5) colour, height, mask."""
    y, x = np.mgrid[-1 : 1 : MAP * 1j, -1 : 1 : MAP * 1j].astype(np.float32)
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    outline = rng.uniform(0.6, 0.85) * np.ones_like(x)
    for wave in range(2, 6):
        outline += rng.normal(0, 0.16 / wave) * np.cos(wave * (angle - rng.uniform(0, 6.3)))
    inside = np.clip(1 - radius / outline, 0, 1)
    height = np.sqrt(inside) * 0.8 + inside * _noise(rng, 1.2) * 0.5
    base, other = _colour(rng), _colour(rng)
    blend = _noise(rng, rng.uniform(0.6, 1.6))[..., None]
    albedo = base + (other - base) * blend * rng.uniform(0.2, 0.8)
    for _ in range(rng.integers(3, 9)):
        albedo, height = _add_patch(rng, albedo, height, x, y)
    if rng.random() < 0.4:
        albedo = _add_fractal(rng, albedo)
    if rng.random() < 0.5:
        albedo, height = _mirror(albedo), _mirror(height)
    return np.dstack([np.clip(albedo, 0, 1), height, np.clip(inside * 12, 0, 1)])


def draw_view(instance: np.ndarray, rng: np.random.Generator, size: int) -> np.ndarray:
    """One augmented view of a shape: uint8 (size, size, 3)."""
    turn, scale = rng.normal(0, 0.12), rng.uniform(0.7, 0.95) * MAP / size
    middle = (MAP - 1) / 2 + rng.normal(0, 2.0, 2)
    cos, sin = scale * np.cos(turn), scale * np.sin(turn)
    v, u = np.mgrid[:size, :size].astype(np.float32) - (size - 1) / 2
    tilt = np.clip(rng.normal(0, 0.35, 2), -1.0, 1.0) * (1, 0.5)  # turned to the side, or nodding
    grid_x = (cos * u - sin * v) / np.cos(tilt[0]) + middle[0]
    grid_y = (sin * u + cos * v) / np.cos(tilt[1]) + middle[1]
    # Parallax of a turned height map: what stands out moves with the turn.
    lift = _sample(np.ascontiguousarray(instance[..., 3]), grid_x, grid_y) * MAP * 0.3
    grid_x, grid_y = grid_x - lift * np.tan(tilt[0]), grid_y - lift * np.tan(tilt[1])
    maps = _sample(instance, grid_x, grid_y)
    picture = maps[..., :3] * _shade(rng, maps[..., 3], size)[..., None]
    one, two = _colour(rng), _colour(rng)
    backdrop = one + (two - one) * _noise(rng, 1.0, size)[..., None]
    picture = backdrop + (picture - backdrop) * maps[..., 4:]
    return _degrade(rng, picture, size)


def _sample(maps: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = x.astype(np.float32), y.astype(np.float32)
    return cv2.remap(maps, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def _noise(rng: np.random.Generator, slope: float, size: int = MAP) -> np.ndarray:
    """Fractal noise (size, size) in [0, 1]: octaves whose strength falls by 2^−slope."""
    total = np.zeros((size, size), np.float32)
    for octave in range(1, 5):
        coarse = rng.random((2**octave + 1,) * 2, np.float32)
        fine = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
        total += fine * 2 ** (-slope * octave)
    return (total - total.min()) / (np.ptp(total) + 1e-6)


def _add_patch(rng, albedo, height, x, y) -> tuple[np.ndarray, np.ndarray]:
    """An ellipse of another colour that stands out or lies deeper."""
    cx, cy = rng.uniform(-0.55, 0.55, 2)
    a, b = rng.uniform(0.06, 0.32, 2)
    turn = rng.uniform(0, np.pi)
    p = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)
    q = (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
    soft = np.clip((1 - np.hypot(p / a, q / b)) * rng.uniform(2, 8), 0, 1)
    colour = _colour(rng)
    strength = rng.uniform(0.3, 1.0) * soft[..., None]
    return albedo + (colour - albedo) * strength, height + rng.normal(0, 0.2) * soft


def _add_fractal(rng, albedo: np.ndarray) -> np.ndarray:
    """The attractor of a random iterated function system, drawn in one colour (chaos game)."""
    matrices = rng.uniform(-0.8, 0.8, (4, 2, 2))
    matrices *= 0.8 / np.maximum(np.linalg.norm(matrices, 2, (1, 2)), 0.8)[:, None, None]
    shifts = rng.uniform(-0.6, 0.6, (4, 2))
    points = rng.uniform(-1, 1, (1500, 2))
    for _ in range(10):
        chosen = rng.integers(0, 4, len(points))
        points = np.einsum("nij,nj->ni", matrices[chosen], points) + shifts[chosen]
    cells = np.clip((points + 1.3) / 2.6 * MAP, 0, MAP - 1).astype(int)
    density = np.zeros((MAP, MAP), np.float32)
    np.add.at(density, (cells[:, 1], cells[:, 0]), 1)
    density = np.clip(cv2.GaussianBlur(density, (0, 0), 1) * 1.5, 0, 1)[..., None]
    return albedo + (_colour(rng) - albedo) * density


def _colour(rng: np.random.Generator) -> np.ndarray:
    """Mostly a grey with a tint: saturated colours alone would tell the shapes apart."""
    return np.clip(rng.uniform(0.05, 0.95) + rng.normal(0, 0.12, 3), 0, 1).astype(np.float32)


def _mirror(values: np.ndarray) -> np.ndarray:
    half = values[:, : MAP // 2]
    return np.concatenate([half, half[:, ::-1]], 1)


def _shade(rng: np.random.Generator, height: np.ndarray, size: int) -> np.ndarray:
    """Lambertian light from a random direction, (size, size)."""
    dy, dx = np.gradient(cv2.GaussianBlur(height, (0, 0), 0.8) * size * 0.35)
    light = np.array([*rng.normal(0, 0.7, 2), 1.0])
    light /= np.linalg.norm(light)
    facing = (light[2] - light[0] * dx - light[1] * dy) / np.sqrt(1 + dx * dx + dy * dy)
    ambient = rng.uniform(0.4, 0.8)
    return (ambient + (1 - ambient) * np.maximum(facing, 0)) * rng.uniform(0.8, 1.25)


def _degrade(rng: np.random.Generator, picture: np.ndarray, size: int) -> np.ndarray:
    """Hidden part, colour, contrast, blur and noise; then uint8."""
    if rng.random() < 0.2:
        top, left = rng.integers(0, size - size // 4, 2)
        tall, wide = rng.integers(size // 8, size // 2, 2)
        picture[top : top + tall, left : left + wide] = rng.uniform(0, 1, 3)
    picture = picture * rng.normal(1, 0.08, 3) + rng.normal(0, 0.05)
    if rng.random() < 0.1:
        picture = np.repeat(picture.mean(2, keepdims=True), 3, 2)
    picture = 0.5 + (picture - 0.5) * rng.uniform(0.7, 1.2)
    if rng.random() < 0.3:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 1.2) * size / 32)
    picture = picture + rng.normal(0, rng.uniform(0, 0.04), picture.shape)
    return (np.clip(picture, 0, 1) * 255).astype(np.uint8)
