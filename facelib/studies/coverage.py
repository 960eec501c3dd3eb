"""How often the printed 95 % intervals hold the truth: the record of a simulation.

The simulation is `tests/metrics/coverage.py`.
"""

import pandas as pd

from facelib.studies.source_a import published_figures


def record_table() -> pd.DataFrame:
    """The record: coverage (%) over the designs by figure, of the old and the new method."""
    parts = {}
    for name, how in (("before", "identity bootstrap"), ("after", "over people")):
        found = published_figures(f"coverage/{name}").groupby("figure", sort=False)["coverage"]
        for column in ("mean", "min", "max"):
            parts[how, column] = (100 * found.agg(column)).round(1)
    table = pd.DataFrame(parts).fillna("no interval")
    others = published_figures("coverage/others").set_index("figure")["coverage"]
    for figure, value in others.items():
        table.loc[figure, ("over people", "mean")] = round(100 * value, 1)
    return table.rename_axis("coverage, %").fillna("")
