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
HAIR, IRIS, SHIRT, FRAME, CLOTH, HAND = range(6)
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
def rasterise(screen, triangles, part, rest, level, texture, depth, index, weights):
    """Draw triangles into `depth`, `index` (triangle or -1) and `weights` (two barycentric).

    Back faces of closed parts are dropped; hair layers drop the pixels between their strands.
    """
    height, width = depth.shape
    for t in range(len(triangles)):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        x0, x1, x2 = screen[a, 0], screen[b, 0], screen[c, 0]
        # Pixel centres are at + 0.5: the first one inside is ceil(min - 0.5).
        left = int(max(min(x0, x1, x2) + HALF, ZERO))
        right = min(width, int(max(x0, x1, x2) + HALF))
        if left >= right:
            continue
        y0, y1, y2 = screen[a, 1], screen[b, 1], screen[c, 1]
        top = int(max(min(y0, y1, y2) + HALF, ZERO))
        bottom = min(height, int(max(y0, y1, y2) + HALF))
        if top >= bottom:
            continue
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        kind = part[t]
        closed = kind <= TEETH or kind == SHELL
        if area == 0 or (closed and area > 0):
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
                if u < EDGE or v < EDGE or w < EDGE:
                    continue
                z = u * screen[a, 2] + v * screen[b, 2] + w * screen[c, 2]
                if z <= depth[y, x]:
                    continue
                if hairy and not _covered(
                    texture,
                    kind,
                    u * level[a] + v * level[b] + w * level[c],
                    u * rest[a, 0] + v * rest[b, 0] + w * rest[c, 0],
                    u * rest[a, 1] + v * rest[b, 1] + w * rest[c, 1],
                    u * rest[a, 2] + v * rest[b, 2] + w * rest[c, 2],
                ):
                    continue
                depth[y, x] = z
                index[y, x] = t
                weights[y, x, 0] = u
                weights[y, x, 1] = v


def rasterise_plain(screen, triangles, depth, index, weights):
    """Draw opaque, two-sided triangles: no culling, no hair."""
    rasterise(
        screen,
        triangles,
        np.full(len(triangles), SOLID, np.int32),
        screen,
        np.zeros(len(screen), np.float32),
        np.zeros((1, 1, 5), np.float32),
        depth,
        index,
        weights,
    )


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
                shade_in = (0.4 + 0.6 * deep) * (0.74 + 0.52 * strand)
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
