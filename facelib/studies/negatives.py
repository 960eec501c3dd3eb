"""The number of negatives as a question: rows `FAMILY-N`, what they cost, and their tables.

N counts the columns of an anchor's softmax: itself, its partner and N − 2 negatives. All rows share
network, data, seeds and the number of images that are trained on; rows of one N differ in where the
negatives are from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import pandas as pd

from facelib.config import Config
from facelib.errors import UserError
from facelib.metrics.tables import percent
from facelib.runs.folder import Run, load_run
from facelib.runs.launch import launch_all
from facelib.studies.claims import correct, family_note, points, points_by
from facelib.studies.records import load_record, repeat_differences, repeat_intervals
from facelib.studies.results import Result, evaluate
from facelib.studies.source_a import BENCHMARKS

# Key of a family -> label. N is left out where it is the number of identities.
FAMILIES = {
    "batch": "InfoNCE, larger batch",
    "chunks": "InfoNCE, larger batch in chunks",
    "fresh": "InfoNCE, fresh negatives",
    "queue": "InfoNCE, queue of a momentum encoder",
    "cross_batch": "InfoNCE, cross-batch memory",
    "identity": "InfoNCE, last feature of each identity",
    "mean": "InfoNCE, running mean of each identity",
    "centres": "ArcFace, sampled centres",
    "softmax": "learned centres, no margin, InfoNCE's scale",
    "scaled": "learned centres, no margin, ArcFace's scale",
}
WITHOUT_N = ("identity", "mean", "softmax", "scaled")
# From InfoNCE to ArcFace, one change a step; the last row is ArcFace.
LADDER = ("batch-64", "identity", "mean", "softmax", "scaled", "centres-all")
LAST = 10  # log ticks over which a run's figures are averaged


def parse_row(row: str) -> tuple[str, int]:
    """`"queue-1024"` to ("queue", 1024); N is 0 for all identities (`centres-all`, `identity`).

    Raises:
        UserError: no such family, or no number where one is wanted.
    """
    family, _, text = row.partition("-")
    wanted = "batch-256, queue-1024, cross_batch-1024, centres-256, centres-all"
    if family not in FAMILIES:
        raise UserError(f"row {row!r}: allowed are {wanted}, {', '.join(WITHOUT_N)}")
    if (family in WITHOUT_N and not text) or (family == "centres" and text == "all"):
        return family, 0
    if family in WITHOUT_N or not text.isdigit() or int(text) < 4:
        raise UserError(f"row {row!r}: wanted a family and a number from 4 on, as {wanted}")
    return family, int(text)


def row_config(row: str, base: Config) -> Config:
    """The configuration of a row, from one of InfoNCE whose batch is the smallest.

    A larger batch takes fewer steps of the same images; its rate grows with the square root of the
    batch, up to four times: within 0.001 of the AUC of the best rate searched (11_batch_size).
    Fresh negatives are images beside a batch of the smallest size, embedded by the network of that
    step without gradient: as many steps, at the same rate.
    """
    family, n = parse_row(row)
    preset = base.name.partition("-")[0]
    batch = n if family in ("batch", "chunks") else base.global_batch
    shares = base.processes * base.accumulate
    fitting = {"gather": True, "chunk": base.chunk if batch // shares > base.chunk else 0}
    nce = {**fitting, "loss": "infonce", "name": f"{preset}-infonce"}
    arc = {**fitting, "loss": "arcface", "name": f"{preset}-arcface", "loss_block": 0}
    rate = base.lr * min((n / base.global_batch) ** 0.5, 4.0)
    larger = {**nce, "global_batch": n, "lr": rate}
    spare = n - base.global_batch
    if family in ("queue", "cross_batch") and spare < 1:
        raise UserError(
            f"row {row!r}: a batch of {base.global_batch} has {n} columns or more; use "
            f"{family}-{2 * base.global_batch}, or a smaller global_batch"
        )
    changes = {
        "batch": larger,
        "chunks": {**larger, "chunk": base.global_batch // shares},
        "fresh": {
            **nce,
            "global_batch": n,
            "chunk": base.global_batch // shares,
            "anchors": base.global_batch // shares,
            "images_seen": base.images_seen * n // base.global_batch,
        },
        "queue": {**nce, "bank": "queue", "bank_slots": max(spare, 1)},
        "cross_batch": {**nce, "bank": "cross_batch", "bank_slots": max(spare, 1)},
        "identity": {**nce, "bank": "identity"},
        "mean": {**nce, "bank": "identity", "bank_centre": 0.9},
        "centres": {**arc, "sampled_centres": max(n - 1, 0)},
        "softmax": {**arc, "m": 0.0, "s": round(1 / base.tau, 6)},
        "scaled": {**arc, "m": 0.0},
    }[family]
    return base.with_loss(**changes)


def label_of(row: str) -> str:
    """A row as tables show it."""
    family, n = parse_row(row)
    if family in WITHOUT_N:
        return FAMILIES[family]
    return f"{FAMILIES[family]}, N = {n:,}" if n else f"{FAMILIES[family]}: all"


def train_rows(rows: Sequence[str], base: Config) -> dict[str, Run]:
    """Train rows (or find them trained): row -> run."""
    return dict(zip(rows, launch_all([row_config(row, base) for row in rows])))


def evaluate_rows(runs: dict[str, Run]) -> dict[str, Result]:
    """Evaluate trained rows: row -> result."""
    return {row: replace(evaluate(run), label=label_of(row)) for row, run in runs.items()}


def measured(run: Run) -> dict[str, float]:
    """What a run's metrics say of its negatives and cost: means of the last ticks, medians.

    negatives, effective_negatives: of an anchor (centres for ArcFace); stranger_cosine: mean cosine
    of images of two people in a batch (InfoNCE); images_per_s; memory_mb.
    """
    metrics = run.metrics().dropna(subset=["loss"])
    last = metrics.tail(LAST)
    centres = "negatives" not in metrics
    facts, effective = run.status["facts"], f"effective_{'centres' if centres else 'negatives'}"
    return {
        "negatives": facts["negative_centres"] if centres else last["negatives"].mean(),
        "effective_negatives": last[effective].mean(),
        "stranger_cosine": None if centres else last["negative_cosine"].mean(),
        "images_per_s": metrics["images_per_s"].median(),
        "memory_mb": metrics["peak_memory_mb"].max(),
    }


def compute(settings: Mapping) -> float:
    """Cost of a run in images that pass forward and backward once; `images_seen` is its length.

    A forward pass is a third of that: a momentum encoder and chunks add one for each image, and
    images beside the anchors have nothing else.
    """
    if settings.get("anchors"):
        trained = settings["anchors"] * settings["processes"] * settings["accumulate"]
        return float(settings["images_seen"]) * (1 / 3 + trained / settings["global_batch"])
    extra = (settings["bank"] == "queue") + (settings["chunk"] > 0)
    return float(settings["images_seen"]) * (1 + extra / 3)


def row_facts(row: str, result: Result) -> dict:
    """The row of a sweep: settings, figures, and what the metrics say."""
    settings, run = result.config.to_dict(), load_run(result.folder)
    if not settings["images_seen"]:
        epoch = run.status["facts"]["images_per_epoch"]
        settings["images_seen"] = round(settings["epochs"] * epoch)
    return {
        "run": result.folder.name,
        **settings,
        "row": row,
        "compute": compute(settings),
        **measured(run),
        "report": result.report,
    }


def table_of(results: dict[str, Result], runs: dict[str, Run]) -> pd.DataFrame:
    """Negatives, effective negatives, speed and memory of trained rows."""
    rows = {label_of(row): measured(runs[row]) for row in results}
    frame = pd.DataFrame(rows).T.rename(columns=lambda name: name.replace("_", " "))
    places = {"negatives": 0, "effective negatives": 1, "stranger cosine": 3}
    return frame.astype(float).round(places | {"images per s": 0, "memory mb": 0})


def record_frame(name: str) -> tuple[pd.DataFrame, dict]:
    """A published record with columns family, N and `loss` = the row, for `repeat_*`."""
    frame, record = load_record(name)
    family, n = zip(*map(parse_row, frame["row"]))
    return frame.assign(family=family, n=n, loss=frame["row"]), record


def lengths(frame: pd.DataFrame) -> tuple[int, int]:
    """The two lengths in images at which a record has its smallest batch."""
    found = sorted(frame.loc[frame["row"] == LADDER[0], "images_seen"].unique())
    return int(found[0]), int(found[-1])


def against_negatives(frame: pd.DataFrame) -> pd.DataFrame:
    """`repeat_intervals` of each row of the study (group), benchmark (label) and length.

    Beside them family, negatives, effective_negatives, compute, images_seen.
    """
    parts = []
    for images, part in frame.groupby("images_seen"):
        found = repeat_intervals(part)
        by_row = part.groupby("row")
        for column in ("negatives", "effective_negatives", "compute"):
            found[column] = found["group"].map(by_row[column].mean())
        found["family"] = found["group"].map(by_row["family"].first())
        parts.append(found.assign(images_seen=images))
    return pd.concat(parts, ignore_index=True)


def gap(frame: pd.DataFrame, a: str, b: str, images: tuple[int, int] | None = None) -> pd.DataFrame:
    """Paired differences of rows a − b over repeats, in points; `images`: lengths of a and b."""
    both = images or (lengths(frame)[0],) * 2
    sides = [frame[(frame["row"] == row) & (frame["images_seen"] == length)].assign(loss=side)
             for row, length, side in zip((a, b), both, ("a", "b"))]  # fmt: skip
    found = repeat_differences(pd.concat(sides), "a", "b")
    return found.assign(comparison=f"{label_of(a)} − {label_of(b)}", rows=f"{a} − {b}")


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """One line per row and length: accuracies [95 % interval] by benchmark, negatives, compute."""
    found = against_negatives(frame)
    found["text"] = [percent(r.value, [r.lo, r.hi]) for r in found.itertuples()]
    keys = ["group", "images_seen"]
    table = found.pivot(index=keys, columns="label", values="text")
    table = table[[name for name in BENCHMARKS.values() if name in table]]
    first = found.drop_duplicates(keys).set_index(keys)
    table.insert(0, "negatives", first["negatives"].round().astype(int))
    table.insert(1, "effective", first["effective_negatives"].round(1))
    strangers = frame.groupby(["row", "images_seen"])["stranger_cosine"].mean().round(2)
    table.insert(2, "stranger cosine", strangers.rename_axis(keys))
    table["compute"] = (first["compute"] / 1000).round().astype(int).astype(str) + "k"
    table["repeats"] = first["repeats"]
    order = {row: i for i, row in enumerate(frame["row"].unique())}
    table = table.sort_index(key=lambda level: level.map(lambda v: order.get(v, v)))
    return table.rename(index=label_of, level=0).rename_axis(["row", "images"])


def verdict(frame: pd.DataFrame) -> str:
    """One sentence: does any row of InfoNCE with more negatives gain on profile faces?

    The paired differences (`row_gaps`) are one family.
    """
    gaps = row_gaps(frame)
    better, worse = (gaps[gaps["significant"] & (gaps["difference"] * s > 0)] for s in (1, -1))
    best = gaps.loc[gaps["difference"].idxmax()]
    return (
        f"{'More negatives helped' if len(better) else 'More negatives did not help'}: "
        f"{len(better) or 'none'} of {len(gaps)} variants improved CFP-FP and {len(worse)} reduced "
        f"it at equal images (best: {label_of(best['row'])}, {points(best)})"
    )


def row_gaps(frame: pd.DataFrame) -> pd.DataFrame:
    """Each row of InfoNCE with more negatives less the smallest batch, on profile faces.

    Paired, at equal images, one corrected family.
    """
    few, (short, _) = LADDER[0], lengths(frame)
    part = frame[(frame["images_seen"] == short) & (frame["row"] != few)]
    infonce = ("batch", "chunks", "queue", "cross_batch", "identity", "mean")
    rows = part.loc[part["family"].isin(infonce), "row"].unique()
    found = [gap(frame, row, few).query("benchmark == 'CFP-FP'").assign(row=row) for row in rows]
    return correct(pd.concat(found))


def _negatives_of(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Numbers of negatives and of effective ones by row, at the shorter length."""
    found = against_negatives(frame).drop_duplicates(["group", "images_seen"])
    found = found[found["images_seen"] == lengths(frame)[0]].set_index("group")
    return found["negatives"], found["effective_negatives"]


def answers(frame: pd.DataFrame) -> pd.DataFrame:
    """The study's questions (`what`) as one corrected family: equal images, and equal steps."""
    short, long = lengths(frame)
    few, many = "batch-64", "batch-4096"
    number, _ = _negatives_of(frame)
    family = {
        f"{number[many]:,.0f} negatives by a larger batch instead of {number[few]:.0f}, at equal "
        f"images ({short:,})": gap(frame, many, few),
        f"a batch of 4,096 less one of 1,024, both with as many steps ({long:,} and {short:,} "
        "images)": gap(frame, many, "batch-1024", (long, short)),
        "the same number from a queue, the batch still 64": gap(frame, "queue-4096", few),
        f"all {number['centres-all']:,.0f} centres instead of {number['centres-64']:.0f} for "
        "ArcFace": gap(frame, "centres-all", "centres-64"),
        "ArcFace with all centres less InfoNCE in batches of 64": gap(frame, "centres-all", few),
    }
    return correct(pd.concat([part.assign(what=what) for what, part in family.items()]))


def sentences(frame: pd.DataFrame) -> list[str]:
    """The answer, then in numbers: what more negatives change, at equal images and equal steps."""
    few, many = "batch-64", "batch-4096"
    number, effective = _negatives_of(frame)
    gaps = answers(frame)
    return [
        verdict(frame),
        *(f"{what}: {points_by(part)}" for what, part in gaps.groupby("what", sort=False)),
        f"effective negatives: {effective[few]:.1f} of {number[few]:.0f} in a batch of 64, "
        f"{effective[many]:.1f} of {number[many]:,.0f} in one of 4,096",
        f"three repeats only, rates at the edge of the search, 29 steps in a batch of 4,096: "
        f"{family_note(gaps)}",
    ]


def ladder_gaps(frame: pd.DataFrame) -> pd.DataFrame:
    """Each step from InfoNCE to ArcFace on profile faces: one corrected family."""
    steps = pairwise(LADDER)
    found = [gap(frame, after, before).query("benchmark == 'CFP-FP'") for before, after in steps]
    return correct(pd.concat(found))


def ladder_line(frame: pd.DataFrame) -> str:
    """What each step from InfoNCE to ArcFace changes on profile faces."""
    gaps = ladder_gaps(frame).to_dict("records")
    parts = [f"{label_of(after)} {points(one)}" for after, one in zip(LADDER[1:], gaps)]
    return f"from InfoNCE to ArcFace on CFP-FP, one change per step: {'; '.join(parts)}"
