"""Image file to the encoded, aligned image that goes into a benchmark or a training set."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from facelib.errors import BadData, UserError
from facelib.formats.decode import decode, encode_jpeg, is_plain_jpeg, pad_to_square, resize
from facelib.prepare.align import DETECTORS, align, detect_landmarks, read_landmarks_csv

Landmarks = Callable[[Path, np.ndarray], np.ndarray | None]


def read_picture(path: Path) -> tuple[bytes, np.ndarray]:
    """A picture's file as it is, and decoded (H, W, 3).

    Raises:
        BadData: no such file, or not an image.
    """
    if not path.is_file():
        raise BadData(f"{path}: no such image", "no such file")
    content = path.read_bytes()
    try:
        return content, decode(content)
    except BadData as error:
        raise BadData(f"{path}: {error}", error.reason) from None


class Aligner:
    """Turns the path of an image into encoded bytes of size × size pixels.

    Args:
        root: folder that the `file` column of a CSV is relative to.
        size: side in pixels.
        method: None, if the images are aligned already; the path of a landmarks CSV; the name of a
            detector; or a function (path, RGB image) → landmarks (5, 2), or None where it has none.
        fit: without landmarks, pad images of another size to a square and resize them, instead of
            refusing them.
        crop: "tight" (ArcFace's) or "loose", see `align.CROPS`.

    A JPEG that needs no change is passed on byte for byte, others are encoded at quality 95.
    """

    def __init__(
        self,
        root: Path,
        size: int = 112,
        method: Path | str | Landmarks | None = None,
        fit: bool = False,
        crop: str = "tight",
    ):
        if crop != "tight" and method is None:
            raise UserError(
                f"crop={crop!r} needs landmarks of the originals: --align CSV|insightface"
            )
        self.size, self.fit, self.fitted, self.crop = size, fit, 0, crop
        self._landmarks = _landmark_source(method, Path(root))

    def __call__(self, path: Path) -> bytes:
        """Encoded image.

        Raises:
            BadData: no such file, not an image, no face found, or no landmarks for it.
        """
        content, image = read_picture(path)
        if self._landmarks is not None:
            landmarks = self._landmarks(path, image)
            if landmarks is not None:
                return encode_jpeg(align(image, landmarks, self.size, crop=self.crop))
            if self.crop != "tight":
                raise BadData(f"{path}: no landmarks for a {self.crop} crop", "no landmarks")
        if image.shape[:2] == (self.size, self.size):
            return content if is_plain_jpeg(content) else encode_jpeg(image)
        if not self.fit:
            height, width = image.shape[:2]
            raise BadData(
                f"{path}: {width}×{height} pixels, wanted an aligned {self.size}×{self.size}"
                " image; align it with landmarks: a CSV (file,x1,y1,…,x5,y5) or a detector"
                f" ({', '.join(DETECTORS)})",
                "not aligned",
            )
        self.fitted += 1
        return encode_jpeg(resize(pad_to_square(image), self.size))


def _landmark_source(method: Path | str | Landmarks | None, root: Path) -> Landmarks | None:
    if method is None or callable(method):
        return method
    if str(method) in DETECTORS:

        def detect(path: Path, image: np.ndarray) -> np.ndarray:
            landmarks = detect_landmarks(image, str(method))
            if landmarks is None:
                raise BadData(f"{path}: no face found by {method}", "no face found")
            return landmarks

        return detect
    if Path(method).suffix.lower() != ".csv":
        raise UserError(f"align={method!s}, allowed are a .csv file and {', '.join(DETECTORS)}")
    table = read_landmarks_csv(Path(method))

    def look_up(path: Path, image: np.ndarray) -> np.ndarray:
        name = path.relative_to(root).as_posix()
        if name not in table:
            raise BadData(f"{path}: {method} has no landmarks for {name}", "no landmarks")
        return table[name]

    return look_up
