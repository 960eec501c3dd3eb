"""Align a face: a similarity transform takes five landmarks onto the ArcFace template.

Landmarks are (5, 2) pixels x, y, origin at the top left: the eye on the image's left, the eye on
its right, nose tip, the mouth corner on its left, the one on its right. They may lie outside the
image. Images are RGB.
"""

import logging
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from facelib.errors import BadData, UserError
from facelib.safety.readers import read_table, read_text, reading

log = logging.getLogger(__name__)

# The five points of InsightFace's training images, for 112×112.
ARCFACE_TEMPLATE = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)
TEMPLATE_SIZE = 112
FARTHEST = 1_000_000  # pixels: no landmark lies there
# How many tight (ArcFace) crops wide a crop is. Foundation models saw whole pictures, not faces cut
# at the chin: the loose crop holds hair, ears and chin, and the tight crop as its middle 5/8.
CROPS = {"tight": 1.0, "loose": 1.6}
DETECTORS = ("insightface",)
LANDMARK_COLUMNS = [f"{axis}{i}" for i in range(1, 6) for axis in "xy"]

# CFP's 30 points by number; its readme does not say which is which, this is read off the pictures.
CFP_EYE = slice(12, 18)
CFP_NOSE_BRIDGE, CFP_NOSE_TIP = 18, 21
CFP_MOUTH_CORNER = 25
CFP_MOUTH_MIDDLE = slice(26, 30)
# Chin, nose bridge, nose base, mouth: not the nose tip, which leaves the line when a head turns.
CFP_MID_LINE = [8, 18, 22, 26, 27, 28, 29]


def similarity_transform(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Least-squares rotation, scale and shift from `source` to `target` (Umeyama 1991, eq. 40–42).

    Args:
        source, target: float (N, 2), N ≥ 2.

    Returns:
        float64 (2, 3): `[A | t]` with target ≈ A·source + t. Never a reflection.

    Raises:
        UserError: the source points coincide, or a coordinate is not finite.
    """
    source, target = np.asarray(source, dtype=float), np.asarray(target, dtype=float)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 2:
        raise UserError(f"landmarks of shape {source.shape}, wanted {target.shape}")
    if not (np.abs(source) < FARTHEST).all():
        raise UserError(f"landmarks are not finite, or beyond any picture: {source.tolist()}")
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    x, y = source - source_mean, target - target_mean
    variance = (x**2).sum()
    if variance < 1e-12:
        raise UserError(f"landmarks coincide at {source_mean.tolist()}")
    u, singular, vt = np.linalg.svd(y.T @ x)
    sign = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    matrix = (u * sign) @ vt * (singular @ sign / variance)
    return np.column_stack([matrix, target_mean - matrix @ source_mean])


def align(
    image: np.ndarray,
    landmarks: np.ndarray,
    size: int = TEMPLATE_SIZE,
    border: str = "black",
    crop: str = "tight",
) -> np.ndarray:
    """Warp a face onto the template; bilinear.

    Args:
        image: uint8 (H, W, 3) RGB.
        landmarks: (5, 2) pixels, see the module.
        size: side of the result in pixels.
        border: what lies outside the picture: "black", or "replicate" its nearest pixels.
        crop: key of `CROPS`.

    Returns:
        uint8 (size, size, 3).
    """
    modes = {"black": cv2.BORDER_CONSTANT, "replicate": cv2.BORDER_REPLICATE}
    if border not in modes:
        raise UserError(f"border={border!r}, allowed are {', '.join(modes)}")
    if crop not in CROPS:
        raise UserError(f"crop={crop!r}, allowed are {', '.join(CROPS)}")
    middle = TEMPLATE_SIZE / 2
    template = middle + (ARCFACE_TEMPLATE - middle) / CROPS[crop]
    matrix = similarity_transform(landmarks, template * (size / TEMPLATE_SIZE))
    return cv2.warpAffine(
        image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=modes[border]
    )


def cfp_five_points(fiducials: np.ndarray, profile: bool) -> np.ndarray:
    """Five landmarks from CFP's 30 fiducials, which cover one half of the face.

    Frontal: the points are on the image's left half; the other eye and mouth corner are mirrored
    over the mid-line (a line fitted to chin, nose bridge, nose base and mouth middle). Profile: the
    hidden eye is put at the nose bridge, the hidden mouth corner at the middle of the mouth.

    Args:
        fiducials: (30, 2) pixels.
        profile: a profile image, else frontal.

    Returns:
        float64 (5, 2) in the order of the module.
    """
    points = np.asarray(fiducials, dtype=float)
    if points.shape != (30, 2):
        raise BadData(f"CFP fiducials of shape {points.shape}, wanted (30, 2)")
    eye, corner = points[CFP_EYE].mean(axis=0), points[CFP_MOUTH_CORNER]
    nose = points[CFP_NOSE_TIP]
    if profile:
        other_eye, other_corner = points[CFP_NOSE_BRIDGE], points[CFP_MOUTH_MIDDLE].mean(axis=0)
    else:
        other_eye, other_corner = _mirror(np.stack([eye, corner]), points[CFP_MID_LINE])
    eyes, corners = [eye, other_eye], [corner, other_corner]
    if eye[0] > other_eye[0]:
        eyes, corners = eyes[::-1], corners[::-1]
    return np.stack([*eyes, nose, *corners])


def _mirror(points: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Mirror (N, 2) points over the line fitted to `line` by total least squares."""
    middle = line.mean(axis=0)
    normal = np.linalg.svd(line - middle)[2][1]
    return points - 2 * ((points - middle) @ normal)[:, None] * normal


def read_fiducials(path: Path) -> np.ndarray:
    """Read a CFP point file: float64 (30, 2), one `x,y` a line."""
    path = Path(path)
    if not path.is_file():
        raise BadData(f"{path}: no such file; wanted CFP fiducials, 30 lines x,y")
    with reading(path, "30 lines x,y"):
        lines = read_text(path, "30 lines x,y").split()
        points = np.array([[float(value) for value in line.split(",")] for line in lines])
    if points.shape != (30, 2) or not (np.abs(points) < FARTHEST).all():
        raise BadData(f"{path}: points of shape {points.shape}, wanted 30 finite lines x,y")
    return points


def read_landmarks_csv(path: Path) -> dict[str, np.ndarray]:
    """Read landmarks by image: a CSV with the columns `file,x1,y1,…,x5,y5`.

    Returns:
        float64 (5, 2) for each value of `file` (a path relative to the folder of images).
    """
    path = Path(path)
    if not path.is_file():
        raise BadData(f"{path}: no such file; wanted a CSV with file,{','.join(LANDMARK_COLUMNS)}")
    landmarks: dict[str, np.ndarray] = {}
    lines: dict[str, int] = {}
    table = read_table(path, "a CSV of landmarks")
    columns = table[0][1] if table else []
    if missing := {"file", *LANDMARK_COLUMNS} - set(columns):
        raise BadData(f"{path}: no column {', '.join(sorted(missing))}")
    for number, fields in table[1:]:
        row = dict(zip(columns, fields, strict=False))
        try:
            values = [float(row[column]) for column in LANDMARK_COLUMNS]
        except (KeyError, ValueError):
            values = []
        where = f"{path}: line {number}"
        if not values or not (np.abs(values) < FARTHEST).all():
            raise BadData(f"{where} holds no ten numbers, wanted file,x1,y1,…,x5,y5")
        name = Path(row["file"].replace("\\", "/")).as_posix()
        if name in landmarks:
            raise BadData(
                f"{where}: {name!r} is there twice (first in line {lines[name]}), wanted one "
                "line per image"
            )
        landmarks[name], lines[name] = np.array(values).reshape(5, 2), number
    return landmarks


@lru_cache(maxsize=1)
def _insightface_detector():
    try:
        from insightface.app import FaceAnalysis
    except ImportError:
        raise UserError(
            "detector 'insightface' is not installed; install it with: pip install insightface"
            " onnxruntime (or give landmarks as a CSV)"
        ) from None
    analysis = FaceAnalysis(allowed_modules=["detection"])
    analysis.prepare(ctx_id=-1, det_size=(640, 640))
    return analysis


def detect_landmarks(image: np.ndarray, detector: str = "insightface") -> np.ndarray | None:
    """Find the five landmarks of the largest face.

    Args:
        image: uint8 (H, W, 3) RGB.
        detector: "insightface" (downloads its detection model on first use).

    Returns:
        float64 (5, 2), or None if no face is found.

    Raises:
        UserError: an unknown detector, or one that is not installed.
    """
    if detector not in DETECTORS:
        raise UserError(f"detector={detector!r}, allowed are {', '.join(DETECTORS)}")
    faces = _insightface_detector().get(np.ascontiguousarray(image[..., ::-1]))  # wants BGR
    if not faces:
        return None
    areas = [np.prod(face.bbox[2:] - face.bbox[:2]) for face in faces]
    return np.asarray(faces[int(np.argmax(areas))].kps, dtype=float)
