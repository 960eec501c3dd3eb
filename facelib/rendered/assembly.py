"""All the geometry of one picture as flat arrays: head, hair layers, long hair, things worn."""

from dataclasses import dataclass

import numpy as np

from facelib.rendered import raster
from facelib.rendered.accessories import FRAMES, Patch, glasses
from facelib.rendered.heads import HeadAssets
from facelib.rendered.mesh import LAYERS, Model, pose
from facelib.rendered.occluders import WORN, occluder
from facelib.rendered.scene import Conditions

WEARERS, OTHERS = 0.85, 0.04  # share of pictures with glasses
UNDER_CLOTH = 0.25  # hair and beards below cloth are pressed flat


@dataclass(frozen=True)
class HeadGeometry:
    """N vertices, T triangles in the head's frame; the head's own vertices come first."""

    positions: np.ndarray  # (N, 3) float32
    normals: np.ndarray  # (N, 3) float32 unit
    triangles: np.ndarray  # (T, 3) int32
    part: np.ndarray  # (T,) int32
    tint: np.ndarray  # (T,) int32 palette rows
    rest: np.ndarray  # (N, 3) float32
    level: np.ndarray  # (N,) float32
    open_sky: np.ndarray  # (N,) float32
    lenses: np.ndarray | None  # (2, n, 3) outlines

    @property
    def casts_shadow(self) -> np.ndarray:
        """(T,) bool: not the hair layers, which let light through, nor what lies inside."""
        inside = (self.part >= raster.INNER) & (self.part <= raster.LASH)
        return ~inside & (self.part != raster.SHELL)


def assemble(assets: HeadAssets, model: Model, conditions: Conditions) -> HeadGeometry:
    """Pose the head and put on what this picture shows."""
    head, layers = pose(assets, model, conditions.actions, _hair_volume(assets, model, conditions))
    frame, lenses = _worn_glasses(assets, model, conditions)
    patches = [model.curtain, frame]
    if conditions.occluder in WORN:
        rng = np.random.default_rng(conditions.seed + 3)
        patches.append(occluder(assets, head, conditions.occluder, rng))
    below, copies = model.layer_of, len(LAYERS)
    hair = Patch(
        positions=layers,
        triangles=np.concatenate([model.layer_triangles + i * len(below) for i in range(copies)]),
        part=raster.SHELL,
        rest=np.tile(assets.base[below], (copies, 1)),
        level=np.repeat(np.float32(LAYERS), len(below)),
    )
    bare = Patch(head, assets.triangles, assets.part, assets.base, np.zeros(len(head), np.float32))
    under_hair = np.tile(np.maximum(assets.occlusion[below], 0.5), copies)
    blocks = [
        (bare, bare.normals(), assets.occlusion),
        (hair, np.tile(model.layer_normals, (copies, 1)), under_hair),
    ]
    for patch in patches:
        if patch is not None:
            blocks.append((patch, patch.normals(), np.full(len(patch.positions), 0.85, np.float32)))
    return _concatenate(blocks, lenses)


def _hair_volume(assets: HeadAssets, model: Model, conditions: Conditions) -> np.ndarray:
    """Factor (L, 1) on the thickness of the hair: flat under a beanie, a mask, a scarf."""
    height = assets.base[model.layer_of, 1:2]
    covered = {"beanie": height > 7.4, "mask": height < 7.0, "scarf": height < 7.0}
    pressed = covered.get(conditions.occluder, np.zeros_like(height, bool))
    return np.where(pressed, np.float32(UNDER_CLOTH), np.float32(conditions.hair_volume))


def _worn_glasses(assets: HeadAssets, model: Model, conditions: Conditions):
    """The person's own frame in most pictures; now and then one on somebody who wears none."""
    usual = model.frame is not None
    if conditions.shows_glasses > (WEARERS if usual else OTHERS):
        return None, None
    if usual:
        return model.frame, model.lenses
    return glasses(assets, model.person.positions, 1 + conditions.seed % len(FRAMES))


def _concatenate(blocks: list[tuple[Patch, np.ndarray, np.ndarray]], lenses) -> HeadGeometry:
    patches, normals, sky = zip(*blocks)
    starts = np.cumsum([0] + [len(patch.positions) for patch in patches])
    counts = [len(patch.triangles) for patch in patches]
    parts = [np.broadcast_to(np.int32(p.part), n) for p, n in zip(patches, counts)]
    triangles = [p.triangles + np.int32(s) for p, s in zip(patches, starts)]
    return HeadGeometry(
        np.concatenate([p.positions for p in patches]),
        *map(np.concatenate, (normals, triangles, parts)),
        np.repeat(np.int32([p.tint for p in patches]), counts),
        np.concatenate([p.rest for p in patches]),
        np.concatenate([p.level for p in patches]),
        np.concatenate(sky),
        lenses,
    )
