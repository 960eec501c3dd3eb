"""A list of image pairs to a `.bin` benchmark: what LFW and CFP share."""

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from facelib.errors import BadData
from facelib.formats.benchmarks import save_benchmark

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pair:
    """One line of a protocol: two image files, their identities, the label and the fold."""

    image1: Path
    image2: Path
    id1: int
    id2: int
    same: bool
    fold: int


def pairs_to_bin(
    pairs: list[Pair], encode: Callable[[Path], bytes], out_bin: Path, skip_bad: bool = False
) -> dict:
    """Encode every image once and write the `.bin` with its sidecar.

    Args:
        pairs: the protocol, in order.
        encode: image path → encoded bytes, see `facelib.prepare.aligner.Aligner`.
        out_bin: the `.bin`.
        skip_bad: drop a pair with an image that is missing or cannot be aligned, and count it.

    Returns:
        `{out, pairs, folds, images, identities, skipped_pairs, bad_images, left_out}`; `left_out`
        counts the bad images by reason.

    Raises:
        BadData: an image is missing or cannot be aligned, and `skip_bad` is not set.
    """
    paths = sorted({path for pair in pairs for path in (pair.image1, pair.image2)})
    encoded: dict[Path, bytes] = {}
    bad: list[BadData] = []
    for path in tqdm(paths, desc=f"{Path(out_bin).name}: images", disable=None):
        try:
            encoded[path] = encode(path)
        except BadData as error:
            if not skip_bad:
                raise BadData(f"{error}; drop such pairs with --skip-bad") from None
            bad.append(error)
    kept = [pair for pair in pairs if pair.image1 in encoded and pair.image2 in encoded]
    skipped = len(pairs) - len(kept)
    if skipped:
        log.warning(
            "dropped %d of %d pairs: %d bad images, e.g. %s", skipped, len(pairs), len(bad), bad[0]
        )
    if not kept:
        raise BadData(
            f"{out_bin}: no pair left of {len(pairs)}; first problem: {(bad or ['–'])[0]}"
        )
    save_benchmark(
        out_bin,
        [encoded[pair.image1] for pair in kept],
        [encoded[pair.image2] for pair in kept],
        np.array([pair.same for pair in kept]),
        fold=[pair.fold for pair in kept],
        id1=[pair.id1 for pair in kept],
        id2=[pair.id2 for pair in kept],
    )
    return {
        "out": str(out_bin),
        "pairs": len(kept),
        "folds": len({pair.fold for pair in kept}),
        "images": len({path for pair in kept for path in (pair.image1, pair.image2)}),
        "identities": len({identity for pair in kept for identity in (pair.id1, pair.id2)}),
        "skipped_pairs": skipped,
        "bad_images": len(bad),
        "left_out": dict(Counter(error.reason for error in bad)),
    }
