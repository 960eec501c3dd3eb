"""The verb `cluster`: labelled embeddings in, figures of each clustering method out."""

import argparse
import logging
import sys
from pathlib import Path

from facelib.cli import looks
from facelib.cli.common import add_verb, print_json
from facelib.errors import UserError

log = logging.getLogger(__name__)

RULE = """

DBSCAN's eps is a cosine distance. Unless --eps gives it, one of two rules chooses it:
  with --tune FILE   the eps with the highest BCubed F on the identities of FILE (other people)
  without            label-free: the eps with the highest modularity of the links of each item with
                     its two nearest neighbours
The labels of the clustered file play no part in it. K-means is told the true number of identities.
All methods cluster, and are scored on, all rows; NMI averages arithmetically."""


def cluster_file(path: Path, eps: float | None, tune: Path | None, lgcn: Path | None) -> dict:
    """The figures of `python -m facelib cluster`, by method."""
    import numpy as np

    from facelib.evaluate.labelled import load_labelled

    emb, label = load_labelled(path)
    from facelib.metrics.clustering import choose_eps, cluster_all
    from facelib.metrics.lgcn import load_links
    from facelib.metrics.neighbours import neighbour_graph

    log.info("%s: %d items of %d identities", path, len(emb), len(np.unique(label)))
    links = load_links(lgcn) if lgcn else None
    rule = None
    if tune and eps is None:
        from facelib.metrics.geometry import unit

        held_out, people = load_labelled(tune)
        eps, rule = choose_eps(neighbour_graph(unit(held_out)), people), "held-out identities"
    report = cluster_all(emb, label, eps, links)
    if rule:
        report["dbscan"]["eps_rule"] = rule
    return report


def add_cluster(verbs) -> None:
    """The verb `cluster`."""

    def run(options: argparse.Namespace) -> None:
        if options.export:
            from facelib.studies.labelled_runs import export_run

            images, people = export_run(options.export, options.file, options.benchmark)
            sys.stdout.write(f"{options.file}: {images} images of {people} identities\n")
        elif options.train_lgcn:
            _train_file(options.file, options.train_lgcn, options.steps)
        else:
            _print(
                cluster_file(options.file, options.eps, options.tune, options.lgcn), options.json
            )

    verb = add_verb(verbs, "cluster", "cluster labelled embeddings: K-means, DBSCAN, L-GCN", run,
                    "cluster EMB.npz --json\n"
                    "cluster TRAIN.npz --export smoke-arcface --benchmark train\n"
                    "cluster TRAIN.npz --train-lgcn lgcn.safetensors\n"
                    "cluster EMB.npz --lgcn lgcn.safetensors --tune TRAIN.npz",
                    file=_look_at_file, tune=looks.labelled, lgcn=looks.links,
                    export=looks.weights_of, train_lgcn=looks.written, eps=_look_at_eps,
                    steps=_look_at_steps)  # fmt: skip
    verb.epilog += RULE
    verb.add_argument("file", type=Path, help="npz: emb (N, d), label (N,)")
    verb.add_argument("--json", action="store_true")
    verb.add_argument("--eps", type=float, help="cosine distance of DBSCAN, in (0, 2)")
    verb.add_argument("--tune", type=Path, metavar="FILE", help="npz of other people, for eps")
    verb.add_argument("--lgcn", type=Path, metavar="MODEL", help="a trained L-GCN")
    verb.add_argument("--train-lgcn", type=Path, metavar="MODEL",
                      help="train an L-GCN on the file and write it, instead")  # fmt: skip
    verb.add_argument("--steps", type=int, default=1000, help="of --train-lgcn, 16 pivots each")
    verb.add_argument("--export", metavar="RUN", help="write the file from a run, instead")
    verb.add_argument("--benchmark", default="", metavar="NAME",
                      help="of --export; or train; default: all, if rendered")  # fmt: skip


def _look_at_file(path: Path, options: argparse.Namespace) -> None:
    looks.written(path) if options.export else looks.labelled(path)


def _look_at_eps(eps: float, _: argparse.Namespace) -> None:
    if not 0 < eps < 2:
        raise UserError(f"--eps {eps}: wanted a cosine distance above 0 and below 2, e.g. 0.4")


def _look_at_steps(steps: int, _: argparse.Namespace) -> None:
    if steps < 1:
        raise UserError(f"--steps {steps}: wanted at least 1")


def _train_file(path: Path, out: Path, steps: int) -> None:
    from facelib.evaluate.labelled import load_labelled
    from facelib.metrics.geometry import unit
    from facelib.metrics.lgcn import save_links, train_links

    emb, label = load_labelled(path)
    save_links(train_links(unit(emb), label, steps=steps), out)
    sys.stdout.write(f"{out}\n")


def _print(report: dict, as_json: bool) -> None:
    if as_json:
        print_json(report)
        return
    import pandas as pd

    sys.stdout.write(pd.DataFrame(report).T.to_string(float_format="{:.4f}".format) + "\n")
