"""What a notebook shows of an audit: recall by kind of copy, faces side by side, gains."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from facelib.audit import checks
from facelib.audit.overlap import Audit, TrainingSet, benchmark_images
from facelib.audit.overlap_pairs import accuracy_by_overlap, inflation
from facelib.digests import digest
from facelib.formats.benchmarks import person_of_image
from facelib.formats.decode import decode
from facelib.metrics.tables import benchmark_name
from facelib.studies import plots
from facelib.studies.claims import correct, family_note, gap_lines
from facelib.studies.records import repeat_differences, repeat_intervals
from facelib.studies.results import Result

FACE = 56  # pixels of a face in the gallery


def copies_found(found: Sequence[Audit], copies: pd.DataFrame) -> pd.DataFrame:
    """Recall of the image hash by kind of copy (`copies.csv`) of these benchmarks' images."""
    originals: dict[str, set] = {}
    pairs = set()
    for number, one in enumerate(found):
        for i, image in enumerate(one.bench.images):
            originals.setdefault(digest(image), set()).add((number, i))
        pairs |= {(number, i, row) for i, row in zip(one.images["image"], one.images["row"])}
    present = copies[copies["source"].isin(originals)]
    hit = [
        any((*place, record - 1) in pairs for place in originals[source])
        for record, source in zip(present["record"], present["source"])
    ]
    grouped = present.assign(found=hit).groupby("kind", sort=False)["found"]
    return grouped.agg(copies="size", found="sum", recall="mean")


def signal_scores(found: Mapping[str, Sequence[Audit]], truth: Collection) -> pd.DataFrame:
    """`checks.score_signals` of audits by several networks, indexed by benchmark, network, signal.

    Average precision (`checks.ranked_precision`) stands in the rows of the embeddings.
    """
    frames = {}
    for network, audits in found.items():
        for one in audits:
            scored = checks.score_signals(one.candidates, truth)
            average = checks.ranked_precision(one.candidates, truth)[1]
            scored.loc["embeddings", "average precision"] = average
            frames[(benchmark_name(one.bench.name, rendered=True), network)] = scored
    joined = pd.concat(frames, names=["benchmark", "network"])
    counts = ["found", "right", "truth"]
    return joined.astype(dict.fromkeys(counts, int)).sort_index(level=0, sort_remaining=False)


def gallery(
    train: TrainingSet, found: Audit, rows: pd.DataFrame, run, truth: Collection, title: str = ""
) -> Figure:
    """Candidate matches to judge by eye: training face | benchmark face, the most similar two.

    Args:
        rows: of `found.candidates`. run: whose network picks the two faces.
        truth: (id, label) pairs that are one person, for the caption; empty where unknown.
    """
    emb, person = benchmark_images(run, found.bench), person_of_image(found.bench)
    own = {label: np.flatnonzero(train.records.labels == label) for label in rows["label"]}
    known = train.embed(run, np.concatenate(list(own.values())))
    place = {row: i for i, row in enumerate(np.concatenate(list(own.values())))}
    pictures, captions = [], []
    for row in rows.to_dict("records"):
        theirs = np.flatnonzero(person == row["id"])
        cos = known[[place[i] for i in own[row["label"]]]] @ emb[theirs].T
        a, b = np.unravel_index(cos.argmax(), cos.shape)
        faces = train.records.jpeg(own[row["label"]][a]), found.bench.images[theirs[b]]
        pictures.append(np.hstack([decode(face, FACE) for face in faces]))
        right = (row["id"], row["label"]) in set(truth)
        answer = ("same" if right else "different") if len(truth) else ""
        captions.append(f"{row['similarity']:.2f} {answer}")
    note = plots.note_for(True, "training | benchmark, similarity, truth") if len(truth) else ""
    return plots.image_grid(pictures, captions, columns=6, title=title, note=note)


def similarity_histogram(
    frame: pd.DataFrame, threshold: float, ax: Axes, title: str, note: str
) -> Axes:
    """`similarity` to the nearest training identity, by `truth`; dashed: the threshold."""
    palette = dict(zip(frame["truth"].unique(), (plots.GENUINE, plots.IMPOSTOR)))
    sns.histplot(frame, x="similarity", hue="truth", bins=40, palette=palette, ax=ax)
    ax.axvline(threshold, ls="--", lw=1, color="0.3")
    return plots.label_axes(ax, title, note, "cosine to the nearest training identity", "people")


def accuracy_frame(
    results: Sequence[Result], in_training: Collection[int], labels: Sequence[str]
) -> pd.DataFrame:
    """`accuracy_by_overlap` of every benchmark of several runs, with benchmark and run (label)."""
    frames = []
    for result, label in zip(results, labels, strict=True):
        for name in result.benchmarks:
            frame = accuracy_by_overlap(result.scores(name), in_training)
            frames.append(frame.assign(benchmark=result.title(name), run=label))
    return pd.concat(frames, ignore_index=True)


def gain_frame(
    pairs: Sequence[tuple[Result, Result]], in_training: Collection[int]
) -> pd.DataFrame:
    """`inflation` of (run with overlap, clean run) pairs: gain, lo and hi in points, with keys."""
    frames = [
        inflation(one.scores(name), clean.scores(name), in_training).assign(
            run=one.folder.name, benchmark=name, loss=one.config.loss
        )
        for one, clean in pairs
        for name in one.benchmarks
    ]
    frame = pd.concat(frames, ignore_index=True).rename(columns={"value": "gain"})
    frame[["gain", "lo", "hi"]] *= 100
    return frame


def what_we_learned(about_rendered, together, kept) -> str:
    """Recall and precision of each signal, and the inflation of accuracy."""
    shown = together.groupby("signal", sort=False)[["recall", "precision"]].mean()
    lines = [
        f"- **{signal}**: recall {row['recall']:.0%}, precision {row['precision']:.0%}"
        for signal, row in shown.iterrows()
    ]
    gaps = inflation_gaps(kept)
    lines += gap_lines(gaps, "what", "comparison")
    repeated = f"inflation as mean of the benchmarks over {about_rendered['runs']} repeats, "
    repeated += family_note(gaps)
    return f"Rendered faces, planted overlap; {repeated}:\n\n" + "\n".join(lines)


def inflation_gaps(frame: pd.DataFrame) -> pd.DataFrame:
    """Inflation of both protocols and its difference between the losses: one corrected family.

    Args:
        frame: the record of the planted overlap.
    """
    kept = frame[(frame["kind"] == "accuracy") & (frame["group"] == "difference")]
    keys = ["protocol", "loss", "seed", "data_seed"]
    means = kept.groupby(keys, as_index=False)["gain"].mean().assign(benchmark="mean of benchmarks")
    columns = {"group": "comparison", "value": "difference"}
    rows = []
    for protocol, part in means.groupby("protocol"):
        share = part.assign(gain=part["gain"] / 100)
        apart = repeat_differences(share, "arcface", "infonce", "gain")
        both = pd.concat([repeat_intervals(part, "gain").rename(columns=columns), apart])
        rows.append(both.assign(what=f"**Inflation, {protocol}**", protocol=protocol))
    return correct(pd.concat(rows))
