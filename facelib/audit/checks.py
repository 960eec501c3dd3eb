"""Does a training set hold people or images of a benchmark? Three signals, joined and scored.

    names       `facelib/audit/people_names.py`: the same words; spellings only as candidates
    images      `facelib/audit/hashes.py`: near-duplicates by a 64-bit perceptual hash
    embeddings  here: the centroid of a training identity beside that of a benchmark identity

Each threshold is set on pairs that are known not to match, never on the answer. Embeddings: half
of each training identity's images, averaged, against the centroids of all *other* training
identities; the threshold is the cosine that a declared share of them exceeds. The null is a little
too easy (training pushed these identities apart), and the same person under two training labels
makes it too hard; with a known answer the realised rate is reported.

Symbols: N training identities, M benchmark identities, d dimensions.
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from facelib.errors import UserError
from facelib.formats.face_index import digits_are_names, normalise_name
from facelib.metrics.geometry import nearest_centres, unit
from facelib.metrics.verification import strict_threshold
from facelib.paths import atomic_file

MATCH_RATE = 0.01  # of strangers whose nearest training identity passes for themselves
SIGNALS = {"by_name": "names", "by_hash": "images", "by_embedding": "embeddings"}


def impostor_threshold(halves: np.ndarray, rate: float = MATCH_RATE) -> float:
    """Cosine above which a share `rate` of training identities has another one as nearest.

    Args:
        halves: (2, N, d) sums of the unit embeddings of each identity's even and odd images; an
            identity with one image has zeros in the second and is left out as a query.
        rate: of false matches by identity; with Q queries the threshold is the ⌊rate · Q⌋-th
            largest similarity, or just above the largest if that is 0.
    """
    queries = np.flatnonzero(halves[1].any(axis=1))
    if len(queries) < 2 or halves.shape[1] < 3:
        raise UserError(
            f"{len(queries)} training identities with two images: too few to set the threshold of "
            "the embeddings on; leave --run out, or audit a larger training set"
        )
    found, _ = nearest_centres(halves[1][queries], halves.sum(0), skip=queries)
    return strict_threshold(found, rate)


def match_embeddings(
    train: np.ndarray, bench: np.ndarray, ids: np.ndarray, also: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The nearest training identity of each benchmark identity.

    Args:
        train: (N, d) centroids or sums. bench: (M, d) centroids. ids: (M,) ascending numbers of the
            latter. also: id, label of other candidates, whose similarity is wanted too.

    Returns:
        Frame with id, label, similarity, rank (1: the nearest; 0: only in `also`).
    """
    values, labels = nearest_centres(bench, train)
    frame = pd.DataFrame({"id": ids, "label": labels, "similarity": values.astype(float)})
    frame["rank"] = 1
    if also is None or also.empty:
        return frame
    rows = unit(bench[np.searchsorted(ids, also["id"])])
    cos = np.einsum("pd,pd->p", rows, unit(train[also["label"].to_numpy()]))
    others = also[["id", "label"]].assign(similarity=cos.astype(float), rank=0)
    return pd.concat([frame, others]).drop_duplicates(["id", "label"], ignore_index=True)


def join_signals(
    names: pd.DataFrame | None, images: pd.DataFrame | None, embeddings: pd.DataFrame | None,
    threshold: float = np.inf,
) -> pd.DataFrame:  # fmt: skip
    """One row for each candidate pair of a benchmark and a training identity, by any signal.

    Args:
        names: id, label, kind (`match_names` with numbers), or None: no names known.
        images: id, label, bits, one row per near-duplicate image pair, or None.
        embeddings: `match_embeddings`, or None: no network. threshold: of its similarity.

    Returns:
        id, label; name (kind or ""), copies (near-duplicate image pairs), bits (of the nearest one,
        NaN without), similarity and rank (NaN without embeddings); by_name, by_hash,
        by_embedding (bool); signals (how many of these). Most signals first, then by similarity.
    """
    keys = ["id", "label"]
    frame = pd.DataFrame(columns=keys, dtype=np.int64)
    if names is not None:
        frame = frame.merge(names[[*keys, "kind"]].rename(columns={"kind": "name"}), "outer", keys)
    if images is not None:
        grouped = images.groupby(keys)["bits"].agg(copies="size", bits="min").reset_index()
        frame = frame.merge(grouped, "outer", keys)
    if embeddings is not None:
        frame = frame.merge(embeddings, "outer", keys)
    frame = frame.reindex(columns=[*keys, "name", "copies", "bits", "similarity", "rank"])
    frame["name"] = frame["name"].fillna("")
    frame["copies"] = frame["copies"].fillna(0).astype(np.int64)
    frame["by_name"] = frame["name"] == "match"
    frame["by_hash"] = frame["copies"] > 0
    frame["by_embedding"] = (frame["similarity"] >= threshold) & (frame["rank"] == 1)
    frame["signals"] = frame[list(SIGNALS)].sum(axis=1)
    known = frame[(frame["signals"] > 0) | (frame["name"] != "") | (frame["rank"] == 1)]
    order = ["signals", "similarity", "id", "label"]
    return known.sort_values(order, ascending=[False, False, True, True], ignore_index=True)


def people_table(candidates: pd.DataFrame, ids: np.ndarray) -> pd.DataFrame:
    """One row for each benchmark identity: its strongest candidate, and all labels it matches.

    Returns:
        The columns of `join_signals`, with label −1 where there is no candidate, and labels (all
        training identities that any signal matches). Index: id.
    """
    strongest = candidates.drop_duplicates("id").set_index("id").reindex(np.sort(ids))
    matched = candidates[candidates["signals"] > 0]
    labels = matched.groupby("id")["label"].agg(lambda found: sorted(set(found)))
    strongest["labels"] = [labels.get(i, []) for i in strongest.index]
    for column in ("by_name", "by_hash", "by_embedding"):
        strongest[column] = strongest[column] == True  # noqa: E712 (NaN is no match)
    whole = {"label": -1, "copies": 0, "signals": 0}
    return strongest.fillna(whole | {"name": ""}).astype(dict.fromkeys(whole, np.int64))


def score_signals(candidates: pd.DataFrame, truth: Collection[tuple[int, int]]) -> pd.DataFrame:
    """Precision and recall of each signal and of any against the true (id, label) pairs.

    Columns: found, right, truth (counts of pairs), precision (NaN if nothing is found), recall.
    """
    true, right = _right(candidates, truth)
    flags = {title: candidates[column].to_numpy(bool) for column, title in SIGNALS.items()}
    flags["any"] = (candidates["signals"] > 0).to_numpy()
    rows = {}
    for title, found in flags.items():
        hits, count = int((found & right).sum()), int(found.sum())
        rows[title] = {
            "found": count,
            "right": hits,
            "truth": len(true),
            "precision": hits / count if count else np.nan,
            "recall": hits / len(true) if true else np.nan,
        }
    return pd.DataFrame(rows).T.rename_axis("signal")


def _right(candidates: pd.DataFrame, truth: Collection[tuple[int, int]]) -> tuple[set, np.ndarray]:
    """The true pairs, and which of the candidates they are (bool)."""
    true = set(truth)
    pairs = zip(candidates["id"].tolist(), candidates["label"].tolist())
    return true, np.array([pair in true for pair in pairs], bool)


def ranked_precision(
    candidates: pd.DataFrame, truth: Collection[tuple[int, int]]
) -> tuple[pd.DataFrame, float]:
    """Precision and recall as the threshold falls, over each benchmark identity's nearest one.

    Returns:
        Frame with similarity, precision, recall (one row per benchmark identity), and the average
        precision Σ precision · Δrecall; a true pair that is not nearest is never found.
    """
    nearest_ones = candidates[candidates["rank"] == 1].sort_values("similarity", ascending=False)
    true, right = _right(nearest_ones, truth)
    hits = np.cumsum(right)
    precision, recall = hits / np.arange(1, len(right) + 1), hits / max(1, len(true))
    similarity = nearest_ones["similarity"].to_numpy()
    curve = pd.DataFrame({"similarity": similarity, "precision": precision, "recall": recall})
    return curve, float((precision * right).sum() / max(1, len(true)))


def exclusion_lines(labels: Collection[int], names: list[str] | None) -> list[str]:
    """Lines for `exclude=`: the name, or the label where no name stands for these people alone.

    Training leaves out *every* identity with a listed name, and reads digits as a label where no
    name is one (`digits_are_names`).

    Args:
        labels: training identities to leave out. names: of all training identities, or None.
    """
    out = {int(label) for label in labels}
    bearers: dict[str, set[int]] = {}
    for label, name in enumerate(names or []):
        bearers.setdefault(normalise_name(name), set()).add(label)

    def line(label: int) -> str:
        name = names[label].strip() if names else ""
        alone = name and bearers[normalise_name(name)] <= out
        return name if alone else f"label {label}" if digits_are_names(names) else str(label)

    return list(dict.fromkeys(line(label) for label in sorted(out)))


def write_exclusions(path: Path, labels: Collection[int], names: list[str] | None) -> int:
    """Write the list atomically (UTF-8, one name or label a line); returns the number of lines."""
    lines = exclusion_lines(labels, names)
    with atomic_file(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return len(lines)
