"""What changes from picture to picture: pose, expression, gaze, light, background, camera."""

from dataclasses import dataclass

import cv2
import numpy as np

from facelib.rendered.people import linear

BOTH_SIDES = (
    *("mouthSmile", "mouthFrown", "mouthStretch", "eyeBlink", "eyeSquint", "eyeWide", "browDown"),
    *("browOuterUp", "cheekSquint", "noseSneer", "mouthUpperUp", "mouthLowerDown", "mouthPress"),
)
OCCLUDERS = ("mask", "scarf", "beanie", "beanie", "hand", "object", "object")
HUES = (-0.5, 2.5, -1.6)  # wood and stone, sky and cloth, leaves: angles on the colour wheel
WHOLE_FACE = (
    *("mouthPucker", "mouthFunnel", "cheekPuff", "mouthLeft", "mouthRight"),
    *("jawLeft", "jawRight", "browInnerUp"),
)


@dataclass(frozen=True)
class Conditions:
    """One picture of a person. Angles in radians, light in linear RGB."""

    yaw: float
    pitch: float
    roll: float
    actions: dict[str, float]
    gaze: tuple[float, float]  # where the eyes look from the head: right/left, up/down
    lamp: np.ndarray  # (3,) unit, camera frame
    key: float
    ambient: float
    lamp_rgb: np.ndarray
    sky_rgb: np.ndarray
    ground_rgb: np.ndarray
    shirt: np.ndarray
    collar: float
    oil: float
    hair_volume: float
    distance: float  # camera to nose, rest units
    jitter: np.ndarray  # (5, 2) landmark errors, pixels of the 112 template
    exposure: float
    contrast: float
    blur: float  # pixels of the 112 template
    noise: float
    shows_glasses: float  # 0..1, compared with how often this person wears them
    dark_lenses: bool
    occluder: str  # "" or one of OCCLUDERS
    cloth: np.ndarray
    seed: int


def sample_conditions(rng: np.random.Generator, yaw: float, strength: float = 1.0) -> Conditions:
    """Draw the conditions of one picture; `strength` scales everything that disturbs."""
    k = strength
    lamp = np.array([rng.normal(0, 0.75 * k), rng.normal(0.55, 0.4 * k), 1.0])
    warmth = rng.normal(0, 0.07 * k)
    tint = np.array([1 + warmth, 1 + rng.normal(0, 0.015 * k), 1 - warmth])
    key = rng.uniform(0.55, 1.05)
    return Conditions(
        yaw=float(yaw),
        pitch=float(rng.normal(0, 0.13 * k)),
        roll=float(rng.normal(0, 0.06 * k)),
        actions=_expression(rng, k),
        gaze=_gaze(rng, yaw),
        lamp=(lamp / np.linalg.norm(lamp)).astype(np.float32),
        key=key,
        ambient=rng.uniform(0.35, 0.75) * (1.25 - 0.35 * key),
        lamp_rgb=(np.array([1.03, 1.0, 0.95]) * tint).astype(np.float32),
        sky_rgb=(np.array([0.96, 1.0, 1.05]) * tint).astype(np.float32),
        ground_rgb=(np.array([0.62, 0.56, 0.50]) * tint).astype(np.float32),
        shirt=_muted_colour(rng),
        collar=float(rng.uniform(5.62, 5.85)),
        oil=float(rng.uniform(0.03, 0.13)),
        hair_volume=float(np.clip(1 + rng.normal(0, 0.2 * k), 0.6, 1.6)),
        distance=float(rng.uniform(5, 12)),
        jitter=rng.normal(0, 1.1 * k, (5, 2)),
        exposure=float(np.exp(rng.normal(0, 0.20 * k))),
        contrast=float(np.exp(rng.normal(0, 0.10 * k))),
        blur=float(abs(rng.normal(0, 0.65 * k))),
        noise=float(rng.uniform(0.003, 0.016) * k),
        shows_glasses=float(rng.random()),
        dark_lenses=bool(rng.random() < 0.12 * k),
        occluder=OCCLUDERS[rng.integers(len(OCCLUDERS))] if rng.random() < 0.15 * k else "",
        cloth=_muted_colour(rng),
        seed=int(rng.integers(1 << 31)),
    )


def _expression(rng, k: float) -> dict[str, float]:
    actions = {"mouthSmileLeft": 0.12, "mouthSmileRight": 0.12}  # a friendly rest
    if rng.random() < 0.75 * min(1.0, k + 0.25):
        for name in BOTH_SIDES:
            if rng.random() < 0.2:
                weight = min(0.9, rng.exponential(0.36) * k)
                actions[f"{name}Left"] = weight * rng.uniform(0.75, 1)
                actions[f"{name}Right"] = weight * rng.uniform(0.75, 1)
        if rng.random() < 0.5:  # people smile at cameras
            smile = 0.12 + rng.uniform(0, 0.6) * k
            actions["mouthSmileLeft"] = actions["mouthSmileRight"] = smile
        if rng.random() < 0.3:
            actions["jawOpen"] = rng.random() * 0.45 * k
        if rng.random() < 0.1:
            actions[WHOLE_FACE[rng.integers(len(WHOLE_FACE))]] = rng.random() * 0.6 * k
    return actions


def _gaze(rng, yaw: float) -> tuple[float, float]:
    """Most people look at the camera as far as their eyes turn; the others somewhere."""
    towards = np.clip(-yaw, -0.55, 0.55) if rng.random() < 0.65 else rng.normal(0, 0.25)
    return float(towards + rng.normal(0, 0.05)), float(rng.normal(-0.03, 0.08))


def _muted_colour(rng) -> np.ndarray:
    """A restrained surface colour, linear RGB: mostly grey, now and then a hue."""
    value, saturation = rng.uniform(25, 215), rng.beta(1.0, 6.0)
    hue = rng.choice(HUES, p=(0.5, 0.35, 0.15)) + rng.normal(0, 0.25)
    wheel = np.cos(hue + np.array([0, 2.09, 4.19]))
    return linear(np.clip(value * (1 + 0.5 * min(saturation, 0.6) * wheel), 8, 245))


def paint_background(conditions: Conditions, size: int) -> np.ndarray:
    """A blurred scene (size, size, 3): wall, floor or sky, a few upright and level shapes."""
    rng = np.random.default_rng(conditions.seed)
    grid = 28
    slope = np.linspace(rng.uniform(0.8, 1.25), rng.uniform(0.8, 1.25), grid)
    scene = _muted_colour(rng)[None, None] * slope[:, None, None] * np.ones((1, grid, 1))
    for _ in range(rng.integers(1, 6)):
        width, height = rng.integers(3, 12), rng.integers(4, 26)
        left, top = rng.integers(-4, grid, 2)
        scene[max(0, top) : top + height, max(0, left) : left + width] = _muted_colour(rng)
    scene = cv2.GaussianBlur(scene.astype(np.float32), (0, 0), rng.uniform(0.9, 4.0))
    return cv2.resize(scene * conditions.lamp_rgb, (size, size), interpolation=cv2.INTER_CUBIC)


def hold_object(light: np.ndarray, conditions: Conditions) -> np.ndarray:
    """A blurred thing close to the lens that reaches into the picture from one side."""
    rng = np.random.default_rng(conditions.seed + 2)
    size = len(light)
    centre, tilt = rng.uniform(0.1, 0.9), rng.uniform(-25, 25) + 90 * rng.integers(4)
    long, wide = rng.uniform(0.45, 0.8) * size, rng.uniform(0.16, 0.4) * size
    direction = np.radians(tilt)
    middle = size / 2 + 0.62 * size * np.array([np.cos(direction), np.sin(direction)])
    middle += (centre - 0.5) * 0.7 * size * np.array([-np.sin(direction), np.cos(direction)])
    cover = np.zeros((size, size), np.float32)
    corners = cv2.boxPoints((tuple(middle.tolist()), (long, wide), tilt))
    cv2.fillConvexPoly(cover, np.round(corners).astype(np.int32), 1.0)
    cover = cv2.GaussianBlur(cover, (0, 0), rng.uniform(0.012, 0.04) * size)[..., None]
    shade = np.linspace(0.7, 1.2, size, dtype=np.float32)[None, :, None]
    return light * (1 - cover) + cover * shade * conditions.cloth * conditions.lamp_rgb


def develop(light: np.ndarray, conditions: Conditions, size: int) -> np.ndarray:
    """Linear light (n, n, 3) -> sRGB picture (size, size, 3) uint8, through lens and sensor."""
    image = cv2.resize(light, (size, size), interpolation=cv2.INTER_AREA)
    sigma = conditions.blur * size / 112
    if sigma > 0.25:
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    image = np.clip(image * np.float32(conditions.exposure), 0, None)
    image = np.where(image > 0.7, 0.7 + 0.3 * np.tanh((image - 0.7) / 0.45), image)  # shoulder
    image = np.power(image, np.float32(conditions.contrast / 2.2))
    rng = np.random.default_rng(conditions.seed + 1)
    image += rng.standard_normal(image.shape, np.float32) * np.float32(conditions.noise)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
