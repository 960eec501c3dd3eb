"""The README's picture shows the record's numbers."""

import numpy as np
import pytest

from facelib.studies.front_picture import FIGURES, PAGES, draw
from facelib.studies.records import load_record, repeat_intervals


@pytest.mark.parametrize("page", PAGES)
def test_every_mark_is_a_mean_of_the_record_with_its_interval(page: str):
    # Mutation: intervals as half widths around 0, fractions for percent, losses swapped.
    frame, _ = load_record("rendered-losses")
    figure = draw(frame, np.zeros((8, 8, 3), np.uint8), *PAGES[page])
    for ax, name in zip(figure.axes[1:], FIGURES.values(), strict=True):
        table = repeat_intervals(frame, name).set_index(["group", "label"])
        drawn = {bars.get_label(): bars for bars in ax.containers}
        for loss, bars in drawn.items():
            rows = table.loc[loss]
            assert np.allclose(bars.lines[0].get_ydata(), 100 * rows["value"])
            ends = np.array([segment[:, 1] for segment in bars.lines[2][0].get_segments()])
            assert np.allclose(ends, 100 * rows[["lo", "hi"]])
        assert len(drawn) == 3
