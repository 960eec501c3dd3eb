"""The small z-buffer rasteriser and shader behind the rendered faces: numba kernels.

Screen arrays have x to the right, y down and z = 1 / distance, so that larger is nearer and
linear interpolation over a triangle is exact for depth. A pixel stores the index of its triangle
and two barycentric weights; everything else is interpolated when it is shaded.

Light is linear RGB. Skin wraps light around the terminator, red furthest, as scattering below the
surface does; hair shines along its strands (Kajiya and Kay 1989).

Kernels that call each other share this file: numba's cache does not see changes in other files.
"""

import numpy as np
from numba import njit

# What a triangle is made of.
SKIN, EAR, INNER, EYE, TEETH, LASH, SHELL, CURTAIN, SOLID, DRAPE = range(10)

TEXTURE = 256  # texels on a side of the cylindrical head texture
AXIS_Z = 0.45  # the vertical axis of that cylinder, in rest units
TOP_Y, BOTTOM_Y = 8.6, 5.5
RED, GREEN, BLUE, COVERAGE, STRAND = range(5)  # channels of a head texture

# Rows of the palette: colours that do not come from the texture.
HAIR, IRIS, SHIRT, FRAME, CLOTH, HAND, MATERIAL = range(7)
# From row MATERIAL on: colours of parts, by part.
PART_COLOURS = np.zeros((LASH + 1, 3), np.float32)
PART_COLOURS[INNER] = (0.10, 0.028, 0.025)
PART_COLOURS[TEETH] = (0.42, 0.38, 0.32)
PART_COLOURS[LASH] = (0.020, 0.014, 0.011)
# Entries of the `look` vector.
AMBIENT, KEY, OIL, COLLAR, GREY = range(5)


# Single precision throughout the inner loop.
ZERO, HALF, ONE, EDGE = np.float32(0), np.float32(0.5), np.float32(1), np.float32(-1e-5)


@njit(fastmath=True, cache=True)
def texel(x, y, z):
    """Rest position -> (column, row) of the head texture, as floats; finer at the front."""
    turn = np.arctan2(x, z - AXIS_Z) / np.pi
    column = (0.5 + 0.75 * turn - 0.25 * turn * turn * turn) * (TEXTURE - 1.001)
    row = (TOP_Y - y) / (TOP_Y - BOTTOM_Y) * (TEXTURE - 1.001)
    return column, min(max(row, 0.0), TEXTURE - 1.001)


@njit(fastmath=True, cache=True)
def texture_coordinates(rest):
    """Rest positions (N, 3) -> columns (N,), rows (N,) float32."""
    columns = np.empty(len(rest), np.float32)
    rows = np.empty(len(rest), np.float32)
    for i in range(len(rest)):
        columns[i], rows[i] = texel(rest[i, 0], rest[i, 1], rest[i, 2])
    return columns, rows


@njit(fastmath=True, cache=True)
def _covered(texture, kind, level, x, y, z):
    """Does a hair layer at height `level` (0 root .. 1 tip) have a strand at this rest position?"""
    if kind == CURTAIN and level < 0.33:
        return True
    column, row = texel(x, y, z)
    i, j = int(row), int(column)
    cover = texture[i, j, COVERAGE]
    return cover > 0.02 and texture[i, j, STRAND] > 1.0 - cover * (1.25 - 0.75 * level)


@njit(fastmath=True, cache=True)
def _pixel_range(a, b, c, limit):
    """First and one past the last pixel whose centre lies between the smallest and the largest."""
    return int(max(min(a, b, c) + HALF, ZERO)), min(limit, int(max(a, b, c) + HALF))


@njit(fastmath=True, cache=True)
def rasterise(screen, triangles, part, rest, level, texture, depth, index, weights):
    """Draw triangles into `depth`, `index` (triangle or -1) and `weights` (two barycentric).

    Back faces of closed parts are dropped; hair layers drop the pixels between their strands.
    """
    height, width = depth.shape
    for t in range(len(triangles)):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        x0, x1, x2 = screen[a, 0], screen[b, 0], screen[c, 0]
        left, right = _pixel_range(x0, x1, x2, width)
        if left >= right:
            continue
        y0, y1, y2 = screen[a, 1], screen[b, 1], screen[c, 1]
        top, bottom = _pixel_range(y0, y1, y2, height)
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        kind = part[t]
        if top >= bottom or area == 0 or (area > 0 and (kind <= TEETH or kind == SHELL)):
            continue
        inverse = ONE / area
        hairy = kind == SHELL or kind == CURTAIN
        for y in range(top, bottom):
            py = np.float32(y) + HALF
            for x in range(left, right):
                px = np.float32(x) + HALF
                u = ((x1 - px) * (y2 - py) - (x2 - px) * (y1 - py)) * inverse
                v = ((x2 - px) * (y0 - py) - (x0 - px) * (y2 - py)) * inverse
                w = ONE - u - v
                z = u * screen[a, 2] + v * screen[b, 2] + w * screen[c, 2]
                if u < EDGE or v < EDGE or w < EDGE or z <= depth[y, x]:
                    continue
                if hairy:
                    deep = u * level[a] + v * level[b] + w * level[c]
                    rx = u * rest[a, 0] + v * rest[b, 0] + w * rest[c, 0]
                    ry = u * rest[a, 1] + v * rest[b, 1] + w * rest[c, 1]
                    rz = u * rest[a, 2] + v * rest[b, 2] + w * rest[c, 2]
                    if not _covered(texture, kind, deep, rx, ry, rz):
                        continue
                depth[y, x] = z
                index[y, x] = t
                weights[y, x, 0] = u
                weights[y, x, 1] = v


def rasterise_plain(screen, triangles, depth, index, weights):
    """Draw opaque, two-sided triangles: no culling, no hair."""
    part, level = np.full(len(triangles), SOLID, np.int32), np.zeros(len(screen), np.float32)
    texture = np.zeros((1, 1, 5), np.float32)
    rasterise(screen, triangles, part, screen, level, texture, depth, index, weights)


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
def _hair_gloss(nx, ny, nz, hx, hy, hz):
    """Highlight across the strands, which run downhill on the surface."""
    along = (nx * ny * hx + (ny * ny - 1) * hy + nz * ny * hz) / np.sqrt(max(0.02, 1 - ny * ny))
    return max(0.0, 1 - along * along) ** 18


@njit(fastmath=True, cache=True)
def _lit(colour, around, sky, lamp, facing, wrap, gloss):
    """Light of the sky and of the lamp, wrapped round the terminator, and the highlight."""
    return colour * (around * sky + lamp * max(0.0, (facing + wrap) / (1 + wrap))) + lamp * gloss


@njit(fastmath=True, cache=True)
def shade(
    image, index, weights, triangles, part, tint, normal, rest, level, open_sky, lit, texture,
    palette, eyes, gaze, lamp, half, lamp_rgb, sky_rgb, ground_rgb, look,
):  # fmt: skip
    """Colour every pixel of `image` (H, W, 3) that has a triangle in `index`.

    Long on purpose: handing arrays to a helper at each pixel doubles its time (measured).

    Args:
        part, tint: (T,) kind and palette row of each triangle.
        normal, rest: (N, 3); level, open_sky, lit: (N,) hair layer, occlusion and lamp visibility.
        eyes, gaze: (2, 3) rest centres and head-fixed unit directions of left and right eye.
        lamp, half: (3,) unit vectors to the lamp and half-way to the viewer, camera frame.
        look: see the entries above.
    """
    height, width = index.shape
    for py in range(height):
        for px in range(width):
            t = index[py, px]
            if t < 0:
                continue
            a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            u, v = weights[py, px, 0], weights[py, px, 1]
            w = 1 - u - v
            kind, row = part[t], tint[t]
            nx = u * normal[a, 0] + v * normal[b, 0] + w * normal[c, 0]
            ny = u * normal[a, 1] + v * normal[b, 1] + w * normal[c, 1]
            nz = u * normal[a, 2] + v * normal[b, 2] + w * normal[c, 2]
            norm = 1 / (np.sqrt(nx * nx + ny * ny + nz * nz) + 1e-6)
            if nz < 0 and kind >= CURTAIN:  # open surfaces have two sides
                norm = -norm
            nx, ny, nz = nx * norm, ny * norm, nz * norm
            x = u * rest[a, 0] + v * rest[b, 0] + w * rest[c, 0]
            y = u * rest[a, 1] + v * rest[b, 1] + w * rest[c, 1]
            z = u * rest[a, 2] + v * rest[b, 2] + w * rest[c, 2]
            sky = u * open_sky[a] + v * open_sky[b] + w * open_sky[c]
            seen = u * lit[a] + v * lit[b] + w * lit[c]
            facing = nx * lamp[0] + ny * lamp[1] + nz * lamp[2]
            shine = max(0.0, nx * half[0] + ny * half[1] + nz * half[2])
            wrap_r, wrap_g, wrap_b, gloss, bounce = 0.05, 0.05, 0.05, 0.0, 0.0
            if kind == EYE:
                e = 0 if x > 0 else 1
                x, y, z = x - eyes[e, 0], y - eyes[e, 1], z - eyes[e, 2]
                away = 1 / (np.sqrt(x * x + y * y + z * z) + 1e-6)
                red, green, blue = _eye_colour(x * away, y * away, z * away, gaze[e], palette[IRIS])
                lid = min(1.0, max(0.35, 1.15 - 1.1 * y * away))  # shade of the upper lid
                red, green, blue = red * lid, green * lid, blue * lid
                gloss, sky = 0.7 * (shine > 0.99), 0.75
            elif kind == SHELL or kind == CURTAIN:
                column, line = texel(x, y, z)
                strand = _sample(texture, column, line, STRAND)
                deep = u * level[a] + v * level[b] + w * level[c]
                if kind == CURTAIN:
                    deep = 0.55 + 0.45 * deep
                dark = (0.4 + 0.6 * deep) * (0.74 + 0.52 * strand)
                pale = look[GREY] * max(0.0, strand - 0.5)
                red = (palette[HAIR, 0] * (1 - pale) + 0.4 * pale) * dark
                green = (palette[HAIR, 1] * (1 - pale) + 0.4 * pale) * dark
                blue = (palette[HAIR, 2] * (1 - pale) + 0.4 * pale) * dark
                gloss = _hair_gloss(nx, ny, nz, half[0], half[1], half[2]) * deep
                gloss *= 0.055 * (0.25 + 0.75 * strand) * max(0.0, facing + 0.2)
                wrap_r, wrap_g, wrap_b = 0.3, 0.3, 0.3
                sky *= 0.4 + 0.6 * deep
            elif kind > EAR:
                row = MATERIAL + kind if kind <= LASH else row
                red, green, blue = palette[row, 0], palette[row, 1], palette[row, 2]
                gloss = 0.35 * shine**30 * (kind == SOLID)
            elif y < look[COLLAR] + 0.25 * abs(x):
                fold = 0.85 + 0.15 * np.sin(x * 9 + y * 4)
                red, green = palette[SHIRT, 0] * fold, palette[SHIRT, 1] * fold
                blue = palette[SHIRT, 2] * fold
            else:
                if kind == EAR:  # the texture there shows the hair behind the ear: take the cheek
                    x, y, z = (0.55 if x > 0 else -0.55), 6.95, 1.1
                column, line = texel(x, y, z)
                red = _sample(texture, column, line, RED)
                green = _sample(texture, column, line, GREEN)
                blue = _sample(texture, column, line, BLUE)
                wrap_r, wrap_g, wrap_b = 0.34, 0.20, 0.14
                rim = (1 - max(0.0, nz)) ** 4 * (facing > 0)
                gloss = look[OIL] * (shine**22 + 0.35 * shine**6 + 0.5 * rim)
                bounce = 0.4 * sky * (1 - sky)  # blood colours the creases
            up, key = 0.5 + 0.5 * ny, look[KEY] * seen
            for k in range(3):
                around = look[AMBIENT] * (ground_rgb[k] + up * (sky_rgb[k] - ground_rgb[k]))
                colour = red if k == 0 else green if k == 1 else blue
                wrap = wrap_r if k == 0 else wrap_g if k == 1 else wrap_b
                open_k, lamp_k = sky + bounce if k == 0 else sky, key * lamp_rgb[k]
                image[py, px, k] = _lit(colour, around, open_k, lamp_k, facing, wrap, gloss)
