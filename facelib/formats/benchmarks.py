"""Verification benchmarks: pairs of images, their folds and identities.

A benchmark is InsightFace's `NAME.bin` (`facelib/formats/bins.py`) and, optionally, a sidecar
`NAME.meta.npz` with what a `.bin` cannot say (`np.load` with `allow_pickle=False`):

    fold        int (P,), 0-based
    id1, id2    int (P,), identity of each side
    yaw1, yaw2  float32 (P,), degrees; optional
    hidden1, hidden2  str (P,), what hides a part of the face, "" nothing; optional
    pairs       str, digest of the images and labels it was written for

Without a sidecar the folds are contiguous tenths (InsightFace's KFold without shuffling), and
identities are the connected components of the genuine pairs: two images of one person that no
chain of genuine pairs links get different identities.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facelib.digests import digest
from facelib.errors import BadData, UserError
from facelib.formats.bins import read_bin, write_bin
from facelib.paths import atomic_file
from facelib.safety.readers import is_number, read_arrays, read_rows

log = logging.getLogger(__name__)

DEFAULT_FOLDS = 10
# Array of a sidecar -> kinds of numbers that it may hold (numpy's letters).
SIDECAR = {"fold": "iu", "id1": "iuUS", "id2": "iuUS", "yaw1": "fiu", "yaw2": "fiu",
           "hidden1": "U", "hidden2": "U"}  # fmt: skip


@dataclass(frozen=True)
class Benchmark:
    """P pairs over U unique encoded images (equal bytes are one image).

    Attributes:
        name: file name without `.bin`.
        images: U encoded images.
        index1, index2: int64 (P,), rows of `images`.
        same: bool (P,), True where both sides show one person.
        fold: int64 (P,), 0-based.
        id1, id2: int64 (P,), identity of each side.
        yaw1, yaw2: float32 (P,) degrees, or None.
        digest: 16 hex digits over images, pairs and folds.
        hidden1, hidden2: str (P,), what hides a part of the face, by commas, "" nothing; or None.
    """

    name: str
    images: list[bytes]
    index1: np.ndarray
    index2: np.ndarray
    same: np.ndarray
    fold: np.ndarray
    id1: np.ndarray
    id2: np.ndarray
    yaw1: np.ndarray | None
    yaw2: np.ndarray | None
    digest: str
    hidden1: np.ndarray | None = None
    hidden2: np.ndarray | None = None

    @property
    def folds(self) -> int:
        """Number of folds."""
        return len(np.unique(self.fold))


def sidecar_path(path: Path) -> Path:
    """`NAME.meta.npz` beside `NAME.bin`."""
    return Path(path).with_suffix(".meta.npz")


def is_rendered(path: Path) -> bool:
    """Whether a `.bin` file holds rendered faces: a `spec.json` lies beside it."""
    return (Path(path).parent / "spec.json").is_file()


def person_of_image(pairs) -> np.ndarray:
    """Identity (U,) of each unique image of a `Benchmark`, or of `Scores` with all its columns."""
    person = np.empty(max(pairs.index1.max(), pairs.index2.max()) + 1, pairs.id1.dtype)
    person[pairs.index1], person[pairs.index2] = pairs.id1, pairs.id2
    return person


def load_benchmark(path: Path) -> Benchmark:
    """Read `NAME.bin` and its sidecar, if there is one.

    Raises:
        BadData: what `read_bin` refuses, or a sidecar that is damaged or of another `.bin`.
    """
    path = Path(path)
    sides, same = read_bin(path)
    images, index, hashes = _unique(sides)
    pairs = _pairs_digest(hashes, index, same)
    meta = _read_sidecar(sidecar_path(path), same, pairs)
    index1, index2 = index[0::2].copy(), index[1::2].copy()
    fold = meta.get("fold", contiguous_folds(len(same)))
    one_kind = [k for k in np.unique(fold) if len(np.unique(same[fold == k])) == 1]
    if one_kind and len(np.unique(same)) == 2:
        log.warning(
            "%s: %d of its %d folds hold pairs of one kind only (as where all genuine pairs"
            " come first): shuffle the pairs, or give folds in %s",
            path, len(one_kind), len(np.unique(fold)), sidecar_path(path).name,
        )  # fmt: skip
    id1, id2 = meta.get("id1"), meta.get("id2")
    if id1 is None or id2 is None:
        identity = connected_components(len(images), index1[same], index2[same])
        id1, id2 = identity[index1], identity[index2]
    key = digest(f"{pairs} {fold.tolist()}")
    yaws, hidden = ([meta.get(f"{name}{k}") for k in (1, 2)] for name in ("yaw", "hidden"))
    return Benchmark(path.stem, images, index1, index2, same, fold, id1, id2, *yaws, key, *hidden)


def read_people(path: Path) -> dict[int, str]:
    """Names of benchmark identities from lines `id<TAB>name`; ids as in the benchmark's sidecar.

    Raises:
        BadData: a line of another form, or an id that occurs twice.
    """
    path = Path(path)
    people: dict[int, str] = {}
    for number, line in enumerate(read_rows(path, "lines id<TAB>name"), start=1):
        if not line.strip():
            continue
        identity, tab, name = line.partition("\t")
        if not tab or not is_number(identity.strip()) or not name.strip():
            raise BadData(f"{path}, line {number}: {line[:40]!r}, wanted id<TAB>name")
        if int(identity) in people:
            raise BadData(f"{path}, line {number}: id {identity} occurs twice")
        people[int(identity)] = name.strip()
    return people


def save_benchmark(
    path: Path,
    images1: Sequence[bytes],
    images2: Sequence[bytes],
    same: Sequence[bool],
    fold: Sequence[int] | None = None,
    id1: Sequence[int] | None = None,
    id2: Sequence[int] | None = None,
    yaw1: Sequence[float] | None = None,
    yaw2: Sequence[float] | None = None,
    hidden1: Sequence[str] | None = None,
    hidden2: Sequence[str] | None = None,
) -> None:
    """Write `NAME.bin` and `NAME.meta.npz`, each whole or not at all.

    Args:
        path: the `.bin`.
        images1, images2: P encoded images each, the two sides of the pairs.
        same: P bools.
        fold: P ints, 0-based; contiguous tenths if absent.
        id1, id2, yaw1, yaw2, hidden1, hidden2: P values each, or None.
    """
    path, same = Path(path), np.asarray(same, dtype=bool)
    meta = {
        "fold": contiguous_folds(len(same)) if fold is None else np.asarray(fold, dtype=np.int64)
    }
    for name, values, kind in (
        ("id1", id1, np.int64),
        ("id2", id2, np.int64),
        ("yaw1", yaw1, np.float32),
        ("yaw2", yaw2, np.float32),
        ("hidden1", hidden1, str),
        ("hidden2", hidden2, str),
    ):
        if values is not None:
            meta[name] = np.asarray(values, dtype=kind)
    lengths = {"images1": len(images1), "images2": len(images2)}
    lengths |= {name: len(values) for name, values in meta.items()}
    wrong = {name: length for name, length in lengths.items() if length != len(same)}
    if wrong:
        raise UserError(f"{path}: {len(same)} pairs, but {wrong}")
    sides = [side for pair in zip(images1, images2, strict=True) for side in pair]
    _, index, hashes = _unique(sides)
    # The sidecar goes first: after a kill in between, its digest tells that it is not the .bin's.
    with atomic_file(sidecar_path(path)) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, pairs=np.array(_pairs_digest(hashes, index, same)), **meta)
    write_bin(path, sides, same)


def contiguous_folds(pairs: int, folds: int = DEFAULT_FOLDS) -> np.ndarray:
    """Fold of each pair, int64 (pairs,): equal runs, the first ones longer by one if need be."""
    parts = np.array_split(np.arange(pairs), min(folds, pairs))
    return np.repeat(np.arange(len(parts)), [len(part) for part in parts])


def connected_components(nodes: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Component 0, 1, … of each node, int64 (nodes,), under the edges a[i]–b[i]."""
    parent = list(range(nodes))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for left, right in zip(a.tolist(), b.tolist(), strict=True):
        low, high = sorted((root(left), root(right)))
        parent[high] = low
    return np.unique([root(node) for node in range(nodes)], return_inverse=True)[1].reshape(-1)


def _unique(sides: list[bytes]) -> tuple[list[bytes], np.ndarray, list[str]]:
    """Unique images in the order of first use, int64 (2·P,) into them, and their SHA-256."""
    place: dict[str, int] = {}
    images: list[bytes] = []
    index = np.empty(len(sides), dtype=np.int64)
    # One object is hashed once: a file of a megabyte can name an image of it a million times.
    names: dict[int, str] = {}
    for i, image in enumerate(sides):
        name = names.get(id(image))
        if name is None:
            name = names[id(image)] = digest(image, digits=64)
        if name not in place:
            place[name] = len(images)
            images.append(image)
        index[i] = place[name]
    return images, index, list(place)


def _pairs_digest(hashes: list[str], index: np.ndarray, same: np.ndarray) -> str:
    return digest(f"{hashes} {index.tolist()} {same.astype(int).tolist()}")


def _read_sidecar(path: Path, same: np.ndarray, own: str) -> dict[str, np.ndarray]:
    pairs = len(same)
    if not path.is_file():
        return {}
    again = "delete it (folds become contiguous tenths) or make the benchmark again"
    meta = read_arrays(path, "a sidecar .npz", again, ("pairs", *SIDECAR))
    if "pairs" in meta and str(meta.pop("pairs")) != own:
        raise BadData(f"{path}: written for another .bin; {again}")
    for name, values in meta.items():
        if values.shape != (pairs,):
            raise BadData(f"{path}: {name} has shape {values.shape}, wanted ({pairs},); {again}")
        if values.dtype.kind not in SIDECAR[name]:
            wanted = "text" if SIDECAR[name] == "U" else "numbers"
            raise BadData(f"{path}: {name} has type {values.dtype}, wanted {wanted}; {again}")
    _check_identities(path, meta, same, again)
    return meta


def _check_identities(path: Path, meta: dict, same: np.ndarray, again: str) -> None:
    """BadData where a pair is of one person by its label and of two by its identities."""
    if "id1" not in meta or "id2" not in meta:
        return
    wrong = np.flatnonzero((meta["id1"] == meta["id2"]) != same)
    if len(wrong):
        i = int(wrong[0])
        raise BadData(
            f"{path}: pair {i} is marked {'same' if same[i] else 'different'}, but its identities"
            f" are {meta['id1'][i]} and {meta['id2'][i]} ({len(wrong)} of {len(same)} pairs"
            f" contradict); mend the labels or the identities, or {again}"
        )
