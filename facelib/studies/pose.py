"""Verification by pose difference: one threshold for all bins, a threshold a bin, impostor tails.

All benchmarks of a run are pooled. Where the yaw of both faces is known, pairs are put into bins of
|Δyaw|; where it is not, a benchmark is a bin of its own: CFP-FF holds frontal pairs, CFP-FP pairs
of a frontal face and a profile.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from facelib.metrics import geometry as an
from facelib.metrics.scores import Scores
from facelib.studies.centres import FAR, Geometry
from facelib.studies.plots import YAW_NAMES, yaw_bins
from facelib.studies.results import Result

KINDS = {"cfp_ff": "frontal, frontal", "cfp_fp": "frontal, profile"}
MIN_PAIRS = 50  # of either kind in a bin; a share among fewer says little


def bins_of(scores: Scores, name: str) -> np.ndarray:
    """Name (P,) of each pair's bin: "0–15" and so on in degrees, or what the benchmark holds.

    The last bin takes every larger difference.
    """
    if scores.yaw1 is None or scores.yaw2 is None:
        return np.full(len(scores.same), KINDS.get(name, name))
    return np.array(YAW_NAMES)[yaw_bins(scores)]


def pose_table(runs: Sequence[Geometry], threshold_from: str, far: float = FAR) -> pd.DataFrame:
    """TAR and FAR of every run by pose difference, indexed by pose and loss.

    Columns: genuine, impostors (pairs); TAR, FAR at the run's one global threshold (from the
    benchmark `threshold_from`); threshold, own TAR: where `far` of the bin's own impostors are
    accepted, that is how far the tail of the impostors reaches at this pose. Each share with its
    95 % interval over identities (… lo, … hi). Bins with fewer than `MIN_PAIRS` genuine or impostor
    pairs are left out.
    """
    rows = {}
    for run in runs:
        for pose, part in pooled(run.result).groupby("pose", sort=False):
            if min(part["same"].sum(), (~part["same"]).sum()) >= MIN_PAIRS:
                rows[pose, run.result.label] = _row(part, run.threshold(threshold_from), far)
    index = pd.MultiIndex.from_tuples(rows, names=["pose", "loss"])
    frame = pd.DataFrame(list(rows.values()), index)
    order = {pose: i for i, pose in enumerate(_poses(frame))}
    place = frame.index.get_level_values("pose").map(order).to_numpy()
    return frame.iloc[np.argsort(place, kind="stable")]


def pooled(result: Result) -> pd.DataFrame:
    """All pairs of a run's benchmarks: score, same, id1, id2, pose."""
    frames = []
    for name in result.benchmarks:
        scores = result.scores(name)
        columns = {"score": scores.score, "same": scores.same, "id1": scores.id1, "id2": scores.id2}
        frames.append(pd.DataFrame(columns).assign(pose=bins_of(scores, name)))
    return pd.concat(frames, ignore_index=True)


def _row(part: pd.DataFrame, threshold: float, far: float) -> dict:
    score, same = part["score"].to_numpy(), part["same"].to_numpy()
    own = an.global_threshold(score, same, far)
    row = {"genuine": same.sum(), "impostors": (~same).sum()}
    shares = {"TAR": (same, threshold), "FAR": (~same, threshold), "own TAR": (same, own)}
    for column, (kind, above) in shares.items():
        people = [part[side].to_numpy()[kind] for side in ("id1", "id2")]
        found = an.mean_interval(score[kind] > above, *people)
        row |= dict(zip((column, f"{column} lo", f"{column} hi"), found))
    return row | {"threshold": own}


def _poses(frame: pd.DataFrame) -> list[str]:
    """Bins by rising difference, then benchmarks in the order in which they came."""
    found = list(dict.fromkeys(frame.index.get_level_values("pose")))
    return [p for p in YAW_NAMES if p in found] + [p for p in found if p not in YAW_NAMES]


def curve_frame(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """One share of `pose_table` as a frame for `plots.pose_curve`."""
    places = {pose: 15 * i for i, pose in enumerate(_poses(table))}
    names = {"loss": "name", "pose": "bin", "middle": "middle"}
    names |= {column: "tar", f"{column} lo": "lo", f"{column} hi": "hi"}
    frame = table.reset_index().assign(middle=lambda f: f["pose"].map(places))
    return frame[[*names]].rename(columns=names)
