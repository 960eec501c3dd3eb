"""Rows of the cluster-guided ablation: each a named set of changes to one configuration.

All rows share data, network, seeds and number of steps; the baseline is plain ArcFace. Every other
row is a run with loss="cluster"; rows with P × K batches see the images in another order.
"""

from collections.abc import Mapping

from facelib.config import Config
from facelib.errors import UserError

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
    "cg+clucon": ("CG-ArcFace + CluCon", {**_OFF, **_CG, **_CON}),
    "cg+cluali": ("CG-ArcFace + CluAli", {**_OFF, **_CG, **_ALI}),
    "all": ("cluster-guided", {}),
    "all-tau0": ("cluster-guided, τ0 for φ", {"cluster_phi": "tau0"}),
    "all-center": ("cluster-guided, Center for CluCon", {"cluster_term": "center"}),
    "all-rings": ("cluster-guided, 4 features a class", _RINGS),
    "repaired": ("cluster-guided, repaired", _REPAIRED),
    "all-pk": ("cluster-guided, P × K", _PK),
    "all-triplet": ("cluster-guided, P × K, Triplet", {**_PK, "cluster_term": "triplet"}),
    "repaired-pk": ("cluster-guided, P × K, repaired", {**_PK, **_REPAIRED}),
}
LABELS = {"cluster": "cluster-guided, other settings"} | {
    f"cluster-{row}": label for row, (label, _) in ROWS.items() if row != "baseline"
}
_FIELDS = {field for _, changes in ROWS.values() for field in changes}


def row_config(row: str, base: Config) -> Config:
    """The configuration of a row, from a base configuration without cluster settings of its own.

    Raises:
        UserError: no such row.
    """
    if row not in ROWS:
        raise UserError(f"row {row!r}: allowed are {', '.join(ROWS)}")
    preset = base.name.partition("-")[0]
    if row == "baseline":
        return base.with_loss("arcface", name=f"{preset}-arcface")
    return base.with_loss("cluster", name=f"{preset}-cluster", **ROWS[row][1])


def method_of_row(settings: Mapping) -> str:
    """Key of `LABELS` for the settings of a run with loss="cluster"."""
    defaults = {field: getattr(Config, field) for field in _FIELDS}
    found = {field: settings.get(field, default) for field, default in defaults.items()}
    for row, (_, changes) in ROWS.items():
        if row != "baseline" and found == {**defaults, **changes}:
            return f"cluster-{row}"
    return "cluster"
