"""LFW: the official `pairs.txt` and a folder of images to a `.bin` benchmark.

    10<TAB>300                         folds, and genuine (= impostor) pairs per fold
    Abel_Pacheco<TAB>1<TAB>4           300 genuine: name, two image numbers
    Abdel_Madi_Shabneh<TAB>1<TAB>Dean_Barker<TAB>1     300 impostor: name, number, name, number
    …                                  the next fold

A list with one number in the first line (`pairsDevTest.txt`) has one fold. Image n of a person is
`NAME/NAME_000n.jpg`. A name may be a number, and have blanks where tabs part the fields.
"""

from pathlib import Path

from facelib.errors import BadData
from facelib.formats.decode import IMAGE_SUFFIXES
from facelib.prepare.aligner import Aligner, Landmarks
from facelib.prepare.lists import Pair, pairs_to_bin
from facelib.safety.readers import is_number, read_rows


def read_lfw_pairs(pairs_txt: Path, images_dir: Path) -> list[Pair]:
    """Parse `pairs.txt`; identities are numbered in the sorted order of the names in it.

    Raises:
        BadData: no such file, a malformed line, or a number of lines that the header denies.
    """
    pairs_txt, images_dir = Path(pairs_txt), Path(images_dir)
    if not pairs_txt.is_file():
        raise BadData(f"{pairs_txt}: no such file; wanted LFW's pairs.txt")
    rows = [line for line in read_rows(pairs_txt, "LFW's pairs.txt") if line.strip()]
    mark = "\t" if any("\t" in row for row in rows[1:]) else None
    lines = [rows[0].split(), *(_fields(row, mark) for row in rows[1:])] if rows else []
    header = lines[0] if lines else []
    if len(header) not in (1, 2) or not all(map(is_number, header)):
        raise BadData(
            f"{pairs_txt}: starts with {' '.join(header)[:60]!r}, wanted e.g. 10<TAB>300; a list of"
            " paths is taken by: python -m facelib prepare pairs --help"
        )
    folds, each = (1, int(header[0])) if len(header) == 1 else map(int, header)
    if len(lines) - 1 != 2 * folds * each or len(lines) == 1:
        raise BadData(f"{pairs_txt}: {len(lines) - 1} pairs, its header says {2 * folds * each}")
    names = sorted({name for line in lines[1:] for name in (line[0], *line[2:-1])})
    number = {name: i for i, name in enumerate(names)}
    pairs = []
    for i, fields in enumerate(lines[1:]):
        same = i % (2 * each) < each
        if same and len(fields) == 3:
            fields = [*fields[:2], fields[0], fields[2]]
        elif same or len(fields) != 4:
            raise BadData(
                f"{pairs_txt}: pair {i + 1} is {' '.join(fields)[:80]!r}, wanted"
                f" {'name i j' if same else 'name i name j'}"
            )
        name1, image1, name2, image2 = fields
        if not (is_number(image1) and is_number(image2)):
            raise BadData(
                f"{pairs_txt}: pair {i + 1} is {' '.join(fields)[:80]!r}: no image number"
            )
        if (name1 == name2) != same:
            raise BadData(
                f"{pairs_txt}: pair {i + 1} is {' '.join(fields)[:80]!r}, wanted"
                f" {'one person' if same else 'two people'}"
            )
        sides = [find_image(images_dir, name1, image1), find_image(images_dir, name2, image2)]
        pairs.append(Pair(*sides, number[name1], number[name2], same, i // (2 * each)))
    return pairs


def _fields(row: str, mark: str | None) -> list[str]:
    return [field for field in (part.strip() for part in row.split(mark)) if field]


def find_image(images_dir: Path, name: str, number: str) -> Path:
    """Path of image `number` of a person; the `.jpg` name if there is none."""
    stem = images_dir / name / f"{name}_{int(number):04d}"
    for suffix in IMAGE_SUFFIXES:
        if stem.with_suffix(suffix).is_file():
            return stem.with_suffix(suffix)
    return stem.with_suffix(".jpg")


def lfw_to_bin(
    pairs_txt: Path,
    images_dir: Path,
    out_bin: Path,
    size: int = 112,
    align: Path | str | Landmarks | None = None,
    skip_bad: bool = False,
    crop: str = "tight",
) -> dict:
    """Write LFW (or a list of its form) as a `.bin` benchmark with its sidecar.

    Args:
        pairs_txt: the list.
        images_dir: holds `NAME/NAME_0001.jpg`.
        out_bin: the `.bin`.
        size: side of the images in pixels.
        align: None if the images are aligned already (their bytes are copied), else a landmarks CSV
            or a detector, see `Aligner`.
        skip_bad: drop pairs with a missing image or a failed detection, and count them.
        crop: "tight" (ArcFace's) or "loose", see `Aligner`.

    Returns:
        Counts, see `pairs_to_bin`.
    """
    pairs = read_lfw_pairs(pairs_txt, images_dir)
    return pairs_to_bin(pairs, Aligner(images_dir, size, align, crop=crop), out_bin, skip_bad)
