"""What is in a file or folder: counts from the data itself, and what is wrong with it."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from facelib.digests import digest
from facelib.errors import BadData, UserError
from facelib.formats.benchmarks import load_benchmark, sidecar_path
from facelib.formats.decode import decode
from facelib.formats.face_index import check_gap_free, read_face_index, read_names
from facelib.formats.recordio import RecordReader, unpack
from facelib.formats.trees import list_identities
from facelib.metrics.scores import STAMPS, load_scores
from facelib.prepare.cfp import read_cfp_pairs
from facelib.prepare.lfw import read_lfw_pairs
from facelib.safety.readers import is_number, read_arrays, read_text

# Images decoded by default; `deep` decodes all.
SAMPLE = 200
# JPEG rounds the three channels of a grey picture apart by a few levels.
GREY_TOLERANCE = 8
KINDS = (
    "a face set (train.rec), a .rec, a .bin, a scores .npz, a folder with pairs.txt (LFW), with"
    " Protocol/ (CFP), or with one folder of images for each identity"
)


def inspect(path: Path, deep: bool = False) -> dict:
    """Report on any of the study's formats.

    Args:
        path: one of `KINDS`.
        deep: decode every image instead of an even sample of 200, and read every record.

    Returns:
        JSON-able dict: `kind`, `path`, `problems` (sentences), and what the kind has of `records`,
        `images`, `identities`, `images_per_identity`, `single_image_identities`, `image_sizes`,
        `grey_images`, `decoded`, `pairs`, `genuine`, `folds`, `duplicate_images`, …

    Raises:
        UserError: nothing known is there. BadData: the file cannot be read at all.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; wanted {KINDS}")
    report = {"kind": "", "path": str(path), "problems": []}
    if path.is_dir():
        return report | _inspect_folder(path, deep)
    if path.suffix == ".rec":
        return report | _inspect_records(path, deep)
    if path.suffix == ".bin":
        return report | _inspect_benchmark(path, deep)
    if path.suffix == ".npz":
        return report | _inspect_scores(path)
    if path.name.startswith("pairs") and path.suffix == ".txt":
        return report | _inspect_lfw(path, deep)
    raise UserError(f"{path}: unknown kind of file; wanted {KINDS}")


def _inspect_folder(path: Path, deep: bool) -> dict:
    if any(path.glob("*.rec")) or (path / "train.idx").exists():
        return _inspect_records(path, deep)
    if (path / "Protocol").is_dir():
        return _inspect_cfp(path, deep)
    if (path / "pairs.txt").is_file():
        return _inspect_lfw(path / "pairs.txt", deep)
    return _inspect_identities(path, deep)


def _inspect_records(path: Path, deep: bool) -> dict:
    reader = RecordReader(path)
    keys, labels, problems = read_face_index(reader)
    report = {"kind": "face records", "records": len(reader), "images": len(keys)}
    report |= {"problems": problems, **_describe_identities(labels)}
    try:
        check_gap_free(labels, reader.rec_path)
        names = read_names(reader.rec_path.parent / "names.txt", labels)
        report["names"] = names is not None
    except BadData as error:
        report["problems"].append(str(error))
    report["problems"] += _check_property(reader.rec_path.parent / "property", report["identities"])
    if deep:
        others = np.setdiff1d(reader.keys, keys)
        for key in others:
            reader.read(int(key))
    chosen = keys if deep else keys[_spread(len(keys))]
    payloads = (
        (f"record {key}", bytes(unpack(reader.read(int(key)), f"record {key}")[1]))
        for key in chosen
    )
    return _merge(report, _describe_images(payloads))


def _check_property(path: Path, identities: int) -> list[str]:
    if not path.is_file():  # only face2rec2 writes one, and nothing here needs it
        return []
    try:
        fields = read_text(path, "identities,height,width").split("\n")[0].split(",")
    except BadData as error:
        return [str(error)]
    if len(fields) != 3 or not all(is_number(field.strip()) for field in fields):
        return [f"{path.name} is {','.join(fields)[:40]!r}, wanted identities,height,width"]
    if int(fields[0]) != identities:
        return [f"{path.name} says {fields[0]} identities, the records hold {identities}"]
    return []


def _inspect_benchmark(path: Path, deep: bool) -> dict:
    bench = load_benchmark(path)
    has_sidecar = sidecar_path(path).is_file()
    report = {"kind": "benchmark", "images": len(bench.images), "sidecar": has_sidecar}
    report |= _describe_pairs(bench.same, bench.fold, has_sidecar)
    report["identities"] = len(np.unique(np.concatenate([bench.id1, bench.id2])))
    if not has_sidecar:
        report["identities_from"] = "genuine pairs"
    itself = int((bench.index1 == bench.index2).sum())
    if itself:
        report["problems"].append(f"{itself} pairs compare an image with an identical one")
    low, high = np.minimum(bench.index1, bench.index2), np.maximum(bench.index1, bench.index2)
    report["repeated_pairs"] = len(low) - len({*zip(low.tolist(), high.tolist())})
    contradictions = int(((bench.id1 == bench.id2) != bench.same).sum())
    if contradictions:
        report["problems"].append(f"{contradictions} pairs where same and identities disagree")
    chosen = range(len(bench.images)) if deep else _spread(len(bench.images))
    return _merge(report, _describe_images((f"image {i}", bench.images[i]) for i in chosen))


def _inspect_lfw(path: Path, deep: bool) -> dict:
    """`pairs.txt` with the folders of the people beside it, or in one folder beside it."""
    people = {pair.image1.parent for pair in read_lfw_pairs(path, path.parent)}
    roots = [path.parent, *(folder for folder in sorted(path.parent.iterdir()) if folder.is_dir())]
    root = max(roots, key=lambda root: sum((root / person.name).is_dir() for person in people))
    report = {"kind": "lfw", "image_folder": str(root)}
    return report | _inspect_list(read_lfw_pairs(path, root), deep)


def _inspect_cfp(path: Path, deep: bool) -> dict:
    report: dict = {"kind": "cfp", "protocols": {}, "problems": []}
    everything = []
    for protocol in ("FF", "FP"):
        try:
            pairs = read_cfp_pairs(path, protocol)
        except BadData as error:
            report["problems"].append(str(error))
            continue
        everything += pairs
        same, fold = (np.array([getattr(pair, key) for pair in pairs]) for key in ("same", "fold"))
        described = _describe_pairs(same, fold, True)
        report["problems"] += [f"{protocol}: {problem}" for problem in described.pop("problems")]
        described["repeated_pairs"] = len(pairs) - len(
            {frozenset((pair.image1, pair.image2)) for pair in pairs}
        )
        report["protocols"][protocol] = described
    if not everything:
        raise BadData(f"{path}: {report['problems'][0]}")
    return _merge(report, _inspect_list(everything, deep))


def _inspect_list(pairs: list, deep: bool) -> dict:
    same, fold = (np.array([getattr(pair, key) for pair in pairs]) for key in ("same", "fold"))
    owner = {pair.image1: pair.id1 for pair in pairs} | {pair.image2: pair.id2 for pair in pairs}
    there = sorted(path for path in owner if path.is_file())
    report = _describe_pairs(same, fold, True) | {"images": len(there)}
    report |= _describe_identities(np.array([owner[path] for path in owner]))
    if len(there) < len(owner):
        first = next(path for path in sorted(owner) if not path.is_file())
        report["problems"].append(f"{len(owner) - len(there)} images are missing, first {first}")
    return _merge(report, _describe_files(there, deep))


def _inspect_identities(path: Path, deep: bool) -> dict:
    left_out: Counter[str] = Counter()
    identities = list_identities(path, left_out)
    files = [file for images in identities.values() for file in images]
    counts = [len(images) for images in identities.values()]
    report = {"kind": "folder of identities", "images": len(files), "problems": []}
    report["left_out"] = dict(left_out)
    report |= _describe_identities(np.repeat(np.arange(len(counts)), counts))
    empty = [name for name, images in identities.items() if not images]
    if empty:
        report["problems"].append(f"{len(empty)} folders without an image, first {empty[0]}")
    return _merge(report, _describe_files(files, deep))


def _inspect_scores(path: Path) -> dict:
    scores = load_scores(path)
    found = read_arrays(path, "an .npz of scores")
    arrays = {name: list(found[name].shape) for name in sorted({*found} - {*STAMPS})}
    report = {"kind": "scores", "arrays": arrays}
    return report | _describe_pairs(scores.same, scores.fold, "fold" in arrays)


def _describe_pairs(same: np.ndarray, fold: np.ndarray, own_folds: bool) -> dict:
    problems = []
    if same.all() or not same.any():
        problems.append("all pairs are of one kind (genuine or impostor)")
    report = {"pairs": len(same), "genuine": int(same.sum()), "problems": problems}
    report["folds"] = len(np.unique(fold))
    if not own_folds:
        report["folds_from"] = "contiguous tenths"
    return report


def _describe_identities(labels: np.ndarray) -> dict:
    counts = np.unique(labels, return_counts=True)[1]
    return {
        "identities": len(counts),
        "images_per_identity": {
            "min": int(counts.min()),
            "median": float(np.median(counts)),
            "max": int(counts.max()),
        },
        "single_image_identities": int((counts == 1).sum()),
    }


def _describe_files(files: list[Path], deep: bool) -> dict:
    chosen = files if deep else [files[i] for i in _spread(len(files))]
    return _describe_images((str(file), file.read_bytes()) for file in chosen)


def _describe_images(payloads: Iterable[tuple[str, bytes]]) -> dict:
    """Decode images: sizes, grey ones, equal bytes, and those that are no image."""
    sizes: Counter[str] = Counter()
    digests: Counter[str] = Counter()
    bad: list[str] = []
    decoded = grey = 0
    for name, payload in payloads:
        decoded += 1
        digests[digest(payload, digits=64)] += 1
        try:
            image = decode(payload)
        except BadData as error:
            bad.append(f"{name}: {error}")
            continue
        sizes[f"{image.shape[1]}x{image.shape[0]}"] += 1
        grey += is_grey(image)
    problems = [f"{len(bad)} of {decoded} decoded are no image; {bad[0]}"] if bad else []
    return {
        "decoded": decoded,
        "image_sizes": dict(sizes.most_common()),
        "grey_images": grey,
        "duplicate_images": decoded - len(digests),
        "problems": problems,
    }


def is_grey(image: np.ndarray) -> bool:
    """True if the channels of uint8 (H, W, 3) agree up to JPEG rounding in every pixel."""
    return int(np.ptp(image.astype(np.int16), axis=2).max()) <= GREY_TOLERANCE


def _spread(count: int) -> np.ndarray:
    """Indices of an even sample of `SAMPLE` out of `count`."""
    return np.unique(np.linspace(0, max(count - 1, 0), min(SAMPLE, count)).astype(int))


def _merge(report: dict, more: dict) -> dict:
    """`report` and `more` in one, with the problems of both."""
    problems = report.get("problems", []) + more.get("problems", [])
    return report | more | {"problems": problems}
