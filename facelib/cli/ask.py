"""The verbs `embed`, `same`, `export` and `evaluate-on`: a trained run and people's own files."""

import argparse
import sys
from pathlib import Path

from facelib.cli import looks
from facelib.cli.common import add_verb, print_json

RUN = "run folder, run name, or a unique beginning of it"


def add_embed(verbs) -> None:
    """The verb `embed`."""

    def run(options: argparse.Namespace) -> None:
        from facelib.evaluate.pictures import embed_folder

        print_json(embed_folder(options.name, options.folder, options.out, options.align,
                                options.skip_bad))  # fmt: skip

    verb = add_verb(verbs, "embed", "embed every picture below a folder with a run", run,
                    "embed smoke-arcface my_faces --out faces.npz\n"
                    "embed smoke-arcface photos --align photos/landmarks.csv --out faces.npz\n"
                    "cluster faces.npz            # where the folders below are people",
                    name=looks.weights_of, align=looks.landmarks, folder=looks.pictures,
                    out=looks.written)  # fmt: skip
    verb.add_argument("name", metavar="RUN", help=RUN)
    verb.add_argument("folder", type=Path)
    verb.add_argument("--out", type=Path, required=True, metavar="NPZ",
                      help="emb (N, d) as the network gives them, path (N,), label (N,) the folder "
                      "of each picture")  # fmt: skip
    _add_align(verb, skip=True)


def add_same(verbs) -> None:
    """The verb `same`."""

    def run(options: argparse.Namespace) -> None:
        from facelib.evaluate.pictures import compare_pictures, describe_comparison

        found = compare_pictures(options.name, options.a, options.b, options.fmr,
                                 options.benchmark, options.align)  # fmt: skip
        if options.json:
            print_json(found)
        else:
            sys.stdout.write(describe_comparison(found) + "\n")

    verb = add_verb(verbs, "same", "compare two pictures: cosine, threshold, what follows", run,
                    "same smoke-arcface a.jpg b.jpg\n"
                    "same smoke-arcface a.jpg b.jpg --fmr 1e-2 --benchmark cfp_fp --json",
                    align=looks.landmarks, a=looks.picture, b=looks.picture,
                    name=looks.scored)  # fmt: skip
    verb.add_argument("name", metavar="RUN", help=RUN)
    verb.add_argument("a", type=Path)
    verb.add_argument("b", type=Path)
    verb.add_argument("--fmr", type=float, default=1e-3, help="wanted false match rate (1e-3)")
    verb.add_argument("--benchmark", metavar="NAME", help="whose pairs give the threshold; default:"
                      " the evaluated one with the most impostor pairs")  # fmt: skip
    _add_align(verb)
    verb.add_argument("--json", action="store_true")


def add_export(verbs) -> None:
    """The verb `export`."""

    def run(options: argparse.Namespace) -> None:
        from facelib.evaluate.export import export_onnx

        print_json(export_onnx(options.name, options.onnx))

    verb = add_verb(verbs, "export", "write a run's network for programs without torch", run,
                    "export smoke-arcface --onnx model.onnx",
                    name=looks.weights_of, onnx=looks.written)  # fmt: skip
    verb.add_argument("name", metavar="RUN", help=RUN)
    verb.add_argument("--onnx", type=Path, required=True, metavar="FILE",
                      help="any batch size; what to do to a picture stands in its metadata; "
                      "compared with torch before it is kept")  # fmt: skip


def add_evaluate_on(verbs) -> None:
    """The verb `evaluate-on`."""

    def run(options: argparse.Namespace) -> None:
        from facelib.evaluate.pictures import evaluate_on
        from facelib.metrics.tables import figures_table, warning_lines

        report = evaluate_on(options.name, options.folder, options.pairs, options.seed,
                             options.align, options.skip_bad, options.as_name)  # fmt: skip
        if options.json:
            print_json(report)
        else:
            sys.stdout.write(figures_table(report).to_string() + "\n" + warning_lines(report))

    verb = add_verb(verbs, "evaluate-on", "draw pairs from a folder of people, score, report", run,
                    "evaluate-on smoke-arcface people\n"
                    "evaluate-on smoke-arcface people --pairs 2000 --align insightface --skip-bad",
                    name=looks.weights_of, align=looks.landmarks,
                    folder=looks.pictures)  # fmt: skip
    verb.add_argument("name", metavar="RUN", help=RUN)
    verb.add_argument("folder", type=Path, help="one folder of pictures for each person")
    verb.add_argument("--pairs", type=int, default=6000, help="half genuine (6000)")
    verb.add_argument("--seed", type=int, default=0, help="of the pairs")
    verb.add_argument("--name", dest="as_name", metavar="NAME",
                      help="of the benchmark; default: the folder's")  # fmt: skip
    _add_align(verb, skip=True)
    verb.add_argument("--json", action="store_true")


def _add_align(verb: argparse.ArgumentParser, skip: bool = False) -> None:
    verb.add_argument("--align", metavar="CSV|insightface",
                      help="landmarks file or detector; default: pictures are aligned already",
                      )  # fmt: skip
    if skip:
        verb.add_argument("--skip-bad", action="store_true", help="count and leave out bad images")
