"""Photographs in notebooks: JPEG outputs, which are ten times smaller than PNGs of the same."""

import io

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image
from matplotlib.figure import Figure

from facelib.data.decode import encode_jpeg


def show(picture: Figure | np.ndarray) -> Image:
    """A figure (closed afterwards) or an image (H, W, 3) uint8 RGB at its own size, as JPEG."""
    if isinstance(picture, np.ndarray):
        return Image(encode_jpeg(picture, 88), format="jpeg")
    data = io.BytesIO()
    picture.savefig(data, format="jpeg", pil_kwargs={"quality": 88})
    plt.close(picture)
    return Image(data.getvalue(), format="jpeg")


def sheet(rows: list[np.ndarray], gap: int = 12) -> np.ndarray:
    """Images (H, W, 3) of one height side by side on white, with a gap."""
    space = np.full((rows[0].shape[0], gap, 3), 255, np.uint8)
    parts = [part for row in rows for part in (row, space)]
    return np.hstack(parts[:-1])
