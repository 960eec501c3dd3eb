"""A plain folder of identities, `SRC/NAME/*.jpg`, to a face RecordIO set."""

import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from facelib.errors import BadData, UserError
from facelib.formats.recordio import write_face_records
from facelib.formats.trees import list_identities
from facelib.prepare.aligner import Aligner, Landmarks

log = logging.getLogger(__name__)


def folder_to_records(
    src: Path,
    out: Path,
    size: int = 112,
    align: Path | str | Landmarks | None = None,
    min_images: int = 1,
    skip_bad: bool = False,
    crop: str = "tight",
) -> dict:
    """Write `SRC/NAME/*` as train.rec, train.idx, property and names.txt.

    The folder `out` appears whole at the end, or not at all. Identities and images are in sorted
    order; JPEGs of size × size are copied byte for byte, other images are encoded at quality 95.

    Args:
        src: one folder of images for each identity.
        out: new folder.
        size: side of the images in pixels.
        align: landmarks CSV or detector, see `Aligner`; None takes the images as they are (another
            shape is padded to a square and resized).
        min_images: identities with fewer good images are left out, and counted.
        skip_bad: leave out, count and log files that are no image or show no face.
        crop: "tight" (ArcFace's) or "loose", see `Aligner`.

    Returns:
        `{out, images, identities, skipped_images, left_out_identities, resized_unaligned,
        left_out}`; `left_out` counts the files that gave no image, by reason.

    Raises:
        UserError: wrong folders or options. BadData: a bad image, without `skip_bad`.
    """
    left_out: Counter[str] = Counter()
    out, identities = Path(out), list_identities(src, left_out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: exists already; delete it or choose another folder")
    encode = Aligner(src, size, align, fit=align is None, crop=crop)
    counts = {"images": 0, "skipped_images": 0, "left_out_identities": 0, "left_out": left_out}
    names: list[str] = []

    def images() -> Iterator[tuple[int, bytes]]:
        for name, paths in tqdm(identities.items(), desc=f"{out.name}: identities", disable=None):
            good = _encode_all(paths, encode, skip_bad, counts)
            if len(good) < max(min_images, 1):
                counts["left_out_identities"] += 1
                continue
            counts["images"] += len(good)
            names.append(name)
            yield from ((len(names) - 1, image) for image in good)

    out.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.", suffix=".tmp"))
    try:
        write_face_records(staging, images(), (size, size), names)  # names grows with the images
        if not names:
            raise UserError(f"{src}: no identity has {min_images} good images")
        staging.chmod(0o755)
        staging.replace(out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    result = {"out": str(out), "identities": len(names), "resized_unaligned": encode.fitted}
    result |= counts | {"left_out": dict(left_out)}
    log.info("%s", result)
    return result


def _encode_all(paths: list[Path], encode: Aligner, skip_bad: bool, counts: dict) -> list[bytes]:
    good = []
    for path in paths:
        try:
            good.append(encode(path))
        except BadData as error:
            if not skip_bad:
                raise BadData(f"{error}; leave such files out with --skip-bad") from None
            counts["skipped_images"] += 1
            counts["left_out"][error.reason] += 1
            log.warning("skipped (%d so far): %s", counts["skipped_images"], error)
    return good
