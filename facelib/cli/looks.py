"""What is cheap and can refuse goes before what is dear.

A verb names what looks at each of its arguments (`looks=` of `add_verb`); `main` calls these, in
that order, before the verb itself runs. A look raises the error that the verb would raise later,
and imports no torch. Each takes the argument's value and all options. What it returns the verb
finds in `options.looked`: what took long to read is not read again.
"""

import argparse
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from facelib.config import EMBEDDED, make_config
from facelib.errors import BadData, UserError
from facelib.runs.folder import Run, load_run

FEW = 64  # pictures that are looked at
FEATURES = 1 << 20  # numbers of saved features that are looked at


def look_first(options: argparse.Namespace) -> None:
    """Look at all arguments of the chosen verb that are given."""
    logging.disable(logging.WARNING)  # what is only odd is said when the verb reads it
    options.looked = {}
    try:
        for name, look in options.looks.items():
            if getattr(options, name) is not None:
                options.looked[name] = look(getattr(options, name), options)
    finally:
        logging.disable(logging.NOTSET)


def weights_of(name: str, _: Any = None) -> Run:
    """A run, its weights whole."""
    from facelib.runs.weights import check_run

    return check_run(load_run(name))


def scored(name: str, options: argparse.Namespace) -> None:
    """A run, its weights whole, with figures and the scores that they come from."""
    run = weights_of(name)
    found = run.evaluation()["benchmarks"]
    for one in found if options.benchmark is None else {options.benchmark} & set(found):
        scores(run.path / "scores" / f"{one}.npz", wanted=found[one].get("scores"))


def explored(names: Sequence[str], options: argparse.Namespace) -> None:
    """Runs with figures, scores, embeddings and images of the benchmarks that they share."""
    from facelib.runs.files import kept_embeddings

    runs = [weights_of(name) for name in names]
    reports = [run.evaluation()["benchmarks"] for run in runs]
    chosen = set.intersection(*map(set, reports))
    if options.benchmarks:
        chosen &= {Path(name).stem for name in options.benchmarks}
    for run, report in zip(runs, reports, strict=True):
        for one in sorted(chosen):
            scores(run.path / "scores" / f"{one}.npz", wanted=report[one].get("scores"))
            kept_embeddings(run.path, one, report[one])
            bins(filter(None, [report[one].get("file")]))


def to_evaluate(name: str, options: argparse.Namespace) -> None:
    """A run and, where no other benchmarks are given, those of its configuration."""
    cfg = weights_of(name).config
    if cfg.benchmarks and not options.benchmarks and cfg.data not in EMBEDDED:
        from facelib.data.locate import benchmark_paths

        bins(benchmark_paths(cfg))


def bins(paths: Iterable[Path | str], _: Any = None) -> None:
    """The `.bin` files among these, with what lies beside them."""
    from facelib.formats.benchmarks import load_benchmark

    for path in filter(Path.is_file, map(Path, paths)):
        load_benchmark(path)


def scores(path: Path, _: Any = None, wanted: str | None = None) -> None:
    """A file of scores; `wanted`: the digest that it should have."""
    from facelib.metrics.scores import load_scores

    load_scores(path, wanted)


def labelled(path: Path, _: Any = None) -> None:
    """A file of labelled embeddings."""
    from facelib.evaluate.labelled import load_labelled

    load_labelled(path)


def names(path: Path, _: Any = None) -> None:
    """Names of a benchmark's people."""
    from facelib.formats.benchmarks import read_people

    read_people(path)


def links(path: Path, _: Any = None) -> None:
    """A trained L-GCN."""
    from facelib.runs.weights import check_safetensors

    check_safetensors(path, "write it with --train-lgcn")


def probes(path: Path, options: argparse.Namespace) -> None:
    """Saved features of known people."""
    _features(path, options.probe_folder, options.suffix)


def distractors(path: Path, options: argparse.Namespace) -> None:
    """Saved features of strangers."""
    _features(path, options.distractor_folder, options.suffix)


def _features(path: Path, folder: Path | None = None, suffix: str = "") -> int:
    """Form and number of saved features, the first of them sound."""
    from facelib.metrics.features import open_features

    found = open_features(path, folder, suffix)
    next(found.unit_blocks(max(1, FEATURES // max(found.dim, 1))))
    return found.rows


def templates(folder: Path, options: argparse.Namespace) -> Any:
    """The official lists of IJB-B or IJB-C, as a protocol, and embeddings of their images."""
    from facelib.prepare.ijb import read_protocol

    protocol = read_protocol(folder, options.name)
    images = len(protocol.names)
    if options.features and (rows := _features(options.features)) != images:
        raise BadData(f"{options.features}: {rows:,} rows, wanted one for each of the {images:,} "
                      f"images of {folder}")  # fmt: skip
    for name in protocol.names[:FEW] if options.images else ():
        picture(options.images / name)
    return protocol


def foundation(folder: str, options: argparse.Namespace) -> None:
    """The folder of a foundation model's weights."""
    from facelib.runs.weights import check_init

    if Path(folder).expanduser().is_dir():
        check_init(make_config(backbone=options.model, init=folder))


def people(folder: str, options: argparse.Namespace) -> None:
    """Who is in a training set: its index, and names."""
    from facelib.data.people import people_of

    if folder not in EMBEDDED:
        train = people_of(make_config(data=str(Path(folder).absolute())))
        named = [train.reader.rec_path.parent / f"{Path(name).stem}.bin"
                 for name in getattr(options, "benchmark", ())]  # fmt: skip
        bins(named)


def pictures(folder: Path, options: argparse.Namespace) -> None:
    """The first pictures below a folder."""
    from facelib.formats.decode import IMAGE_SUFFIXES

    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise UserError(f"{folder}: no picture below it; wanted {', '.join(IMAGE_SUFFIXES)}")
    for path in () if options.skip_bad else found[:FEW]:
        try:
            picture(path, options)
        except BadData as error:
            raise BadData(f"{error}; leave such files out with --skip-bad") from None


def landmarks(align: str, _: Any = None) -> None:
    """A list of landmarks; the name of a detector is none."""
    from facelib.prepare.align import read_landmarks_csv

    if align.endswith(".csv"):
        read_landmarks_csv(Path(align))


def picture(path: Path, _: Any = None) -> None:
    """A picture."""
    from facelib.prepare.aligner import read_picture

    read_picture(path)


def site(_: bool, options: argparse.Namespace) -> None:
    """The notebooks and records that the site shows."""
    from facelib.paths import published_root, runs_root
    from facelib.runner.notebooks import list_notebooks, read_notebook
    from facelib.runs.files import read_record

    for path in () if options.publish else sorted(published_root().glob("*/record.json")):
        read_record(path.parent)
    if not options.publish and not options.readme:
        for path in list_notebooks(runs_root() / "notebooks"):
            read_notebook(path)


def written(path: Path, _: Any = None) -> None:
    """A file that is written at the end of long work."""
    folder = next((parent for parent in path.absolute().parents if parent.exists()), path)
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        what = "is a folder" if path.is_dir() else f"nothing can be written in {folder}"
        raise UserError(f"{path}: {what}; give another name")
