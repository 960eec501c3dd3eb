"""Small pictures in notebooks: photographs as JPEG, charts as PNG with a palette."""

import io

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image
from matplotlib.figure import Figure
from PIL import Image as Pillow

from facelib.formats.decode import encode_jpeg


def show(picture: Figure | np.ndarray, quality: int = 88) -> Image:
    """A figure (closed afterwards) or an image (H, W, 3) uint8 RGB at its own size, as JPEG."""
    if isinstance(picture, np.ndarray):
        return Image(encode_jpeg(picture, quality), format="jpeg")
    data = io.BytesIO()
    picture.savefig(data, format="jpeg", pil_kwargs={"quality": quality})
    plt.close(picture)
    return Image(data.getvalue(), format="jpeg")


def chart(figure: Figure, colours: int = 256) -> Image:
    """A figure of lines and marks (closed afterwards) as PNG with a palette: half the bytes."""
    whole, small = io.BytesIO(), io.BytesIO()
    figure.savefig(whole, format="png")
    plt.close(figure)
    # MAXCOVERAGE keeps rare colours: the default turns one thin line into its neighbour's colour.
    picture = Pillow.open(whole).convert("RGB").quantize(colours, Pillow.Quantize.MAXCOVERAGE)
    picture.save(small, "png", optimize=True)
    return Image(small.getvalue(), format="png")


def sheet(rows: list[np.ndarray]) -> np.ndarray:
    """Images (H, W, 3) of one height side by side on white, with a gap."""
    space = np.full((rows[0].shape[0], 12, 3), 255, np.uint8)
    parts = [part for row in rows for part in (row, space)]
    return np.hstack(parts[:-1])
