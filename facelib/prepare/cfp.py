"""CFP (frontal against frontal, frontal against profile): the official folder to `.bin`.

    Protocol/Pair_list_F.txt    `index path` of the frontal images, path relative to Protocol/
    Protocol/Pair_list_P.txt    the same for profiles
    Protocol/Split/{FF,FP}/NN/{same,diff}.txt    one line per pair: `a,b`
                                FF: both index list F; FP: a indexes F, b indexes P
    …/Images/ID/{frontal,profile}/NN.jpg         …/Fiducials/ID/{frontal,profile}/NN.txt

Images with a point file are aligned by it; without one they must be aligned already.
"""

import os
from pathlib import Path

import numpy as np

from facelib.errors import BadData, UserError
from facelib.formats.decode import decode, encode_jpeg
from facelib.prepare.align import cfp_five_points, read_fiducials
from facelib.prepare.aligner import Aligner, Landmarks
from facelib.prepare.lists import Pair, pairs_to_bin
from facelib.safety.readers import is_number, read_rows, read_text

LISTS = {"FF": ("F", "F"), "FP": ("F", "P")}


def read_cfp_pairs(root: Path, protocol: str) -> list[Pair]:
    """Parse the protocol: fold by fold, `same.txt` then `diff.txt`, in the order of the files.

    Args:
        root: holds `Protocol/`.
        protocol: "FF" or "FP".

    Raises:
        BadData: a file is missing or a line is malformed or names an unknown image.
    """
    if protocol not in LISTS:
        raise UserError(f"protocol={protocol!r}, allowed are {', '.join(LISTS)}")
    folder = Path(root) / "Protocol"
    images = {kind: _read_list(folder / f"Pair_list_{kind}.txt") for kind in set(LISTS[protocol])}
    split = folder / "Split" / protocol
    folds = sorted(path for path in split.glob("*") if path.is_dir())
    if not folds:
        raise BadData(f"{split}: no fold in it; wanted 01/same.txt, 01/diff.txt, …")
    pairs = []
    for fold, path in enumerate(folds):
        for name, same in (("same.txt", True), ("diff.txt", False)):
            for a, b, where in _read_numbers(path / name):
                sides = []
                for kind, index in zip(LISTS[protocol], (a, b), strict=True):
                    if index not in images[kind]:
                        raise BadData(f"{where}: image {index} is not in Pair_list_{kind}.txt")
                    sides.append(images[kind][index])
                ids = [int(side.parent.parent.name) for side in sides]
                if (ids[0] == ids[1]) != same:
                    raise BadData(f"{where}: identities {ids[0]} and {ids[1]} in {name}")
                pairs.append(Pair(*sides, *ids, same, fold))
    if not pairs:
        raise BadData(f"{split}: no pair in it; wanted lines `a,b` in 01/same.txt, …")
    return pairs


def _read_list(path: Path) -> dict[int, Path]:
    if not path.is_file():
        raise BadData(f"{path}: no such file; wanted CFP's list of images")
    images: dict[int, Path] = {}
    lines: dict[int, int] = {}
    for number, line in enumerate(read_rows(path, "lines `index path`"), start=1):
        fields = line.split(maxsplit=1)
        if not fields:
            continue
        if len(fields) != 2 or not is_number(fields[0]):
            raise BadData(f"{path}: line {number} is {line[:60]!r}, wanted `index path`")
        # Lexically, not through links: the point files lie beside the images as they are named.
        image = Path(os.path.normpath(path.parent / fields[1].strip()))
        if not is_number(image.parent.parent.name):
            raise BadData(f"{path}: line {number}: {fields[1]} is not …/ID/frontal/NN.jpg")
        if not image.is_relative_to(os.path.normpath(path.parent.parent)):
            raise BadData(
                f"{path}: line {number}: {fields[1][:200]} leads outside of {path.parent.parent}"
            )
        index = int(fields[0])
        if index in images:
            raise BadData(
                f"{path}: line {number}: index {index} is there twice (first in line "
                f"{lines[index]}), wanted one line per image"
            )
        images[index], lines[index] = image, number
    return images


def _read_numbers(path: Path) -> list[tuple[int, int, str]]:
    if not path.is_file():
        raise BadData(f"{path}: no such file; wanted lines `a,b`")
    numbers = []
    for number, line in enumerate(read_text(path, "lines `a,b`").split(), start=1):
        fields = line.split(",")
        if len(fields) != 2 or not all(map(is_number, fields)):
            raise BadData(f"{path}: line {number} is {line[:60]!r}, wanted `a,b`")
        numbers.append((int(fields[0]), int(fields[1]), f"{path}: line {number}"))
    return numbers


def fiducial_landmarks(path: Path, image: np.ndarray) -> np.ndarray | None:
    """Five landmarks of a CFP image from `Fiducials/…/NN.txt` beside `Images/`; None if absent."""
    root, points = path.parents[3], Path(*path.parts[-3:]).with_suffix(".txt")
    file = root / "Fiducials" / points
    if not file.is_file():
        return None
    return cfp_five_points(read_fiducials(file), profile=path.parent.name == "profile")


def cfp_to_bin(
    root: Path,
    protocol: str,
    out_bin: Path,
    size: int = 112,
    align: Path | str | Landmarks | None = None,
    skip_bad: bool = False,
    crop: str = "tight",
    fill_border: str = "none",
) -> dict:
    """Write one protocol of CFP as a `.bin` benchmark with its sidecar.

    Args:
        root: the dataset's folder.
        protocol: "FF" or "FP".
        out_bin: the `.bin`.
        size: side of the images in pixels.
        align: None for the dataset's own fiducials (or, without them, images that are aligned
            already: their bytes are copied); else a landmarks CSV or a detector, see `Aligner`.
        skip_bad: drop pairs with a missing image or a failed detection, and count them.
        crop: "tight" (ArcFace's) or "loose", see `Aligner`.
        fill_border: "replicate" fills what the alignment left black, see `decode`.

    Returns:
        Counts, see `pairs_to_bin`.
    """
    pairs = read_cfp_pairs(root, protocol)
    aligned = Aligner(Path(os.path.normpath(root)), size, align or fiducial_landmarks, crop=crop)

    def filled(path: Path) -> bytes:
        return encode_jpeg(decode(aligned(path), fill_border=fill_border))

    encode = aligned if fill_border == "none" else filled
    return pairs_to_bin(pairs, encode, out_bin, skip_bad)
