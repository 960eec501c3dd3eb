"""Small pictures in notebooks."""

import io

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from PIL import Image

from facelib.studies.pictures import chart


def test_a_chart_with_a_palette_keeps_the_colour_of_each_line():
    # Catches: a quantiser that gives a thin line the colour of its neighbour.
    colours = sns.color_palette("colorblind", 3)
    figure, ax = plt.subplots()
    for i, colour in enumerate(colours):
        ax.plot([0, 1], [0, 1 + 0.02 * i], color=colour, linewidth=0.8)
    with io.BytesIO() as whole:
        figure.savefig(whole, format="png")
        exact = np.asarray(Image.open(whole).convert("RGB")).astype(int)
    shown = np.asarray(Image.open(io.BytesIO(chart(figure).data)).convert("RGB")).astype(int)
    assert np.abs(shown - exact).max() < 16
