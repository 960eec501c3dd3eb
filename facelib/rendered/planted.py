"""Rendered faces with a planted overlap: some benchmark people are in the training set as well.

The answer is known, so an audit can be scored and its effect measured. The benchmarks and the first
training people are byte for byte those of the same specification without overlap; leaving the
planted people out again (`exclude=`) gives that clean training set. On top of its files:

    names.txt       made-up names of all training people
    people.txt      `id<TAB>name` of the benchmark people
    planted.csv     label, id, name kind (match, spelling, other), copies
    copies.csv      record, label, kind, source: copies of benchmark images among the training

Half of the planted people carry their name in another writing (underscore, capitals and surname
first, no accents), a sixth with one letter changed, the others under another name. A third have, on
top of new pictures, four copies of benchmark pictures. Two strangers in a hundred share a name with
somebody of the benchmark.
"""

import csv
import json
import logging
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from tqdm.auto import tqdm

from facelib.digests import digest
from facelib.errors import UserError
from facelib.formats.benchmarks import Benchmark, load_benchmark
from facelib.formats.decode import decode, encode_jpeg
from facelib.formats.face_index import read_face_index
from facelib.formats.record_bytes import unpack
from facelib.formats.recordio import RecordReader, write_face_records
from facelib.rendered.heads import load_assets
from facelib.rendered.spec import RenderedSpec
from facelib.rendered.synthetic import PLANTED, drawn

log = logging.getLogger(__name__)
NAME_KINDS = ("match", "match", "match", "spelling", "other", "other")
HOMONYMS = 0.02  # share of strangers in training with the name of a benchmark person
FIRST = (
    ("Al", "Bé", "Da", "El", "Fa", "Jo", "Ka", "Li", "Ma", "Nó", "Ra", "Sa", "Ti"),
    ("bin", "dor", "lén", "mir", "na", "ric", "sol", "via"),
)
LAST = (
    ("Bor", "Cas", "Dun", "Fél", "Gra", "Høl", "Kes", "Lam", "Mor", "Nor", "Pel", "Rös", "Tal"),
    ("ano", "berg", "dal", "eková", "ford", "ler", "mann", "sen", "stad", "vić"),
)
COPIES = ("exact", "encoded again", "cropped", "brighter")


def planted_people(spec: RenderedSpec) -> np.ndarray:
    """Numbers (planted,) of the test people in training, spread evenly over the folds."""
    return np.floor(np.arange(spec.planted) * spec.test_identities / spec.planted).astype(np.int64)


def has_copies(k: int) -> bool:
    """Whether the k-th planted person's benchmark pictures are copied: a third, of every kind."""
    return (k // len(NAME_KINDS) + k) % 3 == 0


def build_planted(spec: RenderedSpec, folder: Path, base: Path, root: Path, workers: int) -> None:
    """Write the data set of a spec with `planted` above 0 into `folder`.

    Only the new pictures are drawn; `base` is the same set without overlap.
    """
    for path in base.iterdir():
        if path.suffix in (".bin", ".npz") and not path.name.startswith("train"):
            shutil.copy2(path, folder / path.name)
    people = planted_people(spec)
    train_names, test_names, kinds = make_names(spec, people)
    load_assets(root)
    log.info("rendering %d more faces of %d planted people", spec.images * len(people), len(people))
    jobs = [(spec, PLANTED, int(i), root) for i in people]
    copied: list[tuple] = []
    with (
        tqdm(total=len(people) * spec.images, unit="image", desc="planted", mininterval=1) as bar,
        drawn(jobs, max(1, min(workers, len(jobs)))) as identities,
    ):
        size, images = (spec.size, spec.size), _images(spec, base, identities, bar, copied)
        write_face_records(folder, images, size=size, names=train_names)
    lines = (f"{spec.identities + i}\t{name}\n" for i, name in enumerate(test_names))
    (folder / "people.txt").write_text("".join(lines), encoding="utf-8")
    rows = [
        (spec.identities + k, spec.identities + int(i), kinds[k], len(COPIES) * has_copies(k))
        for k, i in enumerate(people)
    ]
    _write_csv(folder / "planted.csv", ("label", "id", "name", "copies"), rows)
    _write_csv(folder / "copies.csv", ("record", "label", "kind", "source"), copied)
    (folder / "spec.json").write_text(json.dumps(spec.settings(), indent=2) + "\n")


def _images(spec, base: Path, identities, bar, copied: list[tuple]) -> Iterator[tuple[int, bytes]]:
    """Yield (label, JPEG): the clean set's, then each planted person's; notes rows of copies.csv.

    The copies are of two frontal and two wild benchmark pictures of the person.
    """
    benches = [load_benchmark(base / f"{name}.bin") for name in ("cfp_ff", "lfw")]
    reader = RecordReader(base)
    keys, labels, _ = read_face_index(reader)
    written = len(keys)
    for key, label in zip(keys.tolist(), labels.tolist(), strict=True):
        yield label, bytes(unpack(reader.read(key), f"{base}: record {key}")[1])
    for k, person in enumerate(planted_people(spec)):
        label = spec.identities + k
        for jpeg, *_ in next(identities):
            written += 1
            bar.update()
            yield label, jpeg
        if has_copies(k):
            own = [images_of(bench, spec.identities + person)[:2] for bench in benches]
            for kind, source in zip(COPIES, [image for part in own for image in part], strict=True):
                written += 1
                copied.append((written, label, kind, digest(source)))
                yield label, copy_image(source, kind)


def images_of(bench: Benchmark, person: int) -> list[bytes]:
    """The benchmark's images of an identity, in the order of first use."""
    rows = np.r_[bench.index1[bench.id1 == person], bench.index2[bench.id2 == person]]
    return [bench.images[i] for i in np.unique(rows)]


def copy_image(jpeg: bytes, kind: str) -> bytes:
    """A copy as they get into training sets: exact, or changed a little (`COPIES`).

    Cropped: a 24th of the width off two neighbouring edges, resized back. Brighter: by a fifth.
    """
    if kind == "exact":
        return jpeg
    image = decode(jpeg)
    if kind == "cropped":
        height, width = image.shape[:2]
        part = image[height // 24 :, width // 24 :]
        image = cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR)
    elif kind == "brighter":
        image = np.clip(image.astype(np.float32) * 1.2, 0, 255).astype(np.uint8)
    elif kind != "encoded again":
        raise UserError(f"kind={kind!r}: allowed are {', '.join(COPIES)}")
    return encode_jpeg(image, 70 if kind == "encoded again" else 90)


def make_names(spec: RenderedSpec, people: np.ndarray) -> tuple[list[str], list[str], list[str]]:
    """Made-up names of training and benchmark people, and the name kind of each planted one."""
    rng = np.random.default_rng([spec.seed, PLANTED])
    strangers, tests = spec.identities, spec.test_identities
    sizes = [len(part) for part in (*FIRST, *LAST)]
    if (wanted := strangers + tests + len(people)) > np.prod(sizes):
        raise UserError(f"planted: {wanted} people, but only {np.prod(sizes)} made-up names")
    chosen = rng.choice(np.prod(sizes), wanted, replace=False)
    a, b, c, d = np.unravel_index(chosen, sizes)
    plain = [f"{FIRST[0][i]}{FIRST[1][j]} {LAST[0][k]}{LAST[1][n]}"
             for i, j, k, n in zip(a, b, c, d)]  # fmt: skip
    train, test, others = np.split(np.array(plain, object), [strangers, strangers + tests])
    alone = np.setdiff1d(np.arange(tests), people)
    same = min(int(HOMONYMS * strangers), len(alone))
    train[rng.choice(strangers, same, replace=False)] = test[rng.choice(alone, same, replace=False)]
    kinds = [NAME_KINDS[k % len(NAME_KINDS)] for k in range(len(people))]
    written = [
        others[k] if kinds[k] == "other" else write_differently(test[i], k % len(NAME_KINDS))
        for k, i in enumerate(people)
    ]
    return [*train, *written], list(test), kinds


def write_differently(name: str, way: int) -> str:
    """0 `First_Last`, 1 `LAST, First`, 2 `first last` without accents, 3 a letter dropped."""
    first, last = name.split(" ")
    if way == 0:
        return f"{first}_{last}"
    if way == 1:
        return f"{last.upper()}, {first}"
    if way == 2:
        letters = unicodedata.normalize("NFKD", name.replace("ø", "o"))
        return "".join(c for c in letters if not unicodedata.combining(c)).lower()
    return f"{first} {last[:2]}{last[3:]}"


def _write_csv(path: Path, columns: tuple[str, ...], rows: list[tuple]) -> None:
    with open(path, "w", newline="") as out:
        csv.writer(out, lineterminator="\n").writerows([columns, *rows])
