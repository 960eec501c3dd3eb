"""The record of how often intervals hold the truth."""

import numpy as np

from facelib.paths import published_root
from facelib.studies import coverage
from facelib.studies.source_a import published_figures


def test_the_record_covers_all_designs_and_says_better_than_before():
    # catches: a record of half of the designs; a method that lost its coverage when it was made
    table = coverage.record_table()
    for name in ("before", "after"):
        rows = (published_root() / "coverage" / f"{name}.csv").read_text().splitlines()
        assert len(rows) == 1 + 12 * 24
    known = table["over people", "mean"].replace("no interval", np.nan).astype(float).dropna()
    chance = 0 * known  # of a row that has one design only
    others = published_figures("coverage/others").set_index("figure")
    chance[others.index] = 200 * np.sqrt(0.95 * 0.05 / others["sets"])
    assert known.between(93 - chance, 97 + chance).all() and len(known) > 40
    assert table.loc["strict.accuracy", ("identity bootstrap", "mean")] < 90
    assert (table.loc[["strict.far", "best.threshold"], "over people"] == "no interval").all(None)
