"""What a rasterised pixel looks like: skin, eyes, hair and cloth under one lamp and the sky.

Light is linear RGB. Skin wraps light around the terminator, red furthest, as scattering below the
surface does; hair shines along its strands (Kajiya and Kay 1989).
"""

import numpy as np
from numba import njit

from facelib.data.raster import (
    BLUE,
    CURTAIN,
    EAR,
    EYE,
    GREEN,
    INNER,
    LASH,
    RED,
    SHELL,
    SKIN,
    SOLID,
    STRAND,
    TEETH,
    texel,
)

# Rows of the palette: colours that do not come from the texture.
HAIR, IRIS, SHIRT, FRAME, CLOTH, HAND = range(6)
# Entries of the `look` vector.
AMBIENT, KEY, OIL, COLLAR, GREY = range(5)


@njit(fastmath=True, cache=True)
def _sample(texture, column, row, channel):
    i, j = int(row), int(column)
    fy, fx = row - i, column - j
    top = texture[i, j, channel] * (1 - fx) + texture[i, j + 1, channel] * fx
    bottom = texture[i + 1, j, channel] * (1 - fx) + texture[i + 1, j + 1, channel] * fx
    return top * (1 - fy) + bottom * fy


@njit(fastmath=True, cache=True)
def _eye_colour(x, y, z, gaze, iris):
    """Colour of the eyeball at a unit direction from its centre; `gaze` is where it looks."""
    away = np.arccos(min(1.0, max(-1.0, x * gaze[0] + y * gaze[1] + z * gaze[2])))
    if away > 0.50:
        vein = 1.0 - 0.25 * min(1.0, (away - 0.50) * 1.5)
        return 0.50, 0.46 * vein, 0.43 * vein
    if away < 0.19:
        return 0.006, 0.006, 0.007
    ring = 0.35 if away > 0.43 else 0.75 + 1.6 * (away - 0.19) * (1.0 if y < gaze[1] else 0.2)
    return iris[0] * ring, iris[1] * ring, iris[2] * ring


@njit(fastmath=True, cache=True)
def shade(
    image, index, weights, triangles, part, tint, normal, rest, level, open_sky, lit, texture,
    palette, eyes, gaze, lamp, half, lamp_rgb, sky_rgb, ground_rgb, look,
):  # fmt: skip
    """Colour every pixel of `image` (H, W, 3) that has a triangle in `index`.

    Args:
        part, tint: (T,) kind and palette row of each triangle.
        normal, rest: (N, 3); level, open_sky, lit: (N,) hair layer, occlusion and lamp visibility.
        eyes, gaze: (2, 3) rest centres and head-fixed unit directions of left and right eye.
        lamp, half: (3,) unit vectors to the lamp and half-way to the viewer, camera frame.
        look: see the entries above.
    """
    height, width = index.shape
    colour = np.empty(3)
    for py in range(height):
        for px in range(width):
            t = index[py, px]
            if t < 0:
                continue
            a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            u, v = weights[py, px, 0], weights[py, px, 1]
            w = 1 - u - v
            kind = part[t]
            nx = u * normal[a, 0] + v * normal[b, 0] + w * normal[c, 0]
            ny = u * normal[a, 1] + v * normal[b, 1] + w * normal[c, 1]
            nz = u * normal[a, 2] + v * normal[b, 2] + w * normal[c, 2]
            norm = 1 / (np.sqrt(nx * nx + ny * ny + nz * nz) + 1e-6)
            if nz < 0 and kind >= CURTAIN:
                norm = -norm
            nx, ny, nz = nx * norm, ny * norm, nz * norm
            sky = u * open_sky[a] + v * open_sky[b] + w * open_sky[c]
            seen = u * lit[a] + v * lit[b] + w * lit[c]
            x = u * rest[a, 0] + v * rest[b, 0] + w * rest[c, 0]
            y = u * rest[a, 1] + v * rest[b, 1] + w * rest[c, 1]
            z = u * rest[a, 2] + v * rest[b, 2] + w * rest[c, 2]
            facing = nx * lamp[0] + ny * lamp[1] + nz * lamp[2]
            shine = max(0.0, nx * half[0] + ny * half[1] + nz * half[2])
            wrap_r, wrap_g, wrap_b = 0.05, 0.05, 0.05
            gloss = 0.0
            if kind == SKIN or kind == EAR:
                if y < look[COLLAR] + 0.25 * abs(x):
                    fold = 0.85 + 0.15 * np.sin(x * 9 + y * 4)
                    for k in range(3):
                        colour[k] = palette[SHIRT, k] * fold
                else:
                    column, row = texel(x, y, z)
                    if kind == EAR:  # the texture there shows the hair behind the ear
                        column, row = texel(0.55 if x > 0 else -0.55, 6.95, 1.1)
                    colour[0] = _sample(texture, column, row, RED)
                    colour[1] = _sample(texture, column, row, GREEN)
                    colour[2] = _sample(texture, column, row, BLUE)
                    wrap_r, wrap_g, wrap_b = 0.34, 0.20, 0.14
                    rim = (1 - max(0.0, nz)) ** 4
                    gloss = look[OIL] * (shine**22 + 0.35 * shine**6 + 0.5 * rim * (facing > 0))
            elif kind == EYE:
                e = 0 if x > 0 else 1
                dx, dy, dz = x - eyes[e, 0], y - eyes[e, 1], z - eyes[e, 2]
                away = 1 / (np.sqrt(dx * dx + dy * dy + dz * dz) + 1e-6)
                colour[0], colour[1], colour[2] = _eye_colour(
                    dx * away, dy * away, dz * away, gaze[e], palette[IRIS]
                )
                lid = min(1.0, max(0.35, 1.15 - 1.1 * dy * away))
                for k in range(3):
                    colour[k] *= lid
                sky, seen = 0.75, 0.3 + 0.7 * seen
                gloss = 0.7 * (shine > 0.990)
            elif kind == SHELL or kind == CURTAIN:
                column, row = texel(x, y, z)
                strand = _sample(texture, column, row, STRAND)
                deep = u * level[a] + v * level[b] + w * level[c]
                if kind == CURTAIN:
                    deep = 0.55 + 0.45 * deep
                shade_in = (0.4 + 0.6 * deep) * (0.65 + 0.7 * strand)
                pale = look[GREY] * max(0.0, strand - 0.5)
                for k in range(3):
                    colour[k] = (palette[HAIR, k] + pale * (0.4 - palette[HAIR, k])) * shade_in
                flow = 1 / np.sqrt(max(0.02, 1 - ny * ny))  # tangent: downhill on the surface
                tx, ty, tz = nx * ny * flow, (ny * ny - 1) * flow, nz * ny * flow
                along = tx * half[0] + ty * half[1] + tz * half[2]
                gloss = (0.25 + 0.75 * strand) * 0.055 * max(0.0, 1 - along * along) ** 18
                gloss *= deep * max(0.0, facing + 0.2)
                wrap_r, wrap_g, wrap_b = 0.3, 0.3, 0.3
                sky *= 0.4 + 0.6 * deep
            elif kind == TEETH:
                colour[0], colour[1], colour[2] = 0.55, 0.50, 0.42
                sky *= 0.6
            elif kind == INNER:
                colour[0], colour[1], colour[2] = 0.16, 0.045, 0.04
                sky *= 0.5
            elif kind == LASH:
                colour[0], colour[1], colour[2] = 0.020, 0.014, 0.011
            else:
                row_of = tint[t]
                for k in range(3):
                    colour[k] = palette[row_of, k]
                if kind == SOLID:
                    gloss = 0.35 * shine**30
            lamp_r = max(0.0, (facing + wrap_r) / (1 + wrap_r))
            lamp_g = max(0.0, (facing + wrap_g) / (1 + wrap_g))
            lamp_b = max(0.0, (facing + wrap_b) / (1 + wrap_b))
            up = 0.5 + 0.5 * ny
            warm = sky + 0.4 * sky * (1 - sky) * (kind == SKIN)  # blood colours the creases
            shine_light = gloss * seen * look[KEY]
            key = look[KEY] * (0.04 + 0.96 * seen)
            key_cool = look[KEY] * seen
            around = look[AMBIENT]
            image[py, px, 0] = (
                colour[0]
                * (
                    around * warm * (ground_rgb[0] + up * (sky_rgb[0] - ground_rgb[0]))
                    + key * lamp_r * lamp_rgb[0]
                )
                + shine_light * lamp_rgb[0]
            )
            image[py, px, 1] = (
                colour[1]
                * (
                    around * sky * (ground_rgb[1] + up * (sky_rgb[1] - ground_rgb[1]))
                    + key_cool * lamp_g * lamp_rgb[1]
                )
                + shine_light * lamp_rgb[1]
            )
            image[py, px, 2] = (
                colour[2]
                * (
                    around * sky * (ground_rgb[2] + up * (sky_rgb[2] - ground_rgb[2]))
                    + key_cool * lamp_b * lamp_rgb[2]
                )
                + shine_light * lamp_rgb[2]
            )
