"""Breadth against depth: the same number of pictures of many people, or of few.

A row is a method on a shape, `arcface@240x72`: 240 people with 72 pictures each. All shapes of a
study hold about the same number of pictures, and all rows see the same number of images.
"""

from collections.abc import Sequence
from dataclasses import replace

from facelib.config import Config
from facelib.errors import UserError
from facelib.runs.folder import Run, load_run
from facelib.runs.launch import launch_all
from facelib.studies.negatives import measured
from facelib.studies.results import Result, evaluate

# Key of a method -> label. `softmax` has no margin and InfoNCE's scale 1/τ: with learned centres
# instead of partners it is as near to InfoNCE as a classifier can be.
METHODS = {
    "arcface": "ArcFace",
    "softmax": "centres, no margin, InfoNCE's scale",
    "infonce": "InfoNCE",
    "hybrid": "ArcFace + InfoNCE",
    "semi_siamese": "semi-siamese",
}


def parse_shape(text: str) -> tuple[int, int]:
    """`"240x72"` to (240, 72): people and pictures of each.

    Raises:
        UserError: not two numbers, or fewer than two pictures.
    """
    people, _, images = text.strip().partition("x")
    if not (people.isdigit() and images.isdigit() and int(images) > 1):
        raise UserError(f"shape {text!r}: wanted PEOPLExIMAGES with two images or more, as 240x72")
    return int(people), int(images)


def row_config(method: str, shape: str, base: Config) -> Config:
    """The configuration of a method on a shape, from one with everything that rows share.

    Rendered faces are drawn in that shape. Of real files, `data` holds `{shape}` where the folders
    of the shapes differ: `/data/ms1m-{shape}`.
    """
    if method not in METHODS:
        raise UserError(f"method {method!r}: allowed are {', '.join(METHODS)}")
    people, images = parse_shape(shape)
    own = {"s": round(1 / base.tau, 6), "m": 0.0} if method == "softmax" else {}
    loss = "arcface" if method == "softmax" else method
    drawn = base.data == "rendered"
    data = {"data_identities": people, "data_images": images} if drawn else {}
    data = data or {"data": base.data.replace("{shape}", shape)}
    name = f"{base.name.partition('-')[0]}-{loss}"
    return base.with_loss(loss=loss, name=name, **own, **data)


def split_rows(methods: str, shapes: str) -> list[tuple[str, str]]:
    """All methods on all shapes, `"arcface,infonce"` and `"240x72,2160x8"`, in order."""
    return [(m.strip(), s.strip()) for s in shapes.split(",") for m in methods.split(",")]


def train_rows(rows: Sequence[tuple[str, str]], base: Config) -> list[Run]:
    """Train rows, or find them trained."""
    return launch_all([row_config(method, shape, base) for method, shape in rows])


def evaluate_rows(rows: Sequence[tuple[str, str]], runs: Sequence[Run]) -> list[Result]:
    """Evaluate trained rows, labelled by method and shape."""
    labels = [f"{METHODS[method]}, {shape.replace('x', ' × ')}" for method, shape in rows]
    return [replace(evaluate(run), label=label) for run, label in zip(runs, labels)]


def row_facts(method: str, result: Result) -> dict:
    """The row of a sweep: settings, people and pictures in training, figures, held-out AUC."""
    run = load_run(result.folder)
    facts, settings = run.status["facts"], result.config.to_dict()
    people, images = facts["identities"], facts["images"]
    return {
        "run": result.folder.name,
        **settings,
        "method": method,
        "people": people,
        "images_each": round(images / people),
        "epochs_seen": settings["images_seen"] / facts["images_per_epoch"],
        "val_auc": float(run.metrics()["val_auc"].dropna().iloc[-1]),
        **{key: measured(run)[key] for key in ("effective_negatives", "stranger_cosine")},
        "report": result.report,
    }
