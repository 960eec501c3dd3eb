"""Rows of the cluster-guided ablation: each a named set of changes to one configuration.

All rows share data, network, order of the images and number of steps; the baseline is plain
ArcFace. Every other row is a run with loss="cluster".
"""

from collections.abc import Mapping

from facelib.config import Config

_OFF = {"cluster_margin": 0.0, "cluster_contrast": 0.0, "cluster_align": 0.0}
_CG, _CON, _ALI = {"cluster_margin": 1.0}, {"cluster_contrast": 1.0}, {"cluster_align": 0.5}
_PK = {"images_per_identity": 4}
_RINGS = {"cluster_ring": 4}
_REPAIRED = {**_RINGS, "cluster_phi": "pcl", "cluster_lambda": "clipped"}

# Key of a row -> (label, changes to a cluster config). "all" is the literal reading of source B.
ROWS: dict[str, tuple[str, dict]] = {
    "baseline": ("ArcFace", {}),
    "cg": ("CG-ArcFace", {**_OFF, **_CG}),
    "clucon": ("ArcFace + CluCon", {**_OFF, **_CON}),
    "cluali": ("ArcFace + CluAli", {**_OFF, **_ALI}),
    "cg+clucon": ("CG + CluCon", {**_OFF, **_CG, **_CON}),
    "cg+cluali": ("CG + CluAli", {**_OFF, **_CG, **_ALI}),
    "all": ("all three, literal", {}),
    "all-center": ("all, Center for CluCon", {"cluster_term": "center"}),
    "all-pk": ("all, P × K batches", _PK),
    "all-triplet": ("all, P × K, Triplet for CluCon", {**_PK, "cluster_term": "triplet"}),
    "all-tau0": ("all, τ0 for φ", {"cluster_phi": "tau0"}),
    "all-rings": ("all, 4 features a class", _RINGS),
    "all-pcl": ("all, rings, PCL's φ", {**_RINGS, "cluster_phi": "pcl"}),
    "repaired": ("all three, repaired", _REPAIRED),
    "repaired-pk": ("all three, repaired, P × K", {**_REPAIRED, **_PK}),
}


def row_config(row: str, base: Config) -> Config:
    """The configuration of a row, from a base config of any loss."""
    if row == "baseline":
        return base.replace(loss="arcface", name=base.name.replace("cluster", "arcface"))
    return base.replace(loss="cluster", **ROWS[row][1])
