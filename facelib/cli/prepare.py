"""The verb `prepare`: training sets and benchmarks in the study's formats."""

import argparse
import sys
from pathlib import Path

from facelib.cli.common import add_settings, add_verb, print_json, settings_of
from facelib.config import FIELDS, make_config

SIZES = {"tight": 112, "loose": 224}  # pixels of each crop


def add_prepare(verbs) -> None:
    """The verb `prepare` and its kinds."""
    examples = (
        "prepare rendered --set data_seed=1\n"
        "prepare folder my_photos --out .data/mine --align insightface\n"
        "prepare lfw lfw/pairs.txt lfw/images --out .data/lfw.bin\n"
        "prepare cfp cfp-dataset --protocol FP --out .data/cfp_fp.bin\n"
        "prepare cfp cfp-dataset --protocol FF --crop loose --out .data/cfp_ff_loose.bin\n"
        "prepare calfw calfw/pairs_CALFW.txt 'calfw/aligned images' --align insightface "
        "--out .data/calfw.bin\n"
        "prepare pairs pairs.csv images --out .data/mine.bin\n"
        "prepare pairs --folder my_people --pairs 2000 --folds 5 --seed 1 --out .data/mine.bin"
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
    cfp.add_argument(
        "--fill-border",
        default="none",
        choices=FIELDS["fill_border"].metadata["choices"],
        help="replicate: fill what the alignment left black with the nearest pixels",
    )
    cfp.set_defaults(run=_prepare_cfp)
    known = [_add_known_list(kinds, name) for name in ("calfw", "cplfw", "agedb")]
    own = kinds.add_parser("pairs", help="your own pairs: a list of two paths and same/different, "
                           "or pairs drawn from a folder per person")  # fmt: skip
    own.add_argument("list", type=Path, nargs="?", help="e.g. pairs.csv: a.jpg,b.jpg,same")
    own.add_argument("images", type=Path, nargs="?", help="folder that the paths are relative to")
    own.add_argument("--folder", type=Path, help="draw the pairs from FOLDER/PERSON/*.jpg")
    own.add_argument("--pairs", type=int, default=6000, help="pairs to draw, half of them genuine")
    own.add_argument("--folds", type=int, default=10, help="folds without shared people")
    own.add_argument("--seed", type=int, default=0, help="another seed draws other pairs")
    own.set_defaults(run=_prepare_pairs)
    for kind in (folder, lfw, cfp, *known, own):
        kind.add_argument("--out", type=Path, required=True)
        kind.add_argument("--crop", choices=SIZES, default="tight", help="loose: the face and what "
                          "is around it, 1.6 tight crops wide, for foundation models")  # fmt: skip
        kind.add_argument("--size", type=int, help="pixels (default 112, loose 224)")
        kind.add_argument("--align", metavar="CSV|insightface",
                          help="landmarks file or detector; default: images are aligned already "
                          "(cfp: its own fiducials where they are; folder: other sizes are padded "
                          "to a square by their edge pixels, then resized)")  # fmt: skip
        kind.add_argument(
            "--skip-bad", action="store_true", help="leave out bad images, and count them by reason"
        )


def _add_known_list(kinds, name: str) -> argparse.ArgumentParser:
    kind = kinds.add_parser(name, help="its list of pairs and images to a .bin")
    kind.add_argument("list", type=Path, help=f"{name.upper()}'s own list of pairs, or"
                      " lines `1 a.jpg b.jpg`")  # fmt: skip
    kind.add_argument("images", type=Path)
    kind.set_defaults(run=_prepare_pairs, folder=None)
    return kind


def _prepare_pairs(options: argparse.Namespace) -> None:
    from facelib.errors import UserError
    from facelib.prepare.aligner import Aligner
    from facelib.prepare.draw import draw_from_folder
    from facelib.prepare.lists import pairs_to_bin
    from facelib.prepare.pairs import read_pair_list

    root = options.folder or options.images
    if bool(options.folder) == bool(options.list) or root is None:
        raise UserError("give a list and its folder: prepare pairs pairs.csv IMAGES --out mine.bin;"
                        " or: prepare pairs --folder IMAGES --pairs 6000 --out x.bin")  # fmt: skip
    if options.folder:
        pairs = draw_from_folder(options.folder, options.pairs, options.folds, options.seed)
    else:
        pairs = read_pair_list(options.list, options.images)
    size = options.size or SIZES[options.crop]
    encode = Aligner(root, size, options.align, crop=options.crop)
    print_json(pairs_to_bin(pairs, encode, options.out, options.skip_bad))


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
                          options.align, options.skip_bad, options.crop,
                          options.fill_border))  # fmt: skip
