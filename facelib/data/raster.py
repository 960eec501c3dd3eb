"""The small z-buffer rasteriser behind the rendered faces: numba kernels on flat arrays.

Screen arrays have x to the right, y down and z = 1 / distance, so that larger is nearer and
linear interpolation over a triangle is exact for depth. A pixel stores the index of its triangle
and two barycentric weights; everything else is interpolated when it is shaded.
"""

import numpy as np
from numba import njit

# What a triangle is made of.
SKIN, EAR, INNER, EYE, TEETH, LASH, SHELL, CURTAIN, SOLID, DRAPE = range(10)

TEXTURE = 320  # texels on a side of the cylindrical head texture
AXIS_Z = 0.45  # the vertical axis of that cylinder, in rest units
TOP_Y, BOTTOM_Y = 8.6, 5.5
RED, GREEN, BLUE, COVERAGE, STRAND = range(5)  # channels of a head texture


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
def vertex_normals(positions, triangles):
    """Area-weighted unit normals (V, 3)."""
    normals = np.zeros_like(positions)
    for t in range(len(triangles)):
        a, b, c = triangles[t]
        ux = positions[b, 0] - positions[a, 0]
        uy = positions[b, 1] - positions[a, 1]
        uz = positions[b, 2] - positions[a, 2]
        vx = positions[c, 0] - positions[a, 0]
        vy = positions[c, 1] - positions[a, 1]
        vz = positions[c, 2] - positions[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for i in (a, b, c):
            normals[i, 0] += nx
            normals[i, 1] += ny
            normals[i, 2] += nz
    for i in range(len(normals)):
        x, y, z = normals[i]
        length = np.sqrt(x * x + y * y + z * z) + 1e-9
        normals[i, 0] = x / length
        normals[i, 1] = y / length
        normals[i, 2] = z / length
    return normals


@njit(fastmath=True, cache=True)
def _covered(texture, level, x, y, z):
    """Does a hair layer at height `level` (0 root .. 1 tip) have a strand at this rest position?"""
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
        a, b, c = triangles[t]
        x0, y0, x1, y1, x2, y2 = (
            screen[a, 0],
            screen[a, 1],
            screen[b, 0],
            screen[b, 1],
            screen[c, 0],
            screen[c, 1],
        )
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        kind = part[t]
        closed = kind == SKIN or kind == EAR or kind == EYE or kind == SHELL
        if area == 0 or (closed and area > 0):
            continue
        left = max(0, int(np.ceil(min(x0, x1, x2) - 0.5)))
        right = min(width - 1, int(np.floor(max(x0, x1, x2) - 0.5)))
        top = max(0, int(np.ceil(min(y0, y1, y2) - 0.5)))
        bottom = min(height - 1, int(np.floor(max(y0, y1, y2) - 0.5)))
        inverse = 1 / area
        hairy = kind == SHELL or kind == CURTAIN
        for y in range(top, bottom + 1):
            py = y + 0.5
            for x in range(left, right + 1):
                px = x + 0.5
                u = ((x1 - px) * (y2 - py) - (x2 - px) * (y1 - py)) * inverse
                v = ((x2 - px) * (y0 - py) - (x0 - px) * (y2 - py)) * inverse
                w = 1 - u - v
                if u < -1e-5 or v < -1e-5 or w < -1e-5:
                    continue
                z = u * screen[a, 2] + v * screen[b, 2] + w * screen[c, 2]
                if z <= depth[y, x]:
                    continue
                if hairy and not _covered(
                    texture,
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
def _shadow_depth(screen, triangles, part, size):
    depth = np.full((size, size), np.float32(-9))
    for t in range(len(triangles)):
        if part[t] == LASH or part[t] == EYE or part[t] == SHELL:
            continue
        a, b, c = triangles[t]
        x0, y0, x1, y1 = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1]
        x2, y2 = screen[c, 0], screen[c, 1]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area == 0:
            continue
        inverse = 1 / area
        left = max(0, int(np.ceil(min(x0, x1, x2) - 0.5)))
        right = min(size - 1, int(np.floor(max(x0, x1, x2) - 0.5)))
        top = max(0, int(np.ceil(min(y0, y1, y2) - 0.5)))
        bottom = min(size - 1, int(np.floor(max(y0, y1, y2) - 0.5)))
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                u = ((x1 - x - 0.5) * (y2 - y - 0.5) - (x2 - x - 0.5) * (y1 - y - 0.5)) * inverse
                v = ((x2 - x - 0.5) * (y0 - y - 0.5) - (x0 - x - 0.5) * (y2 - y - 0.5)) * inverse
                w = 1 - u - v
                if u >= -1e-5 and v >= -1e-5 and w >= -1e-5:
                    z = u * screen[a, 2] + v * screen[b, 2] + w * screen[c, 2]
                    if z > depth[y, x]:
                        depth[y, x] = z
    return depth


@njit(fastmath=True, cache=True)
def visible_from(positions, triangles, part, towards, size=96, bias=0.06):
    """Share (V,) of a 3×3 shadow-map window that lets each vertex see a light at infinity.

    `positions` are centred on the head (± 1.9 units are covered); `towards` is a unit vector.
    """
    side = np.array([towards[2], 0.0, -towards[0]]) / (
        np.sqrt(towards[0] ** 2 + towards[2] ** 2) + 1e-9
    )
    up = np.array(
        [
            towards[1] * side[2] - towards[2] * side[1],
            towards[2] * side[0] - towards[0] * side[2],
            towards[0] * side[1] - towards[1] * side[0],
        ]
    )
    screen = np.empty_like(positions)
    for i in range(len(positions)):
        x, y, z = positions[i]
        screen[i, 0] = ((x * side[0] + y * side[1] + z * side[2]) / 3.8 + 0.5) * size
        screen[i, 1] = ((x * up[0] + y * up[1] + z * up[2]) / 3.8 + 0.5) * size
        screen[i, 2] = x * towards[0] + y * towards[1] + z * towards[2]
    depth = _shadow_depth(screen, triangles, part, size)
    seen = np.ones(len(positions), np.float32)
    for i in range(len(positions)):
        x, y = int(screen[i, 0]), int(screen[i, 1])
        if 1 <= x < size - 1 and 1 <= y < size - 1:
            lit = 0.0
            for dy in range(-1, 2):
                for dx in range(-1, 2):
                    lit += depth[y + dy, x + dx] < screen[i, 2] + bias
            seen[i] = lit / 9.0
    return seen
