"""Per-pair scores as a file: the one artefact from which every table and interval is computed.

`NAME.npz` (read with `allow_pickle=False`), P pairs:

| array | shape, type | meaning |
|---|---|---|
| `score` | (P,) float | cosine of the unit embeddings f(x) |
| `same` | (P,) bool or 0/1 | one person? |
| `fold` | (P,) int, optional | any integers, one per fold; without it, contiguous tenths |
| `score_flip` | (P,) float, optional | cosine of f(x) + f(flip x), each sum made unit |
| `id1 id2` | (P,) int or str, optional | identity of each side: allows intervals over people |
| `yaw1 yaw2` | (P,) float, optional | head yaw of each side in degrees |
| `index1 index2` | (P,) int, optional | image of each side in the benchmark |
| `key digest` | text, optional | of the embeddings and of these arrays, see `facelib.digests` |
"""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from facelib.digests import check_stamps, content_digest, stamped
from facelib.errors import BadData, UserError
from facelib.paths import atomic_file
from facelib.safety.readers import read_arrays

TENTHS = 10


# Protocols: the share of impostors that the strict one accepts, the step above the highest of
# them, the rates of TAR@FAR, and the squared L2 distances that InsightFace tries.
STRICT_FAR = 1e-3
EPSILON = 1e-6
FARS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
DISTANCE_GRID = np.arange(0, 4, 0.01)


def far_name(far: float) -> str:
    """0.001 -> "1e-3", as keys of figures are written."""
    return f"{far:.0e}".replace("e-0", "e-")


@dataclass(frozen=True, eq=False)
class Scores:
    """Checked scores of P pairs; `fold` holds 0..F-1, `fold_labels` (F,) the file's own numbers."""

    score: np.ndarray
    same: np.ndarray
    fold: np.ndarray
    fold_labels: np.ndarray
    score_flip: np.ndarray | None = None
    id1: np.ndarray | None = None
    id2: np.ndarray | None = None
    yaw1: np.ndarray | None = None
    yaw2: np.ndarray | None = None
    index1: np.ndarray | None = None
    index2: np.ndarray | None = None

    @property
    def best_score(self) -> np.ndarray:
        """Scores (P,) of the best-threshold protocol: `score_flip` where there is one."""
        return self.score if self.score_flip is None else self.score_flip

    @property
    def digest(self) -> str:
        """Digest of all arrays: what figures of these scores come from."""
        return content_digest({k: v for k, v in vars(self).items() if v is not None})


STAMPS = ("key", "digest")
OPTIONAL = tuple(f.name for f in fields(Scores) if f.default is None)


def contiguous_tenths(pairs: int) -> np.ndarray:
    """Folds (P,) 0..9 in file order, the first P mod 10 one pair longer (scikit-learn's KFold)."""
    if pairs < TENTHS:
        raise UserError(
            f"{pairs} pairs cannot be cut into ten folds: give at least 10 pairs, or a `fold` array"
        )
    sizes = np.full(TENTHS, pairs // TENTHS)
    sizes[: pairs % TENTHS] += 1
    return np.repeat(np.arange(TENTHS), sizes)


def _check_column(name: str, values, pairs: int | None) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 1 or (pairs is not None and len(values) != pairs):
        wanted = "one dimension" if pairs is None else f"({pairs},) like `score`"
        raise UserError(f"`{name}` has shape {values.shape}, wanted {wanted}: one value a pair")
    return values


def _check_cosines(name: str, values, pairs: int | None) -> np.ndarray:
    values = _check_column(name, values, pairs)
    if values.dtype.kind not in "fiu":
        raise UserError(f"`{name}` has type {values.dtype}, wanted real numbers (cosines)")
    values = values.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise UserError(
            f"`{name}` is {values[bad[0]]} at pair {bad[0]} ({len(bad)} of {len(values)} are not "
            "finite): wanted finite cosines; look at the model or images that gave it"
        )
    return values


def _check_same(values, pairs: int) -> np.ndarray:
    values = _check_column("same", values, pairs)
    if values.dtype.kind not in "biuf" or not np.isin(values, (0, 1)).all():
        raise UserError(
            f"`same` has type {values.dtype} with values other than 0 and 1: "
            "wanted booleans, or 1 for the same person and 0 for two people"
        )
    same = values.astype(bool)
    if same.all() or not same.any():
        missing = "impostor (same = 0)" if same.all() else "genuine (same = 1)"
        raise UserError(f"all {pairs} pairs are of one kind: no {missing} pair, nothing to verify")
    return same


def _check_folds(values, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values = contiguous_tenths(len(same)) if values is None else values
    values = _check_column("fold", values, len(same))
    if values.dtype.kind not in "iu":
        raise UserError(f"`fold` has type {values.dtype}, wanted integers (any, one a fold)")
    labels, fold = np.unique(values, return_inverse=True)
    if len(labels) < 2:
        raise UserError(
            f"all pairs are in fold {labels[0]}: the threshold of a fold comes from the other "
            "folds, so wanted at least two; leave `fold` out for contiguous tenths"
        )
    holders = np.unique(fold[~same])
    if len(holders) == 1:
        raise UserError(
            f"only fold {labels[holders[0]]} holds impostor pairs, so the folds that train its "
            "threshold have none: wanted impostor pairs in at least two folds"
        )
    return fold, labels


def make_scores(score, same, fold=None, **optional) -> Scores:
    """Check the arrays of a scores file and bring them to one form.

    Args:
        score: (P,) cosines.
        same: (P,) booleans or 0/1.
        fold: (P,) any integers, or None for contiguous tenths.
        **optional: `score_flip`, `id1`, `id2`, `yaw1`, `yaw2`, `index1`, `index2`; None is allowed.

    Raises:
        UserError: a non-finite score, a wrong shape or type, an empty class, a single fold, or
            impostor pairs in one fold only, so that no strict threshold can be trained for it.
    """
    unknown = set(optional) - set(OPTIONAL)
    if unknown:
        raise UserError(f"unknown score arrays {sorted(unknown)}: allowed {', '.join(OPTIONAL)}")
    score = _check_cosines("score", score, None)
    if not len(score):
        raise UserError("`score` is empty: wanted one cosine a pair")
    pairs = len(score)
    same = _check_same(same, pairs)
    fold, labels = _check_folds(fold, same)
    extra = {
        k: (_check_cosines if k == "score_flip" else _check_column)(k, v, pairs)
        for k, v in optional.items()
        if v is not None
    }
    if ("id1" in extra) != ("id2" in extra):
        raise UserError("only one of `id1` and `id2` is given: wanted both or none")
    return Scores(score=score, same=same, fold=fold, fold_labels=labels, **extra)


def _check_identities(scores: Scores) -> None:
    if scores.id1 is None:
        return
    id1, id2, same = scores.id1, scores.id2, scores.same
    wrong = np.flatnonzero((id1 == id2) != same)
    if len(wrong):
        i = wrong[0]
        raise UserError(
            f"pair {i} has same = {int(same[i])}, but its identities are {id1[i]!s} and {id2[i]!s} "
            f"({len(wrong)} of {len(same)} pairs contradict): mend `same`, or `id1` and `id2`"
        )


def load_scores(path: Path | str, wanted: str | None = None) -> Scores:
    """Read and check a scores file.

    Args:
        wanted: digest of the scores that should be there; None takes any.

    Raises:
        BadData: the file is missing, damaged, altered, no `.npz`, of other scores, lacks `score` or
            `same`, or `same` contradicts the identities.
        UserError: its arrays are wrong, see `make_scores`; the message starts with the path.
    """
    path = Path(path)
    if not path.is_file():
        raise BadData(f"{path}: no such scores file; `python -m facelib eval RUN` writes them")
    known = ("score", "same", "fold", *OPTIONAL)
    again = "write it again with: python -m facelib eval RUN"
    what = "an .npz with `score`, `same`, maybe `fold`"
    arrays = read_arrays(path, what, again, (*known, *STAMPS), needed=("score", "same"))
    check_stamps(arrays, None, path, again)
    arrays = {name: values for name, values in arrays.items() if name in known}
    try:
        scores = make_scores(**arrays)
        _check_identities(scores)
    except UserError as error:
        raise BadData(f"{path}: {error}") from error
    if wanted is not None and scores.digest != wanted:
        raise BadData(f"{path}: not the scores that the figures come from; {again}")
    return scores


def save_scores(path: Path | str, scores: Scores, key: str = "") -> None:
    """Write a scores file atomically; `fold` keeps the labels it came with.

    Args:
        key: digest of the embeddings that they come from.
    """
    arrays = {k: getattr(scores, k) for k in OPTIONAL if getattr(scores, k) is not None}
    arrays |= {"score": scores.score, "same": scores.same}
    arrays["fold"] = scores.fold_labels[scores.fold]
    with atomic_file(Path(path)) as temporary, open(temporary, "wb") as out:
        np.savez_compressed(out, **stamped(arrays, key))
