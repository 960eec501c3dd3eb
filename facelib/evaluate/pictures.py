"""A run's answer about people's own pictures: embeddings of a folder, one pair, drawn pairs.

A picture is aligned already (then it is square), or landmarks say where its face is: the
`method` of `facelib.prepare.aligner.Aligner`.

    OUT.npz   emb (N, d) float32, not normalised; path (N,) below the folder; label (N,) the folder
              of each picture; run, checkpoint, align: what they come from
"""

import logging
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from facelib.errors import BadData, UserError
from facelib.evaluate.embed import embed_images, evaluate_run, unit_rows
from facelib.formats.benchmarks import save_benchmark
from facelib.formats.decode import IMAGE_SUFFIXES, map_in_threads
from facelib.formats.trees import list_identities, sort_pictures
from facelib.metrics.operating import threshold_for
from facelib.metrics.scores import far_name, load_scores
from facelib.paths import atomic_file, check_folder_name
from facelib.prepare.align import TEMPLATE_SIZE
from facelib.prepare.aligner import Aligner, read_picture
from facelib.prepare.draw import draw_pairs
from facelib.runs.files import read_evaluation
from facelib.runs.folder import Run, load_run
from facelib.training.trained import load_model

log = logging.getLogger(__name__)
WIDTH = 98
BLOCK = 1024  # encoded pictures that are held at a time
NOT_SAID = (
    "The cosine is no probability that this is one person, and the verdict is no proof. The "
    "rate holds for random people of this benchmark: relatives, children, other cameras and groups "
    "of people that the training data lack are confused more often, and a search among N people "
    "has N chances of a false match."
)


def open_pictures(root: Path, align: str | None = None) -> Callable[[Path], bytes]:
    """A function from the path of a picture to an encoded, aligned image.

    Args:
        root: folder that names in a landmarks CSV are relative to.
        align: CSV of landmarks or name of a detector; None: the pictures are aligned.
    """
    return read_square if align is None else Aligner(root, TEMPLATE_SIZE, align)


def read_square(path: Path) -> bytes:
    """The bytes of an aligned picture of any size.

    Raises:
        BadData: no such file, no picture, or not square: then it is not aligned.
    """
    content, image = read_picture(path)
    height, width = image.shape[:2]
    if height != width:
        raise BadData(
            f"{path}: {width}×{height} pixels, wanted an aligned, square image; or align it: "
            "--align CSV|insightface",
            "not square",
        )
    return content


def _encode_all(
    paths: Sequence[Path],
    encode: Callable[[Path], bytes],
    skip_bad: bool | None,
    left_out: Counter | None = None,
) -> Iterator[tuple[list[Path], list[bytes]]]:
    """(paths, encoded images) in blocks; bad ones are an error, or logged and left out.

    Args:
        skip_bad: None: the caller has no such choice, so an error names none.
        left_out: gets the number of bad ones, by reason.
    """

    def one(path: Path) -> bytes | BadData:
        try:
            return encode(path)
        except BadData as error:
            if not skip_bad:
                hint = "" if skip_bad is None else "; leave such files out with --skip-bad"
                raise BadData(f"{error}{hint}") from None
            log.warning("skipped: %s", error)
            return error

    for start, made in zip(range(0, len(paths), BLOCK), map_in_threads(one, paths, BLOCK)):
        block = paths[start : start + BLOCK]
        good = [(p, image) for p, image in zip(block, made) if not isinstance(image, BadData)]
        if left_out is not None:
            left_out.update(image.reason for image in made if isinstance(image, BadData))
        if good:
            yield tuple(map(list, zip(*good)))


def embed_paths(
    run: Run,
    paths: Sequence[Path],
    encode: Callable[[Path], bytes],
    skip_bad: bool | None = None,
    left_out: Counter | None = None,
) -> tuple[list[Path], np.ndarray, str]:
    """(paths that were embedded, emb (N, d) not normalised, digest of the checkpoint)."""
    model, checkpoint = load_model(run)
    done, parts = [], []
    for good, images in _encode_all(paths, encode, skip_bad, left_out):
        emb, _ = embed_images(
            model, images, run.config.image_size,
            fill_border=run.config.fill_border, where=lambda i, good=good: str(good[i]),
        )  # fmt: skip
        done += good
        parts.append(emb)
        if len(paths) > BLOCK:
            log.info("%d of %d pictures", len(done), len(paths))
    if not done:
        raise UserError(f"none of {len(paths)} pictures can be embedded: see the lines above")
    return done, np.concatenate(parts), checkpoint


def embed_folder(
    run: str | Path, folder: Path, out: Path, align: str | None = None, skip_bad: bool = False
) -> dict:
    """Embed every picture below a folder into an `.npz` (see the module); returns its facts."""
    run, folder, out = load_run(run), Path(folder), Path(out)
    if out.suffix != ".npz":
        raise UserError(f"--out {out}: wanted a name that ends in .npz")
    left_out: Counter[str] = Counter()
    paths = sort_pictures((p for p in folder.rglob("*") if p.is_file()), left_out)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; wanted one with pictures")
    if not paths:
        raise UserError(f"{folder}: no picture below it; wanted {', '.join(IMAGE_SUFFIXES)}")
    encode = open_pictures(folder, align)
    done, emb, checkpoint = embed_paths(run, paths, encode, skip_bad, left_out)
    names = [path.relative_to(folder) for path in done]
    label = np.array([name.parent.as_posix() for name in names])
    facts = {"run": run.name, "checkpoint": checkpoint, "align": align or "aligned already"}
    path = np.array([name.as_posix() for name in names])
    with atomic_file(out) as temporary, open(temporary, "wb") as target:
        np.savez(target, emb=emb, path=path, label=label, **facts)
    counts = {"images": len(done), "skipped": len(paths) - len(done), "left_out": dict(left_out)}
    return {
        "out": str(out),
        **counts,
        "dim": emb.shape[1],
        "people": len(np.unique(label)),
        **facts,
    }


def known_threshold(run: Run, fmr: float, benchmark: str | None = None) -> dict:
    """`threshold_for` on one of the run's evaluated benchmarks, and which it is.

    Args:
        benchmark: name in eval.json; None: the one with the most impostor pairs, the first of
            equals.

    Raises:
        UserError: not evaluated, no such benchmark, or too few impostor pairs for the rate.
    """
    report = run.evaluation()["benchmarks"]
    if benchmark is not None and benchmark not in report:
        raise UserError(f"--benchmark {benchmark}: {run.name} has {', '.join(report)}")
    chosen = [benchmark] if benchmark else list(report)
    found = {
        name: load_scores(run.path / "scores" / f"{name}.npz", report[name].get("scores"))
        for name in chosen
    }
    name = max(found, key=lambda name: (~found[name].same).sum())
    impostors = int((~found[name].same).sum())
    point = threshold_for(found[name], fmr)
    if point["threshold"] is None:
        raise UserError(
            f"--fmr {fmr:g}: {name} has {impostors} impostor pairs, which tell of rates from "
            f"{1 / impostors:.1e} on; use --fmr {far_name(10.0 ** -int(np.log10(impostors)))} or "
            f"evaluate a larger benchmark: python -m facelib eval {run.ref} --benchmarks BIN"
        )
    rendered = bool(report[name].get("rendered"))
    return {"benchmark": name, "impostor_pairs": impostors, "rendered": rendered, **point}


def compare_pictures(
    run: str | Path,
    a: Path,
    b: Path,
    fmr: float = 1e-3,
    benchmark: str | None = None,
    align: str | None = None,
) -> dict:
    """Cosine of two pictures, the run's threshold at a false match rate, and what follows.

    Names in a landmarks CSV are relative to its own folder.
    """
    run = load_run(run)
    point = known_threshold(run, fmr, benchmark)
    paths, root = [Path(a).resolve(), Path(b).resolve()], Path(align or "").resolve().parent
    for path in paths:
        if align and align.endswith(".csv") and not path.is_relative_to(root):
            raise UserError(
                f"--align {align}: names pictures relative to its own folder, {root}; {path} is "
                "not below it"
            )
    encode = open_pictures(root, align)
    _, emb, checkpoint = embed_paths(run, paths, encode)
    cosine = float(np.dot(*unit_rows(emb)))
    point |= {"cosine": cosine, "above": cosine >= point["threshold"]}
    return {"run": run.name, "checkpoint": checkpoint, **point}


def describe_comparison(found: dict) -> str:
    """`compare_pictures` for a person: figures, verdict, and what it does not mean."""
    lo, hi = found["expected"]
    rate, above = f"{found['fmr']:g}", found["above"]
    verdict = (
        f"above the threshold: taken for one person, as {rate} of the pairs of two people are"
        if above
        else "below the threshold: not taken for one person; nor are "
        f"{100 * found['fnmr']:.1f} % of the pairs of one person"
    )
    lines = [
        f"   cosine: {found['cosine']:.4f}",
        f"threshold: {found['threshold']:.4f} for a false match rate of {rate}, from "
        f"{found['impostor_pairs']} impostor pairs of {found['benchmark']} "
        f"(new people: {lo:.1e} to {hi:.1e}, 95 % interval)",
        f"  verdict: {verdict}",
        f"     note: {NOT_SAID}",
    ]
    if found["rendered"]:
        lines.append("  warning: the benchmark holds rendered faces: its rates are not those of "
                     "photographs")  # fmt: skip
    return "\n".join(textwrap.fill(x, WIDTH, subsequent_indent=" " * 11) for x in lines)


def evaluate_on(
    run: str | Path,
    folder: Path,
    pairs: int = 6000,
    seed: int = 0,
    align: str | None = None,
    skip_bad: bool = False,
    name: str | None = None,
    bootstrap: int = 1000,
) -> dict:
    """Draw pairs from a folder of people, score them and evaluate the run on them.

    Writes RUN/benchmarks/NAME.bin, and what `evaluate_run` writes; NAME is the folder's.

    Returns:
        The report of this benchmark alone, in the form of eval.json.
    """
    run, folder = load_run(run), Path(folder).resolve()
    name = check_folder_name(name or folder.name, "--name")
    out = run.path / "benchmarks" / f"{name}.bin"
    _check_free(run, out)
    people = list_identities(folder)
    paths = [path for own in people.values() for path in own]
    label = np.repeat(np.arange(len(people)), [len(own) for own in people.values()])
    index1, index2, fold = draw_pairs(label, pairs, seed)
    used = [paths[i] for i in np.union1d(index1, index2)]
    images: dict[Path, bytes] = {}
    for good, encoded in _encode_all(used, open_pictures(folder, align), skip_bad):
        images |= zip(good, encoded)
    kept = np.array([paths[i] in images and paths[j] in images for i, j in zip(index1, index2)])
    if not kept.any():
        raise UserError(f"{folder}: no pair with two good pictures: see the lines above")
    if not kept.all():
        log.warning("%d of %d pairs left out with their pictures", (~kept).sum(), len(kept))
    index1, index2, fold = index1[kept], index2[kept], fold[kept]
    id1, id2 = label[index1], label[index2]
    sides = ([images[paths[i]] for i in index] for index in (index1, index2))
    save_benchmark(out, *sides, id1 == id2, fold, id1, id2)
    report = evaluate_run(run.path, [out], bootstrap)
    return report | {"benchmarks": {name: report["benchmarks"][name]}}


def _check_free(run: Run, out: Path) -> None:
    """UserError where a figure of the run belongs to another benchmark of this name."""
    known = (read_evaluation(run.path / "eval.json") or {"benchmarks": {}})["benchmarks"]
    own = {Path(name.strip()).stem for name in run.config.benchmarks.split(",")}
    if out.stem in own or known.get(out.stem, {}).get("file", str(out)) != str(out):
        raise UserError(
            f"{out.stem}: {run.name} has another benchmark of this name; give one with --name"
        )
