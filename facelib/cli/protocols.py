"""Command-line verbs of the template and identification benchmarks: `ijb` and `megaface`."""

import argparse
import sys
from pathlib import Path

from facelib.cli import looks
from facelib.cli.common import add_verb, print_json
from facelib.errors import UserError


def add_ijb(verbs) -> None:
    """`python -m facelib ijb`."""
    verb = add_verb(
        verbs, "ijb", "IJB-B or IJB-C 1:1 from the official lists: TAR at FAR", _ijb,
        "ijb IJBC/meta --features embeddings.npy --json\n"
        "ijb IJBC/meta --run ms1m-arcface --images IJBC/loose_crop --save embeddings.npy",
        run_name=looks.weights_of, meta=_look_at_ijb, save=looks.written,
    )  # fmt: skip
    verb.add_argument("meta", type=Path, help="folder with ijbc_face_tid_mid.txt and its siblings")
    verb.add_argument("--name", choices=("ijbb", "ijbc"), help="needed if both sets are there")
    verb.add_argument("--features", type=Path, help=".npy (N, d): one row per image of the list")
    verb.add_argument("--run", dest="run_name", help="a trained run that embeds --images instead")
    verb.add_argument("--images", type=Path, help="folder of the loose crops")
    verb.add_argument("--save", type=Path, help="keep the embeddings of --run here (.npy)")
    verb.add_argument("--no-detector-score", action="store_true", help="weigh all images equally")
    verb.add_argument("--json", action="store_true")


def _look_at_ijb(folder: Path, options: argparse.Namespace):
    if bool(options.features) == bool(options.run_name and options.images):
        raise UserError("give either --features EMBEDDINGS.npy, or --run RUN with --images FOLDER")
    if options.save and options.save.suffix != ".npy":
        raise UserError(f"--save {options.save}: wanted a name that ends with .npy")
    return looks.templates(folder, options)


def _ijb(options: argparse.Namespace) -> None:
    from facelib.evaluate import ijb
    from facelib.metrics.features import open_features
    from facelib.metrics.templates import verify_templates

    protocol = options.looked["meta"]
    if options.features:
        kept = open_features(options.features)
        emb = kept.read(0, kept.rows)
    else:
        embed, size, border = ijb.run_embedder(options.run_name)
        emb = ijb.embed_faces(protocol, options.images, embed, size, border=border)
        if options.save:
            ijb.save_array(options.save, emb)
    found = verify_templates(protocol, emb, not options.no_detector_score)
    _show(found, options.json)


def add_megaface(verbs) -> None:
    """`python -m facelib megaface`."""
    verb = add_verb(
        verbs, "megaface", "MegaFace, or any labelled features: rank-1, TPIR, TAR",
        _megaface,
        "megaface facescrub.npz distractors.npy --json\n"
        "megaface EMB.npz             # half of its people are the strangers\n"
        "megaface facescrub_features_list.json megaface_features_list.json_1000000_1 "
        "--probe-folder FACESCRUB --distractor-folder MEGAFACE --suffix _r50.bin",
        probes=_look_at_probes, distractors=looks.distractors,
    )  # fmt: skip
    verb.add_argument("probes", type=Path, help=".npz (emb, label), or a list with path and id")
    verb.add_argument("distractors", type=Path, nargs="?",
                      help=".npy or .npz (emb), or a list with path; without: one set, half of its "
                      "people enrolled, the others strangers")  # fmt: skip
    verb.add_argument("--probe-folder", type=Path, help="feature files of a list of probes")
    verb.add_argument("--distractor-folder", type=Path, help="feature files of the distractors")
    verb.add_argument("--suffix", default=".bin", help="of a feature file, after the image's name")
    verb.add_argument("--limit", type=int, metavar="N", help="the first N distractors only")
    verb.add_argument("--json", action="store_true")


def _look_at_probes(path: Path, options: argparse.Namespace) -> None:
    if options.limit is not None and options.limit < 1:
        raise UserError(f"--limit {options.limit}: wanted 1 or more distractors")
    if not options.distractors and (options.limit or options.distractor_folder):
        raise UserError(
            f"--limit and --distractor-folder are of distractors: give their file after {path}"
        )
    looks.probes(path, options)


def _megaface(options: argparse.Namespace) -> None:
    from facelib.metrics.features import open_features
    from facelib.metrics.identification import identify, identify_people

    probes = open_features(options.probes, options.probe_folder, options.suffix)
    if not options.distractors:
        return _show(identify_people(probes), options.json)
    others = open_features(options.distractors, options.distractor_folder, options.suffix)
    _show(identify(probes, others, options.limit), options.json)


def _show(found: dict, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    for key, value in found.items():
        inside = value.items() if isinstance(value, dict) else ()
        text = ", ".join(f"{k}: {_percent(v)}" for k, v in inside) if inside else value
        sys.stdout.write(f"{key.replace('_', ' '):>16}: {text}\n")


def _percent(share: float | None) -> str:
    return "not estimable" if share is None else f"{100 * share:.2f} %"
