"""Sentences that compare: the difference, a corrected interval, the power, a verdict.

A family is a set of comparisons that are read together. Within it p-values are corrected by Holm
(1979), so that the chance of one false finding or more stays at 5 %. The intervals have the level
at which Holm's method rejected or stopped, so that an interval leaves out 0 exactly where the
difference is significant. Differences are means of paired repeats, with t distributions.
"""

import numpy as np
import pandas as pd
from scipy import stats

from facelib.metrics.tables import with_interval

LEVEL, POWER = 0.05, 0.8


def correct(gaps: pd.DataFrame, value: str = "difference") -> pd.DataFrame:
    """The same differences, corrected within the family that the rows are.

    Args:
        gaps: one row per comparison: `value`, lo and hi (an uncorrected 95 % t interval), repeats.

    Returns:
        The frame with lo and hi corrected, and p (Holm's), significant, alone (significant without
        correction), family (its size), smallest (the difference that these repeats would have shown
        with 80 % probability). A comparison of
        one repeat has no interval, counts in no family and is never significant.
    """
    gaps = gaps.reset_index(drop=True)
    df = gaps["repeats"].to_numpy(float) - 1
    tested = np.flatnonzero((df > 0) & np.isfinite(gaps["lo"]))
    df, mean = df[tested], gaps[value].to_numpy(float)[tested]
    half = (gaps["hi"] - gaps["lo"]).to_numpy(float)[tested] / 2
    error = np.maximum(half / stats.t.ppf(1 - LEVEL / 2, df), 1e-12)
    p = 2 * stats.t.sf(np.abs(mean) / error, df)
    family, order = len(tested), np.argsort(p, kind="stable")
    steps = p[order] * (family - np.arange(family))
    holm = np.minimum(np.maximum.accumulate(steps), 1)
    rejected = int((holm < LEVEL).sum())
    share = np.empty(family)  # of the 5 %, by which each interval is made
    share[order] = 1 / (family - np.minimum(np.arange(family), rejected)).clip(1)
    reach = stats.t.ppf(1 - LEVEL * share / 2, df) * error
    alone = (gaps["lo"] > 0) | (gaps["hi"] < 0)
    empty = dict.fromkeys(("lo", "hi", "p", "smallest"), np.nan)
    found = gaps.assign(alone=alone, significant=False, **empty)
    found.loc[tested, "lo"], found.loc[tested, "hi"] = mean - reach, mean + reach
    found.loc[tested[order], "p"] = holm
    found.loc[tested, "significant"] = found.loc[tested, "p"] < LEVEL
    found.loc[tested, "smallest"] = reach + stats.t.ppf(POWER, df) * error
    return found.assign(family=family)


def points(gap: dict, value: str = "difference") -> str:
    """A corrected difference as text: `+0.5 [-0.1, +1.2] (n.s., ≥0.9)`, in percentage points."""
    if not np.isfinite(gap["lo"]):
        return f"{gap[value]:+.1f} (one repeat: no interval)"
    told = with_interval(gap[value], gap["lo"], gap["hi"])
    return told if gap["significant"] else f"{told} (n.s., ≥{gap['smallest']:.1f})"


def gap_lines(gaps: pd.DataFrame, *names: str, value: str = "difference") -> list[str]:
    """Corrected differences as Markdown lines: what is compared, points [corrected interval].

    Args:
        gaps: of `correct`. names: columns that say together what is compared.
    """
    return [
        f"- {', '.join(gap[name] for name in names)}: {points(gap, value)}"
        for gap in gaps.to_dict("records")
    ]


def points_by(gaps: pd.DataFrame, name: str = "benchmark") -> str:
    """Corrected differences on one line, each after what the column `name` says."""
    return "; ".join(f"{gap[name]} {points(gap)}" for gap in gaps.to_dict("records"))


def gap_table(gaps: pd.DataFrame, *names: str) -> pd.DataFrame:
    """Corrected differences as text, by the columns `names` and, side by side, by protocol."""
    told = gaps.assign(points=[points(gap) for gap in gaps.to_dict("records")])
    return told.pivot(index=[*names], columns="protocol", values="points")


def family_note(*families: pd.DataFrame) -> str:
    """How the intervals of one or several families are to be read."""
    sizes = [int(gaps["family"].iloc[0]) if len(gaps) else 0 for gaps in families]
    within = f"for {sizes[0]} comparisons"
    if len(sizes) > 1:
        within = f"within each question ({', '.join(map(str, sizes))} comparisons)"
    return (
        f"percentage points, 95 % intervals corrected by Holm {within}; n.s., ≥x: the interval "
        "includes 0, a difference of x would have been found with a power of 80 %"
    )
