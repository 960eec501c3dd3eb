"""The mesh of one person: head, layers of hair and beard, long hair, glasses.

Hair is a stack of thin layers over the skin, each a little farther out and a little sparser, so
that it has volume and a soft edge; long hair adds a curtain that falls from the scalp.
"""

from dataclasses import dataclass

import numpy as np

from facelib.rendered import raster, styles
from facelib.rendered.accessories import Patch, glasses, grid_triangles
from facelib.rendered.heads import HeadAssets
from facelib.rendered.normals import vertex_normals
from facelib.rendered.people import Person
from facelib.rendered.raster import AXIS_Z
from facelib.rendered.skin import paint_head

LAYERS = (1.0, 0.75, 0.5, 0.25)  # from the tips: what they hide need not be drawn
CURTAIN_COLUMNS, CURTAIN_ROWS = 49, 14
CURTAIN_TOP = 8.25


@dataclass(frozen=True)
class Model:
    """A person ready to be posed: head vertices first, then hair layers, then fixed patches."""

    person: Person
    texture: np.ndarray  # (TEXTURE, TEXTURE, 5)
    layer_of: np.ndarray  # (L,) head vertex under each vertex of one hair layer
    layer_triangles: np.ndarray  # (K, 3) into `layer_of`
    layer_reach: np.ndarray  # (L, 3) from the skin to the tips
    layer_normals: np.ndarray  # (L, 3)
    curtain: Patch | None
    frame: Patch | None
    lenses: np.ndarray | None  # (2, n, 3) outlines of the lenses


def build_model(assets: HeadAssets, person: Person) -> Model:
    """Texture and mesh of a person; about 30 ms."""
    layer_of, triangles, length = _hair_layers(assets, person)
    skin = vertex_normals(person.positions, assets.triangles)[layer_of]
    reach = skin * length[:, None]
    outer = vertex_normals(person.positions[layer_of] + reach, triangles)
    folds = skin + outer  # the many folds of the hair must not glitter
    folds = folds / (np.linalg.norm(folds, axis=-1, keepdims=True) + 1e-9)
    curtain = _curtain(assets, person) if person.hairstyle.curtain else None
    worn = glasses(assets, person.positions, person.glasses) if person.glasses else (None, None)
    texture = paint_head(assets, person)
    return Model(person, texture, layer_of, triangles, reach, folds, curtain, *worn)


def _hair_layers(assets: HeadAssets, person: Person):
    """Head vertices that carry hair, the triangles between them, and how far hair stands off."""
    rest = assets.base
    above = styles.above_hairline(rest, person.hairstyle, person.hairline)
    scalp = styles.scalp_cover(rest, person.hairstyle, above)
    beard = styles.beard_cover(rest, person.beard, np.zeros(len(rest)))
    beard = beard * (person.beard.length > 0.02)
    length = np.maximum(
        styles.scalp_length(rest, person.hairstyle, above) * (scalp > 0.01),
        person.beard.length * styles.smoothstep(beard, 0.0, 0.8),
    )
    rng = np.random.default_rng(person.seed + 1)
    waves = np.sin(rest @ rng.normal(0, 2.5, 3) + rng.uniform(0, 6))
    waves = waves + 0.8 * np.sin(rest @ rng.normal(0, 5.0, 3) + rng.uniform(0, 6))
    length = length * (1 + (0.10 + 0.10 * person.hairstyle.curl) * waves)
    hairy = (np.maximum(scalp, beard) > 0.01) & (assets.part_of_vertex == raster.SKIN)
    chosen = assets.triangles[(assets.part == raster.SKIN) & hairy[assets.triangles].any(1)]
    layer_of, triangles = np.unique(chosen, return_inverse=True)
    triangles = triangles.reshape(-1, 3).astype(np.int32)
    return layer_of, triangles, length[layer_of].astype(np.float32)


def _curtain(assets: HeadAssets, person: Person) -> Patch:
    """Long hair: columns from temple to temple round the back, each falling from the scalp."""
    style = person.hairstyle
    rng = np.random.default_rng(person.seed + 2)
    drop = np.linspace(0, 1, CURTAIN_ROWS)[:, None]
    height = CURTAIN_TOP + (style.curtain - CURTAIN_TOP) * drop
    # The front edge leaves the parting, clears the eyes and comes forward again below the ear.
    edge = np.interp(height, (5.2, 6.4, 7.2, 7.7, CURTAIN_TOP), (48, 56, 67, 60, 34))
    edge = edge + rng.normal(0, 4)
    share = np.linspace(0, 1, CURTAIN_COLUMNS)[None, :]
    turn = np.radians(edge + share * (360 - 2 * edge))
    direction = np.stack([np.sin(turn), np.zeros_like(turn), np.cos(turn)], -1)
    dome = np.sqrt(np.clip(1 - ((height - 7.5) / 1.02) ** 2, 0.05, 1)) * (height > 7.5)
    dome = dome + (height <= 7.5)
    skull = np.hypot(0.79 * np.sin(turn), np.where(np.cos(turn) > 0, 0.80, 0.86) * np.cos(turn))
    flare = rng.uniform(0.0, 0.14) * drop + 0.09 * np.sin(np.pi * np.clip(drop * 1.3, 0, 1))
    lock = rng.uniform(14, 20) * turn + rng.uniform(1, 4) * drop + rng.uniform(0, 6)
    wave = np.sin(lock) + 0.6 * np.sin(1.7 * lock + 5 * drop + 1)
    behind = (np.abs(turn - np.pi) - 1.55) / 0.35
    ear = 0.07 * np.exp(-(((height - 7.1) / 0.3) ** 2) - behind**2)
    waves = (0.012 + 0.035 * style.curl) * wave * styles.smoothstep(drop, 0.05, 0.4)
    sides = style.sides * (0.45 + 0.55 * styles.smoothstep(drop, 0, 0.3))
    radius = skull * dome + sides + flare + waves + ear
    points = direction * radius[..., None]
    points[..., 1] += height + 0.06 * wave * drop
    points[..., 2] += AXIS_Z
    anchors = _nearest_scalp(assets, turn.mean(0))
    points = points + (person.positions - assets.base)[anchors][None]
    # Read the texture where the scalp is full of hair, stretched along the fall of the strands.
    read = direction * 0.8
    read[..., 1] += 8.35 - 0.6 * drop
    read[..., 2] += AXIS_Z
    rim = styles.smoothstep(np.minimum(share, 1 - share), 0.03, 0.0)
    thin = np.clip(styles.smoothstep(drop, 0.85, 1.0) + 0.7 * rim + 0.0 * radius, 0, 1)
    return Patch(
        positions=points.reshape(-1, 3).astype(np.float32),
        triangles=grid_triangles(CURTAIN_ROWS, CURTAIN_COLUMNS),
        part=raster.CURTAIN,
        rest=read.reshape(-1, 3).astype(np.float32),
        level=(0.3 + 0.7 * thin).reshape(-1).astype(np.float32),
    )


def _nearest_scalp(assets: HeadAssets, turns: np.ndarray) -> np.ndarray:
    """The skin vertex nearest to each angle (radians) at the height of the temples."""
    skin = np.flatnonzero(assets.part_of_vertex == raster.SKIN)
    rest = assets.base[skin]
    around = np.arctan2(rest[:, 0], rest[:, 2] - AXIS_Z)
    gap = np.angle(np.exp(1j * (around[:, None] - turns[None])))
    distance = np.abs(gap) + 2 * np.abs(rest[:, 1:2] - 7.6)
    return skin[distance.argmin(0)]


def pose(assets: HeadAssets, model: Model, actions: dict[str, float], volume: np.ndarray):
    """Vertices of head and hair layers with an expression, in the head's own frame.

    Args:
        actions: facial action -> weight 0..1. Eyeballs do not move (gaze is shaded).
        volume: factor on the thickness of the hair, (L, 1).

    Returns:
        (head positions (V, 3), layer positions (len(LAYERS) * L, 3)).
    """
    index = {str(name): i for i, name in enumerate(assets.action_names)}
    head = model.person.positions.copy()
    for name, weight in actions.items():
        head += np.float32(weight) * assets.action_shapes[index[name]]
    eyeball = assets.part_of_vertex == raster.EYE
    head[eyeball] = model.person.positions[eyeball]
    reach = volume * model.layer_reach
    layers = [head[model.layer_of] + np.float32(level) * reach for level in LAYERS]
    return head, np.concatenate(layers)
