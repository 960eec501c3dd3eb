"""The texture of a rendered head: skin, lips, brows, beard shadow, and where hair grows.

Colours are linear RGB. Everything is painted in rest positions of the average head, so that one
brush (an eyebrow, a cheek) lands on the same feature of every head.
"""

from functools import lru_cache

import cv2
import numpy as np
from numba import njit

from facelib.rendered.heads import HeadAssets
from facelib.rendered.people import Person
from facelib.rendered.raster import TEXTURE, texel
from facelib.rendered.styles import above_hairline, beard_cover, scalp_cover, smoothstep

# The part of the texture that holds the face: below the crown, above the throat, to the ears.
_LEFT, _TOP = texel(-0.9, 8.15, 0.35)
_RIGHT, _BOTTOM = texel(0.9, 5.9, 0.35)
FACE = (slice(int(_TOP), int(_BOTTOM)), slice(int(_LEFT), int(_RIGHT)))


@lru_cache(maxsize=1)
def noise_fields() -> dict[str, np.ndarray]:
    """Unit-variance textures that tile: pores, mottling, clouds; strands and curls 0..1."""
    rng = np.random.default_rng(20231)

    def blurred(across: float, along: float) -> np.ndarray:
        tiled = rng.standard_normal((TEXTURE, TEXTURE)).astype(np.float32)
        tiled = cv2.copyMakeBorder(tiled, *[64] * 4, cv2.BORDER_WRAP)
        field = cv2.GaussianBlur(tiled, (0, 0), across, sigmaY=along)[64:-64, 64:-64]
        return field / field.std()

    strands = 0.75 * blurred(0.9, 14) + 0.5 * blurred(3, 20)
    curls = 0.5 * blurred(1.2, 1.2) + 0.8 * blurred(3.0, 3.0)
    return {
        "pores": blurred(0.8, 0.8),
        "mottling": blurred(3, 3),
        "clouds": blurred(12, 12),
        "strands": _uniform(strands),
        "curls": _uniform(curls),
        "bristles": _uniform(blurred(0.7, 1.6)),
    }


def _uniform(field: np.ndarray) -> np.ndarray:
    """Replace values by their ranks, so that a threshold t keeps a share 1 − t of the field."""
    ranks = np.empty(field.size, np.float32)
    ranks[np.argsort(field, axis=None)] = np.linspace(0, 1, field.size, dtype=np.float32)
    return ranks.reshape(field.shape)


def paint_head(assets: HeadAssets, person: Person) -> np.ndarray:
    """Texture (TEXTURE, TEXTURE, 5) float32: linear red, green, blue, hair coverage, strands."""
    rng = np.random.default_rng(person.seed)
    noise = noise_fields()
    shift = rng.integers(0, TEXTURE, 2)
    grain = {name: np.roll(noise[name], shift, (0, 1)) for name in ("pores", "mottling", "clouds")}
    strands = strand_field(person, shift)
    tones = 1 + 0.03 * grain["pores"] + 0.025 * (1 + person.age) * grain["mottling"]
    paint = tones[..., None] * person.skin
    beard, window = np.zeros((TEXTURE, TEXTURE), np.float32), {n: f[FACE] for n, f in grain.items()}
    beard[FACE] = _paint_face(paint[FACE], person, assets, rng, window)
    above = above_hairline(assets.layout, person.hairstyle, person.hairline)
    scalp = scalp_cover(assets.layout, person.hairstyle, above)
    near = 0.35 * smoothstep(above, -0.16, 0.02) * (scalp > 0)  # hair shades its own line
    blend(paint, near, np.zeros(3, np.float32))
    blend(paint, scalp * (0.7 + 0.3 * strands), person.hair * np.float32(0.45))

    bristles = np.roll(noise["bristles"], shift, (0, 1))
    return np.dstack(
        [
            np.clip(paint, 0.004, 1),
            np.maximum(scalp, beard * (person.beard.length > 0.02)),
            np.where(assets.layout[..., 1] < 7.0, bristles, strands),  # beards are finer than hair
        ]
    ).astype(np.float32)


def _paint_face(paint, person: Person, assets: HeadAssets, rng, grain) -> np.ndarray:
    """Paint features onto the window `FACE` of the texture; the beard's density is returned."""
    rest, lips, lids = assets.layout[FACE], assets.lips[FACE], assets.lids[FACE]
    _paint_blood(paint, person, rest, rng, grain)
    _paint_marks(paint, person, rest, rng, grain)
    _paint_lips(paint, person, rest, lips, rng)
    blend(paint, lids * np.float32(rng.uniform(0.1, 0.35)), person.skin * np.float32(0.2))
    brows = brow_cover(rest, rng) * (0.9 + 0.1 * grain["pores"])
    blend(paint, brows, person.hair * np.float32(0.45))
    beard = beard_cover(rest, person.beard, lips)
    stubble = beard * (0.55 + 0.35 * grain["pores"])
    if person.beard.length < 0.02:
        stubble = stubble * 0.6
    blend(paint, stubble, person.hair * np.float32(0.6))
    return beard


def strand_field(person: Person, shift: np.ndarray) -> np.ndarray:
    """Strands (TEXTURE, TEXTURE) 0..1: straight, slanted by the style, or mixed with curls."""
    noise = noise_fields()
    curl = max(person.hairstyle.curl, person.curl * 0.9)
    slant = person.hairstyle.sweep
    rows, columns = np.ogrid[:TEXTURE, :TEXTURE]
    wave = 3.0 * np.sin(rows / 9.0 + person.seed % 7)
    source = (columns + slant * rows + curl * wave + shift[1]).astype(int) % TEXTURE
    straight = noise["strands"][(rows + shift[0]) % TEXTURE, source]
    curls = np.roll(noise["curls"], shift, (0, 1))
    mix = float(np.clip(2.5 * curl - 1.1, 0, 1))
    return ((1 - mix) * straight + mix * curls).astype(np.float32)


@njit(fastmath=True, cache=True)
def blend(paint, alpha, colour):
    """Lay `colour` (3,) over `paint` (H, W, 3) in place with opacity `alpha` (H, W), clipped."""
    for i in range(paint.shape[0]):
        for j in range(paint.shape[1]):
            a = min(1.0, max(0.0, alpha[i, j]))
            for k in range(3):
                paint[i, j, k] += a * (colour[k] - paint[i, j, k])


def _paint_blood(paint, person: Person, rest, rng, grain) -> None:
    """Blood in cheeks and nose, a yellower forehead, a shade of beard on the jaw of men."""
    x, y, z = np.abs(rest[..., 0]), rest[..., 1], rest[..., 2]
    front = smoothstep(z, 0.4, 0.8)
    cheeks = np.exp(-((x - 0.45) ** 2) / 0.05 - (y - 6.9) ** 2 / 0.06)
    nose = np.exp(-(x**2) / 0.02 - (y - 6.93) ** 2 / 0.02)
    blood = (cheeks * rng.uniform(0.3, 1.1) + nose * rng.uniform(0.2, 0.9)) * front
    blood = blood * (1 - 0.55 * person.melanin) + 0.07 * grain["clouds"]
    forehead = smoothstep(y, 7.5, 7.8) * front * rng.uniform(0.0, 0.03)
    jaw = smoothstep(y, 6.85, 6.55) * front * (0.09 if person.male else 0.015)
    paint[..., 0] *= 1 + 0.06 * blood - jaw
    paint[..., 1] *= 1 - 0.13 * blood - jaw + forehead
    paint[..., 2] *= 1 - 0.14 * blood - jaw


def _paint_marks(paint, person: Person, rest, rng, grain) -> None:
    """Eye shadows, folds that come with age, freckles and moles."""
    x, y, z = np.abs(rest[..., 0]), rest[..., 1], rest[..., 2]
    front = smoothstep(z, 0.5, 0.8)
    rings = np.exp(-((x - 0.31) ** 2) / 0.02 - (y - 7.13) ** 2 / 0.003) * front
    sockets = np.exp(-((x - 0.29) ** 2) / 0.03 - (y - 7.36) ** 2 / 0.004) * front
    shade = rings * rng.uniform(0.04, 0.22) + sockets * rng.uniform(0.05, 0.2)
    fold_x = 0.20 + (6.9 - y) * 0.42
    fold = np.exp(-(((x - fold_x) / 0.022) ** 2)) * smoothstep(y, 6.58, 6.7) * (y < 6.92)
    lines = 0.5 + 0.5 * np.sin(y * 62 + 2.5 * np.cos(x * 3.1))
    frown = lines**6 * smoothstep(y, 7.62, 7.72)
    frown = frown * smoothstep(y, 8.05, 7.9) * smoothstep(x, 0.5, 0.3)
    shade = shade + (0.30 * fold + 0.22 * frown) * front * smoothstep(person.age, 0.15, 0.8)
    freckled = rng.random() < 0.25 and person.melanin < 0.4
    strength = rng.uniform(0.1, 0.4) * freckled
    spots = np.clip(grain["pores"] - 0.7, 0, 1) * np.exp(-(x**2) / 0.3 - (y - 7.0) ** 2 / 0.06)
    shade = shade + strength * spots * front
    for _ in range(rng.poisson(1.3)):
        mx, my, radius = rng.uniform(-0.6, 0.6), rng.uniform(6.3, 7.9), rng.uniform(0.012, 0.026)
        mole = np.exp(-((rest[..., 0] - mx) ** 2 + (y - my) ** 2) / radius**2)
        shade = np.maximum(shade, 0.6 * mole * front)
    paint *= 1 - np.clip(shade, 0, 0.7)[..., None] * np.array([0.75, 1.0, 0.95], np.float32)


def _paint_lips(paint, person: Person, rest, lips, rng) -> None:
    """Natural or painted lips and the dark line between them."""
    blush = np.array([0.80, 0.52, 0.54]) + person.melanin * np.array([0.0, 0.22, 0.22])
    natural = person.skin * blush * rng.uniform(0.85, 1.05)
    if not person.male and rng.random() < 0.4:
        stick = np.array([[0.42, 0.04, 0.06], [0.48, 0.13, 0.14], [0.30, 0.04, 0.08]])
        natural = 0.45 * natural + 0.55 * stick[rng.integers(3)] * (1 - 0.4 * person.melanin)
    blend(paint, lips * np.float32(0.8), natural.astype(np.float32))
    y, x = rest[..., 1], np.abs(rest[..., 0])
    parting = np.exp(-(((y - 6.625) / 0.012) ** 2)) * smoothstep(x, 0.27, 0.2)
    blend(paint, 0.55 * parting * lips, np.zeros(3, np.float32))


def brow_cover(rest: np.ndarray, rng) -> np.ndarray:
    """Density (...) of the eyebrows: a tapered arc, soft below, its shape drawn from `rng`."""
    x, y = np.abs(rest[..., 0]), rest[..., 1]
    lift, arch = rng.normal(0.0, 0.03), rng.uniform(0.02, 0.09)
    thickness, density = rng.uniform(0.030, 0.062), rng.uniform(0.65, 1.0)
    inner, outer = rng.uniform(0.07, 0.13), rng.uniform(0.52, 0.62)
    along = np.clip((x - inner) / (outer - inner), -0.2, 1.2)
    middle = 7.50 + lift + 0.015 * (1 - along)
    middle = middle + arch * np.sin(np.clip(along, 0, 1) * 2.2) - 0.06 * along**3
    half = thickness * (1 - 0.62 * np.clip(along, 0, 1) ** 1.5)
    band = smoothstep(np.abs(y - middle) / half, 1.35, 0.45)
    ends = smoothstep(along, -0.10, 0.16) * smoothstep(along, 1.10, 0.75)
    return (band * ends * density * (rest[..., 2] > 0.6)).astype(np.float32)
