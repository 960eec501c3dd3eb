"""Normals and shadows of a triangle mesh, as numba kernels on flat arrays."""

import numpy as np
from numba import njit


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
def _shadow_depth(screen, triangles, size):
    depth = np.full((size, size), np.float32(-9))
    for t in range(len(triangles)):
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
def visible_from(positions, triangles, towards):
    """Share (V,) of a 3×3 shadow-map window that lets each vertex see a light at infinity.

    `triangles` are those that cast shadows; `positions` are centred on the head (± 1.9 units are
    covered); `towards` is a unit vector.
    """
    size = 96
    x, y, z = towards
    side = np.array([z, 0.0, -x]) / (np.sqrt(x**2 + z**2) + 1e-9)
    up = np.array([y * side[2] - z * side[1], z * side[0] - x * side[2], x * side[1] - y * side[0]])
    screen = np.empty_like(positions)
    for i in range(len(positions)):
        x, y, z = positions[i]
        screen[i, 0] = ((x * side[0] + y * side[1] + z * side[2]) / 3.8 + 0.5) * size
        screen[i, 1] = ((x * up[0] + y * up[1] + z * up[2]) / 3.8 + 0.5) * size
        screen[i, 2] = x * towards[0] + y * towards[1] + z * towards[2]
    depth = _shadow_depth(screen, triangles, size)
    seen = np.ones(len(positions), np.float32)
    for i in range(len(positions)):
        x, y = int(screen[i, 0]), int(screen[i, 1])
        if 1 <= x < size - 1 and 1 <= y < size - 1:
            lit = 0.0
            for dy in range(-1, 2):
                for dx in range(-1, 2):
                    lit += depth[y + dy, x + dx] < screen[i, 2] + 0.06
            seen[i] = lit / 9.0
    return seen
