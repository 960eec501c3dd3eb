"""Error rates of a verification threshold: DET curves and what discarding poor pairs gains."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator, PercentFormatter
from scipy.stats import norm

from facelib.metrics.operating import discard_curve, operating_points, threshold_for
from facelib.metrics.scores import Scores
from facelib.metrics.tables import operating_table
from facelib.metrics.verification import roc
from facelib.studies.plots import axes_of, label_axes
from facelib.studies.results import Result

TICKS = (1e-4, 1e-3, 1e-2, 0.05, 0.2, 0.5, 0.8)


def det_frame(scores: Scores, name: str = "") -> pd.DataFrame:
    """DET points of one model: fmr, fnmr, name; where a rate is 0 or 1 there is no point."""
    fmr, tar, _ = roc(scores.score, scores.same)
    inside = (fmr > 0) & (fmr < 1) & (tar > 0) & (tar < 1)
    return pd.DataFrame({"fmr": fmr[inside], "fnmr": 1 - tar[inside], "name": name})


def det(
    frame: pd.DataFrame, ax: Axes | None = None, title: str = "Error rates", note: str = ""
) -> Axes:
    """FNMR over FMR (Martin et al. 1997); one line for each `name` that makes errors of both kinds.

    Both axes are normal deviates: normally distributed scores give a straight line. The dotted
    diagonal is the equal error rate.
    """
    ax = axes_of(ax)
    if frame.empty:
        return _nothing(ax, title, note, "no threshold makes errors of both kinds")
    ax.set_xscale("function", functions=(norm.ppf, norm.cdf))
    ax.set_yscale("function", functions=(norm.ppf, norm.cdf))
    sns.lineplot(frame, x="fmr", y="fnmr", hue="name", ax=ax, estimator=None, sort=False)
    for axis, rates in ((ax.xaxis, frame["fmr"]), (ax.yaxis, frame["fnmr"])):
        low, high = rates.min() * 0.8, min(0.99, rates.max() * 1.1)
        shown = [tick for tick in TICKS if low <= tick <= high]
        axis.set_view_interval(low, high, ignore=True)
        axis.set_major_locator(FixedLocator(shown))
        axis.set_major_formatter(FixedFormatter([f"{100 * tick:g} %" for tick in shown]))
        axis.set_minor_locator(NullLocator())
    ax.axline((0.1, 0.1), (0.2, 0.2), color="0.5", linestyle=":", linewidth=1)
    ax.get_legend().set_title(None)
    return label_axes(ax, title, note, "FMR: impostor pairs accepted", "FNMR: genuine refused")


def error_table(result: Result) -> pd.DataFrame:
    """FNMR at FMR 1e-2 to 1e-5 on each benchmark of a run, with the thresholds for use."""
    points = {result.title(b): operating_points(result.scores(b)) for b in result.benchmarks}
    return operating_table(points)


def discard_frame(result: Result, name: str, fmr: float = 1e-2) -> pd.DataFrame:
    """Error against discard rate of a benchmark, for what is known of a pair's quality.

    Known are the norm of the embedding and, in some benchmarks, the yaw; of a pair the poorer side.

    Returns:
        discarded, fnmr (at the threshold of `fmr` on all pairs), quality (what orders the pairs);
        empty where the threshold is not estimable.
    """
    scores = result.scores(name)
    threshold = threshold_for(scores, fmr)["threshold"]
    if threshold is None:
        return pd.DataFrame()
    norms = np.linalg.norm(result.embeddings(name), axis=1)
    known = {"norm of the embedding": np.minimum(norms[scores.index1], norms[scores.index2])}
    if scores.yaw1 is not None:
        known["frontal pose"] = -np.maximum(abs(scores.yaw1), abs(scores.yaw2))
    frames = []
    for quality, values in known.items():
        discarded, fnmr = discard_curve(scores, values, threshold)
        part = pd.DataFrame({"discarded": discarded, "fnmr": fnmr, "quality": quality})
        frames.append(part[part["discarded"] <= 0.8])  # beyond it few pairs are left
    return pd.concat(frames)


def discard(
    frame: pd.DataFrame, ax: Axes | None = None, title: str = "Error against discard rate",
    note: str = "",
) -> Axes:  # fmt: skip
    """FNMR of the genuine pairs that are left, one line for each `quality`."""
    ax = axes_of(ax)
    if frame.empty:
        return _nothing(ax, title, note, "too few impostor pairs for a threshold")
    sns.lineplot(frame, x="discarded", y="fnmr", hue="quality", ax=ax, estimator=None)
    ax.set(ylim=(0, None))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    return label_axes(ax, title, note, "genuine pairs discarded", "FNMR of the others")


def _nothing(ax: Axes, title: str, note: str, why: str) -> Axes:
    ax.set_axis_off()
    ax.text(0.5, 0.5, why, transform=ax.transAxes, ha="center")
    return label_axes(ax, title, note, "", "")
