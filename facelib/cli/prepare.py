"""The verb `prepare`: training sets and benchmarks in the study's formats."""

import argparse
import sys
from pathlib import Path

from facelib.cli.common import add_settings, add_verb, print_json, settings_of
from facelib.config import make_config

SIZES = {"tight": 112, "loose": 224}  # pixels of each crop


def add_prepare(verbs) -> None:
    """The verb `prepare` and its kinds."""
    examples = (
        "prepare rendered --set data_seed=1\n"
        "prepare folder my_photos --out .data/mine --align insightface\n"
        "prepare lfw lfw/pairs.txt lfw/images --out .data/lfw.bin\n"
        "prepare cfp cfp-dataset --protocol FP --out .data/cfp_fp.bin\n"
        "prepare cfp cfp-dataset --protocol FF --crop loose --out .data/cfp_ff_loose.bin"
    )
    verb = add_verb(verbs, "prepare", "write training sets and benchmarks in the study's formats",
                 lambda _: verb.print_help(), examples)  # fmt: skip
    kinds = verb.add_subparsers(metavar="KIND")
    rendered = kinds.add_parser("rendered", help="the embedded, rendered faces")
    add_settings(rendered)
    rendered.set_defaults(run=_prepare_rendered)
    folder = kinds.add_parser("folder", help="SRC/IDENTITY/*.jpg to train.rec")
    folder.add_argument("src", type=Path)
    folder.add_argument("--min-images", type=int, default=1)
    folder.set_defaults(run=_prepare_folder)
    lfw = kinds.add_parser("lfw", help="pairs.txt and images to a .bin")
    lfw.add_argument("pairs", type=Path)
    lfw.add_argument("images", type=Path)
    lfw.set_defaults(run=_prepare_lfw)
    cfp = kinds.add_parser("cfp", help="Protocol/ and images to a .bin")
    cfp.add_argument("root", type=Path)
    cfp.add_argument("--protocol", required=True, choices=("FF", "FP"))
    cfp.set_defaults(run=_prepare_cfp)
    for kind in (folder, lfw, cfp):
        kind.add_argument("--out", type=Path, required=True)
        kind.add_argument("--crop", choices=SIZES, default="tight", help="loose: the face and what "
                          "is around it, 1.6 tight crops wide, for foundation models")  # fmt: skip
        kind.add_argument("--size", type=int, help="pixels (default 112, loose 224)")
        kind.add_argument("--align", metavar="CSV|insightface",
                          help="landmarks file or detector; default: images are aligned already "
                          "(cfp: its own fiducials where they are)")  # fmt: skip
        kind.add_argument("--skip-bad", action="store_true", help="count and leave out bad images")


def _prepare_rendered(options: argparse.Namespace) -> None:
    from facelib.data.locate import train_folder

    folder = train_folder(make_config(**settings_of(options)))
    sys.stdout.write(f"{folder}\n")


def _prepare_folder(options: argparse.Namespace) -> None:
    from facelib.prepare.folders import folder_to_records

    size = options.size or SIZES[options.crop]
    print_json(folder_to_records(options.src, options.out, size, options.align,
                                  options.min_images, options.skip_bad, options.crop))  # fmt: skip


def _prepare_lfw(options: argparse.Namespace) -> None:
    from facelib.prepare.lfw import lfw_to_bin

    size = options.size or SIZES[options.crop]
    print_json(lfw_to_bin(options.pairs, options.images, options.out, size,
                           options.align, options.skip_bad, options.crop))  # fmt: skip


def _prepare_cfp(options: argparse.Namespace) -> None:
    from facelib.prepare.cfp import cfp_to_bin

    size = options.size or SIZES[options.crop]
    print_json(cfp_to_bin(options.root, options.protocol, options.out, size,
                           options.align, options.skip_bad, options.crop))  # fmt: skip
