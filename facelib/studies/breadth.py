"""Breadth against depth: the same number of pictures of many people, or of few.

A row is a method on a shape, `arcface@240x72`: 240 people with 72 pictures each. All shapes of a
study hold about the same number of pictures, and all rows see the same number of images.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, PercentFormatter

from facelib.config import Config
from facelib.errors import UserError
from facelib.limits import parse_shape
from facelib.metrics.tables import percent
from facelib.rows import LOSS_ROWS
from facelib.runs.folder import Run, load_run
from facelib.runs.launch import launch_all
from facelib.studies.claims import correct, family_note, points_by
from facelib.studies.negatives import measured
from facelib.studies.plots import label_axes
from facelib.studies.records import PROTOCOLS, load_record, repeat_intervals, t_interval
from facelib.studies.results import Result, evaluate
from facelib.studies.source_a import BENCHMARKS

# Key of a method -> label: any loss on single images or pairs of one view; and `softmax`, which has
# no margin and InfoNCE's scale 1/τ: as near to InfoNCE as a classifier can be.
METHODS = {"arcface": "ArcFace", "softmax": "centres, no margin, InfoNCE's scale"}
METHODS |= {name: row.label for name, row in LOSS_ROWS.items()
            if row.views == 1 and row.layout != "groups"}  # fmt: skip
POSES = ("cfp_ff", "cfp_fp")
LONG = ", longer"  # of a shape's longer runs
PEOPLE = "training people × pictures of each"
# What `flip_gaps` compares: the whole step, then its two parts.
STEPS = (("arcface", "infonce"), ("softmax", "infonce"), ("arcface", "softmax"))


def row_config(method: str, shape: str, base: Config) -> Config:
    """The configuration of a method on a shape, from one with everything that rows share.

    Rendered faces are drawn in that shape; of real files, so many are drawn (`subset`).
    """
    if method not in METHODS:
        raise UserError(f"method {method!r}: allowed are {', '.join(METHODS)}")
    people, images = parse_shape(shape)
    own = {"s": round(1 / base.tau, 6), "m": 0.0} if method == "softmax" else {}
    loss = "arcface" if method == "softmax" else method
    data = {"subset": shape}
    if base.data == "rendered":
        data = {"data_identities": people, "data_images": images}
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


def record_frame(name: str) -> tuple[pd.DataFrame, dict]:
    """A published record from few people to many, with `shape`, and `loss` the method's label."""
    frame, about = load_record(name)
    if "images_seen" not in frame:  # the same in all runs
        frame["images_seen"] = about["shared_settings"]["images_seen"]
    frame["loss"] = frame["method"].map(METHODS)
    pictures = frame["data_images"].astype(str)  # before people are held out for validation
    frame["shape"] = [f"{p:,} × {k}" for p, k in zip(frame["people"], pictures)]
    return frame.sort_values(["people", "seed"], ignore_index=True), about


def split_lengths(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs of the shortest length, and the longer ones (perhaps none)."""
    short = frame["images_seen"] == frame["images_seen"].min()
    return frame[short], frame[~short]


def shapes_of(frame: pd.DataFrame) -> list[str]:
    """The shapes of a record, from few people to many."""
    return list(frame["shape"].unique())


def accuracy_frame(frame: pd.DataFrame, figure: str = "best.accuracy") -> pd.DataFrame:
    """`repeat_intervals` of each method (group), benchmark (label) and number of people."""
    parts = [
        repeat_intervals(part.assign(loss=part["method"]), figure).assign(
            shape=shape, people=people
        )
        for (people, shape), part in frame.groupby(["people", "shape"])
    ]
    return pd.concat(parts, ignore_index=True)


def accuracy_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Text table: mean [95 % interval] in percent by shape, method, benchmark and protocol."""
    parts = {}
    for protocol, figure in PROTOCOLS.items():
        found = accuracy_frame(frame, figure)
        found["text"] = [percent(r.value, [r.lo, r.hi]) for r in found.itertuples()]
        table = found.pivot(index=["people", "shape", "group"], columns="label", values="text")
        parts[protocol] = table[[*BENCHMARKS.values()]]
    table = pd.concat(parts, axis=1).droplevel("people")
    return table.rename_axis(["people × pictures", "method"])


def points_of(frame: pd.DataFrame, figure: str, benchmark: str) -> pd.DataFrame:
    """A figure in points (hundredths): a repeat a row, (method, shape) columns."""
    part = frame[frame["benchmark"] == benchmark]
    index, columns = ["seed", "data_seed"], ["method", "shape"]
    return 100 * part.pivot(index=index, columns=columns, values=figure)


def gap_row(values: pd.Series, **facts: str) -> dict:
    """A difference over repeats as a row for `claims.correct`; `facts` say what it is."""
    values = values.dropna().to_numpy()
    mean, lo, hi = t_interval(values)
    return {**facts, "difference": mean, "lo": lo, "hi": hi, "repeats": len(values)}


def _family(frame: pd.DataFrame, cases: list[tuple[dict, Callable]]) -> pd.DataFrame:
    """Every case on frontal and profile faces, by both protocols: one corrected family.

    Args:
        cases: what is compared, and the difference as a function of `points_of`.
    """
    rows = []
    for (protocol, figure), (facts, gap), name in product(PROTOCOLS.items(), cases, POSES):
        told = {**facts, "protocol": protocol, "benchmark": BENCHMARKS[name]}
        rows.append(gap_row(gap(points_of(frame, figure, name)), **told))
    return correct(pd.DataFrame(rows))


def _less(a: str, b: str) -> str:
    return f"{METHODS[a]} − {METHODS[b]}"


def order_gaps(frame: pd.DataFrame, a: str = "arcface", b: str = "infonce") -> pd.DataFrame:
    """Methods a − b on each shape; `people` is the shape's."""
    found = _family(frame, [
        ({"comparison": _less(a, b), "shape": shape}, lambda t, s=shape: t[a, s] - t[b, s])
        for shape in shapes_of(frame)
    ])  # fmt: skip
    people = frame.drop_duplicates("shape").set_index("shape")["people"]
    return found.assign(people=found["shape"].map(people))


def flip_gaps(frame: pd.DataFrame) -> pd.DataFrame:
    """How differences of methods change from the fewest people to the most.

    The whole difference of ArcFace and InfoNCE, and its two parts: learned centres instead of
    partners (`softmax` − InfoNCE), then margin and scale (ArcFace − `softmax`).
    """
    few, *_, many = shapes_of(frame)
    known = set(frame["method"])
    return _family(frame, [
        ({"comparison": _less(a, b)},
         lambda t, a=a, b=b: t[a, many] - t[b, many] - (t[a, few] - t[b, few]))
        for a, b in STEPS if {a, b} <= known
    ])  # fmt: skip


def breadth_gaps(frame: pd.DataFrame) -> pd.DataFrame:
    """Each method with the most people less the same with the fewest."""
    few, *_, many = shapes_of(frame)
    return _family(frame, [
        ({"comparison": METHODS[m]}, lambda t, m=m: t[m, many] - t[m, few])
        for m in frame["method"].unique()
    ])  # fmt: skip


def length_gaps(short: pd.DataFrame, longer: pd.DataFrame) -> pd.DataFrame:
    """What longer training changes on its shapes, method by method."""
    long = longer.assign(shape=longer["shape"] + LONG)
    return _family(pd.concat([short, long]), [
        ({"comparison": METHODS[m], "shape": s}, lambda t, m=m, s=s: t[m, s + LONG] - t[m, s])
        for m, s in longer[["method", "shape"]].drop_duplicates().itertuples(index=False)
    ])  # fmt: skip


def sentences(frame: pd.DataFrame) -> list[str]:
    """What the repeats say: whether the order flips, by what, and what breadth and length bring."""
    short, longer = split_lengths(frame)
    few, *_, many = shapes_of(short)
    flips, order = flip_gaps(short), order_gaps(short)
    parts = flips[flips["comparison"] != _less("arcface", "infonce")]  # the whole: in the verdict
    told = {
        f"change of the difference {{comparison}} from {few} to {many}": parts,
        "ArcFace − InfoNCE with {shape}": order,
        f"{{comparison}} with {many} less the same with {few}": breadth_gaps(short),
    }
    if len(longer):
        seen = [f"{side['images_seen'].iloc[0]:,}" for side in (longer, short)]
        gain = f"{{comparison}} with {{shape}}, {seen[0]} images seen instead of {seen[1]}"
        told[gain] = length_gaps(short, longer)
        told[f"ArcFace − InfoNCE with {{shape}}, {seen[0]} images seen"] = order_gaps(longer)
    lines = [line for form, gaps in told.items() for line in _by(form, gaps)]
    note = family_note(flips, *list(told.values())[1:])
    return [verdict(frame), *lines, f"{limits(frame)}; {note}"]


def _by(form: str, gaps: pd.DataFrame) -> list[str]:
    """A line for each row of `form` and each protocol, benchmarks one after the other."""
    keys = [key for key in ("comparison", "shape") if f"{{{key}}}" in form]
    return [
        f"{form.format(**dict(zip(keys, values)))}, {values[-1]}: {points_by(part)}"
        for values, part in gaps.groupby([*keys, "protocol"], sort=False)
    ]


def verdict(frame: pd.DataFrame) -> str:
    """One sentence: does the order of ArcFace and InfoNCE depend on the shape?"""
    short = split_lengths(frame)[0]
    few, *_, many = shapes_of(short)
    gaps = flip_gaps(short)
    gaps = gaps[gaps["comparison"] == _less("arcface", "infonce")]
    shown = gaps[gaps["significant"]]
    signs = tuple((shown["difference"] < 0).unique())
    said = {
        (): "that the order depends on it is not shown",
        (True,): "many people with few pictures each favour InfoNCE",
        (False,): "many people with few pictures each favour ArcFace",
    }.get(signs, "what many people with few pictures each favour depends on the benchmark")
    told = "; ".join(f"{protocol} {points_by(part)}"
                     for protocol, part in gaps.groupby("protocol", sort=False))  # fmt: skip
    return (
        f"The same number of pictures, divided otherwise: {said}. Change of ArcFace − InfoNCE from "
        f"{few} to {many} people × pictures (points, corrected 95 % intervals): {told}"
    )


def limits(frame: pd.DataFrame) -> str:
    """What a reader must know beside the verdict."""
    counts = [len(side.drop_duplicates(["seed", "data_seed"])) for side in split_lengths(frame)]
    longer = f" ({counts[1]} of the longer runs)" if counts[1] else ""
    return f"{counts[0]} repeats{longer}, rates searched on one shape only"


def plot_accuracy(frame: pd.DataFrame, note: str, figure: str = "best.accuracy") -> Figure:
    """Accuracy against the number of people, one line a method, a panel for each pose."""
    found = accuracy_frame(frame, figure)
    fig, axes = plt.subplots(1, len(POSES), figsize=(13, 4.4))
    for ax, name in zip(axes, POSES):
        part = found[found["label"] == BENCHMARKS[name]]
        _lines(ax, part, "group", [*METHODS.values()])
        ax.yaxis.set_major_formatter(PercentFormatter(1))
        label_axes(ax, BENCHMARKS[name], note, PEOPLE, "accuracy")
    axes[0].legend(fontsize=9)
    return fig


def plot_order(gaps: pd.DataFrame, note: str) -> Figure:
    """Difference of two methods against the number of people, a panel for each protocol."""
    fig, axes = plt.subplots(1, 2, figsize=(13, 4.2))
    for ax, (protocol, part) in zip(axes, gaps.groupby("protocol", sort=False)):
        ax.axhline(0, color="0.4", linewidth=1)
        part = part.rename(columns={"difference": "value"})
        _lines(ax, part, "benchmark", [BENCHMARKS[name] for name in POSES])
        title = f"{gaps['comparison'].iloc[0]}, {protocol}"
        label_axes(ax, title, note, PEOPLE, "percentage points")
    axes[0].legend(fontsize=9)
    return fig


def _lines(ax: Axes, frame: pd.DataFrame, column: str, names: Sequence[str]) -> None:
    """One line with bars for each of `names` that the column holds, over people."""
    names = [name for name in names if (frame[column] == name).any()]
    for place, (name, mark) in enumerate(zip(names, "oDs^v")):
        part = frame[frame[column] == name].sort_values("people")
        bars = [(part["value"] - part[end]).abs().fillna(0) for end in ("lo", "hi")]
        apart = 1 + 0.03 * (place - len(names) / 2)  # so that bars do not lie on one spot
        ax.errorbar(part["people"] * apart, part["value"], yerr=bars, marker=mark, capsize=3,
                    color=f"C{place}", label=name)  # fmt: skip
    people = sorted(frame["people"].unique())
    shapes = frame.drop_duplicates("people").set_index("people")["shape"]
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(people))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: shapes.get(round(value), "")))
