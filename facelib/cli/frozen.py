"""The verb `frozen`: a foundation model on benchmarks, without training."""

import argparse
import sys
from pathlib import Path

from facelib.cli import looks
from facelib.cli.common import add_verb, print_json
from facelib.config import make_config
from facelib.limits import FOUNDATION_MODELS


def add_frozen(verbs) -> None:
    """The verb `frozen`."""
    examples = (
        "frozen generic-vit                       # the stand-in, on rendered faces\n"
        "frozen clip-vit-b32 --weights clip_folder --benchmarks lfw.bin cfp_fp.bin\n"
        "frozen dinov2-vit-b14 --benchmarks lfw.bin --data ms1m-arcface --json"
    )
    verb = add_verb(verbs, "frozen", "evaluate a frozen foundation model on benchmarks", _run,
                    examples, benchmarks=looks.bins, weights=looks.foundation,
                    data=looks.people)  # fmt: skip
    verb.add_argument("model", choices=FOUNDATION_MODELS)
    verb.add_argument("--weights", default="pretrained", metavar="DIR",
                      help="folder with the weights; default: the hub cache of this machine; "
                      "scratch: random")  # fmt: skip
    verb.add_argument(
        "--benchmarks", action="extend", nargs="*", metavar="BIN", help="default: rendered faces"
    )
    verb.add_argument("--data", metavar="DIR", help="folder with train.rec: its mean embedding is "
                      "subtracted for the mean-centred rows")  # fmt: skip
    verb.add_argument("--bootstrap", type=int, default=1000, metavar="N", help="for intervals")
    verb.add_argument("--json", action="store_true")


def _run(options: argparse.Namespace) -> None:
    import torch

    from facelib.models.foundation import load_foundation

    torch.manual_seed(0)  # of --weights scratch
    # Missing weights are said before the slower imports, and before faces are rendered.
    model = load_foundation(options.model, options.weights)
    import pandas as pd

    from facelib.data.locate import benchmark_paths, train_folder
    from facelib.metrics.tables import warning_lines
    from facelib.studies.frozen import evaluate_frozen

    data = options.data
    if data and Path(data).is_dir():
        data = str(Path(data).resolve())
    if options.benchmarks and not options.data:
        train, paths = None, [Path(name) for name in options.benchmarks]
    else:
        names = [str(Path(n).resolve()) if Path(n).is_file() else n
                 for n in options.benchmarks or ()]  # fmt: skip
        cfg = make_config(data=data, benchmarks=",".join(names) or None)
        train, paths = train_folder(cfg), benchmark_paths(cfg)
    results = evaluate_frozen(model, paths, train, options.bootstrap)
    if options.json:
        print_json({result.label: result.report for result in results})
        return
    tables = {result.label: result.table() for result in results}
    sys.stdout.write(pd.concat(tables, names=["model"]).to_string() + "\n")
    for result in results:
        sys.stdout.write(warning_lines(result.report))
    if not train:
        sys.stdout.write("mean-centred cosine wants training images: --data DIR\n")
