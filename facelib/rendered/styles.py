"""Hairstyles and beards as numbers, and the fields over the head that say where hair grows.

Fields take rest positions, so they work on vertices (for hair length) and texels (for coverage).
Angles are about the head's vertical axis: 0 at the front, 90 degrees at the ears.
"""

from dataclasses import dataclass

import numpy as np

from facelib.rendered.raster import AXIS_Z


@dataclass(frozen=True)
class Hairstyle:
    """Lengths in rest units (10 cm); long hair falls to the height `curtain` (0: no long hair)."""

    name: str
    top: float
    sides: float
    front: float = 0.0  # shift of the hairline over the forehead
    recess: float = 0.0  # how far the temples recede
    fringe: float = 0.0  # how far hair falls over the forehead
    curtain: float = 0.0
    curl: float = 0.0
    sweep: float = 0.0  # slant of the strands, in texture columns a row
    crown: float = 1.0  # density at the top of the head; 0 is bald there


@dataclass(frozen=True)
class Beard:
    """Lengths in rest units and density of the areas of a beard."""

    name: str
    length: float = 0.0
    cheeks: float = 0.0
    moustache: float = 0.0
    chin: float = 0.0


HAIRSTYLES = {
    style.name: style
    for style in (
        Hairstyle("bald", 0.01, 0.012, recess=0.3, crown=0.0),
        Hairstyle("buzz", 0.025, 0.02),
        Hairstyle("short", 0.10, 0.04, sweep=0.3),
        Hairstyle("quiff", 0.20, 0.05, front=0.02, sweep=-0.5),
        Hairstyle("side parting", 0.14, 0.06, sweep=0.9),
        Hairstyle("receding", 0.07, 0.04, front=0.12, recess=0.2),
        Hairstyle("fringe", 0.14, 0.10, fringe=0.36),
        Hairstyle("swept fringe", 0.15, 0.10, fringe=0.26, sweep=0.8),
        Hairstyle("afro", 0.25, 0.20, curl=1.0),
        Hairstyle("tied back", 0.05, 0.035),
        Hairstyle("bob", 0.15, 0.14, curtain=6.35, sweep=0.4),
        Hairstyle("bob with fringe", 0.15, 0.14, fringe=0.34, curtain=6.35),
        Hairstyle("long", 0.13, 0.12, curtain=5.2),
        Hairstyle("long with fringe", 0.13, 0.12, fringe=0.34, curtain=5.2),
        Hairstyle("long curly", 0.20, 0.17, curtain=5.6, curl=0.8),
    )
}
MEN = (
    (*("bald", "buzz", "short", "quiff", "side parting"), *("receding", "fringe", "long")),
    (0.10, 0.13, 0.27, 0.12, 0.16, 0.12, 0.07, 0.03),
)
WOMEN = (
    (*("long", "long with fringe", "long curly", "bob", "bob with fringe", "tied back"),
     *("swept fringe", "short", "side parting")),
    (0.24, 0.12, 0.12, 0.13, 0.10, 0.15, 0.06, 0.05, 0.03),
)  # fmt: skip
BEARDS = {
    beard.name: beard
    for beard in (
        Beard("none"),
        Beard("stubble", 0.008, 0.45, 0.45, 0.5),
        Beard("moustache", 0.03, 0.0, 1.0, 0.0),
        Beard("goatee", 0.045, 0.0, 0.9, 1.0),
        Beard("full", 0.05, 0.95, 0.9, 1.0),
        Beard("long beard", 0.12, 1.0, 1.0, 1.0),
    )
}
# Hairline of the average head: angle in degrees -> height y.
LINE_ANGLE = (0, 20, 36, 46, 56, 66, 74, 80, 96, 116, 140, 180)
LINE_HEIGHT = (7.97, 7.98, 7.94, 7.80, 7.60, 7.38, 7.12, 7.16, 7.38, 7.05, 6.55, 6.40)


def smoothstep(x, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between; `low` > `high` turns it round."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def angle(rest: np.ndarray) -> np.ndarray:
    """Unsigned angle (...) in degrees about the head's axis of rest positions (..., 3)."""
    return np.degrees(np.abs(np.arctan2(rest[..., 0], rest[..., 2] - AXIS_Z)))


def above_hairline(rest: np.ndarray, style: Hairstyle, shift: float) -> np.ndarray:
    """Height of rest positions (..., 3) above the hairline, in rest units."""
    turn = angle(rest)
    line = np.interp(turn, LINE_ANGLE, LINE_HEIGHT)
    front = smoothstep(turn, 60, 40)
    temples = np.exp(-(((turn - 34) / 14) ** 2))
    line = line + front * (shift + style.front - style.fringe) + style.recess * temples
    return rest[..., 1] - line


def scalp_cover(rest: np.ndarray, style: Hairstyle, above: np.ndarray) -> np.ndarray:
    """Density (...) of scalp hair, 0..1, more for curls; `above` (...) is from the hairline."""
    cover = smoothstep(above, -0.05, 0.10)
    if style.crown < 1:
        ring = smoothstep(rest[..., 1], 8.0, 7.6) * 0.75
        cover = cover * np.maximum(style.crown, ring)
    return cover * (1 + 0.5 * style.curl)  # curls leave no gaps


def scalp_length(rest: np.ndarray, style: Hairstyle, above: np.ndarray) -> np.ndarray:
    """Thickness (...) of the hair in rest units: `sides` below the temples, `top` above."""
    up = smoothstep(rest[..., 1], 7.5, 8.05)
    full = style.sides + (style.top - style.sides) * up
    rise = smoothstep(above, -0.08, 0.22 if style.fringe == 0 else 0.04)
    return full * np.maximum(rise, 0.12)


def beard_cover(rest: np.ndarray, beard: Beard, lips: np.ndarray) -> np.ndarray:
    """Density (...) of the beard, 0..1; `lips` (...) is where the lips are."""
    x, y, z = np.abs(rest[..., 0]), rest[..., 1], rest[..., 2]
    line = np.interp(x, (0, 0.22, 0.35, 0.5, 0.64, 0.74), (6.52, 6.58, 6.60, 6.66, 6.85, 7.15))
    front = smoothstep(z, 0.35, 0.55)
    throat = smoothstep(y, 5.98, 6.16)
    cheeks = smoothstep(y - line, 0.06, -0.07) * front * throat * beard.cheeks
    moustache = smoothstep(np.abs(y - 6.735 + 0.45 * x * x), 0.085, 0.03)
    moustache = moustache * smoothstep(x, 0.33, 0.20) * beard.moustache * (z > 0.9)
    corners = smoothstep(np.abs(x - 0.285), 0.07, 0.02) * smoothstep(y, 6.74, 6.64) * (y > 6.3)
    chin = smoothstep(x, 0.33, 0.16) * smoothstep(y, 6.56, 6.46) * throat * (z > 0.6)
    chin = np.maximum(chin, 0.8 * corners * (z > 0.9)) * beard.chin
    cover = np.maximum(np.maximum(cheeks, moustache * 1.1), chin)
    return np.clip(cover, 0, 1) * np.clip(1 - 1.2 * lips, 0, 1)
