"""Who is confused: error rates by group, of pairs alike in a trait, and of heads with one changed.

Error differentials follow ISO/IEC 19795-10: one threshold for everybody, the false non-match rate
(FNMR) of each group's genuine pairs, the false match rate (FMR) of impostor pairs inside a group.
Ratios of rates are compared on the log scale. Their variance is that of the pairs' influences
summed over people (`metrics/intervals.py`), given the threshold.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from facelib.config import Config
from facelib.data.locate import rendered_spec
from facelib.errors import UserError
from facelib.evaluate.embed import embed_images
from facelib.formats.decode import decode
from facelib.metrics import geometry as an
from facelib.metrics.intervals import People
from facelib.metrics.tables import percent, with_interval
from facelib.rendered.dataset import AGAIN, ITSELF, STRANGER, person_traits
from facelib.studies.claims import correct, points
from facelib.studies.plots import image_grid
from facelib.studies.pose import pooled
from facelib.studies.records import t_interval
from facelib.studies.results import Result
from facelib.training.trained import load_model

FMR = 1e-2  # of the one threshold
MIN_ERRORS = 3  # fewer in a group: its rate is not estimable
UNKNOWN = "not estimable"
SAME, OTHER = "same group", "different groups"
ORDINARY = "other person, other scene"
CHANGES = ("ancestry", "sex", "age", "skin", "hair", "beard", "glasses")
WHATS = (*CHANGES, AGAIN, STRANGER, ORDINARY)  # rows of tables and pictures


def groups_of(cfg: Config) -> pd.DataFrame:
    """Group of each benchmark person by trait: sex, age (halves), ancestry (largest share), skin
    (thirds by melanin).

    Raises:
        UserError: the faces of `cfg` are not rendered, so nothing is known of their people.
    """
    if cfg.data != "rendered":
        raise UserError(
            f"data={cfg.data!r}: traits are known of rendered people only; next: leave data out"
        )
    traits = person_traits(rendered_spec(cfg))
    return pd.DataFrame(
        {
            "sex": traits["sex"],
            "age": pd.qcut(traits["age"], 2, ["younger", "older"]).astype(str),
            "ancestry": traits[["african", "asian", "caucasian"]].idxmax(axis=1),
            "skin": pd.qcut(traits["melanin"], 3, ["light", "medium", "dark"]).astype(str),
        }
    )


def decided(result: Result, fmr: float = FMR) -> pd.DataFrame:
    """All pairs of a run's benchmarks: same, id1, id2, and whether one threshold is wrong on them.

    The threshold lets through a share `fmr` of all impostor pairs.
    """
    pairs = pooled(result)
    at = an.global_threshold(pairs["score"].to_numpy(), pairs["same"].to_numpy(), fmr)
    return pairs.assign(wrong=(pairs["score"] > at) != pairs["same"], threshold=at)


def _kinds(pairs: pd.DataFrame, groups: pd.DataFrame) -> Iterator[tuple]:
    """(trait, rate, pairs of that kind, group (P,) of each): FNMR, then FMR.

    An impostor pair of two groups is in the group `OTHER`.
    """
    for trait, group in groups.items():
        one, two = (pairs[side].map(group) for side in ("id1", "id2"))
        for rate, kind in (("FNMR", pairs["same"]), ("FMR", ~pairs["same"])):
            yield trait, rate, pairs[kind], one.where(one == two, OTHER)[kind].to_numpy()


def group_rates(pairs: pd.DataFrame, groups: pd.DataFrame) -> pd.DataFrame:
    """One row per trait, rate and group: pairs, errors, value, lo, hi (95 %, over people).

    The last three are NaN where there are fewer than `MIN_ERRORS` errors.
    """
    rows = {}
    for trait, rate, part, label in _kinds(pairs, groups):
        for name in [*dict.fromkeys(groups[trait].sort_values()), *([OTHER] * (rate == "FMR"))]:
            rows[trait, rate, name] = _rate(part[label == name])
    return pd.DataFrame(rows).T.rename_axis(["trait", "rate", "group"])


def _rate(part: pd.DataFrame) -> dict:
    wrong, found = part["wrong"].to_numpy(bool), (np.nan,) * 3
    if wrong.sum() >= MIN_ERRORS:
        found = an.mean_interval(wrong, part["id1"].to_numpy(), part["id2"].to_numpy())
    return {"pairs": len(part), "errors": wrong.sum(), **dict(zip(("value", "lo", "hi"), found))}


def log_contrast(part: pd.DataFrame, label: np.ndarray, weights: dict[str, float]) -> dict:
    """Σ weight · log(rate of a group) with its 95 % interval over people.

    Args:
        part: wrong, id1, id2 of P pairs. label: (P,) group of each.

    Returns:
        log, lo, hi, repeats (people), as `claims.correct` takes them; NaN where a group has fewer
        than `MIN_ERRORS` errors.
    """
    wrong, total, psi = part["wrong"].to_numpy(float), 0.0, np.zeros(len(part))
    for name, weight in weights.items():
        members = label == name
        if wrong[members].sum() < MIN_ERRORS:
            return {"log": np.nan, "lo": np.nan, "hi": np.nan, "repeats": 0}
        rate = wrong[members].mean()
        total += weight * np.log(rate)
        psi += weight * members * (wrong - rate) / (members.sum() * rate)
    inside = np.isin(label, list(weights))
    people = People(part["id1"][inside].to_numpy(), part["id2"][inside].to_numpy(), inside.sum())
    n = people.count
    reach = stats.t.ppf(0.975, n - 1) * np.sqrt(people.variance(psi[inside]) * n / (n - 1))
    return {"log": total, "lo": total - reach, "hi": total + reach, "repeats": n}


def ratios(pairs: pd.DataFrame, groups: pd.DataFrame) -> pd.DataFrame:
    """Ratio of the rates of any two groups of a trait, higher / lower, corrected as one family.

    Columns: trait, rate, comparison, log, lo, hi, p, significant, smallest … of `claims.correct`.
    """
    rows = []
    for trait, rate, part, label in _kinds(pairs, groups):
        errors = part["wrong"].groupby(label).mean()
        for two in combinations(sorted(groups[trait].unique()), 2):
            high, low = sorted(two, key=lambda name: -errors.get(name, 0))
            found = log_contrast(part, label, {high: 1, low: -1})
            rows.append({"trait": trait, "rate": rate, "comparison": f"{high} / {low}", **found})
    return correct(pd.DataFrame(rows), "log")


def alike(pairs: pd.DataFrame, groups: pd.DataFrame) -> pd.DataFrame:
    """FMR of impostors of the same group over that of different groups, by trait, corrected."""
    rows = []
    for trait, rate, part, label in _kinds(pairs, groups):
        if rate == "FMR":
            label = np.where(label == OTHER, OTHER, SAME)
            found = log_contrast(part, label, {SAME: 1, OTHER: -1})
            rows.append({"trait": trait, "comparison": f"{SAME} / {OTHER}", **found})
    return correct(pd.DataFrame(rows), "log")


def differentials(pairs: pd.DataFrame, groups: pd.DataFrame) -> pd.DataFrame:
    """Largest rate over smallest, and over the geometric mean of a trait's groups.

    max/min has the corrected interval of its comparison among `ratios`, max/geometric mean its own.
    """
    compared, rows = ratios(pairs, groups), {}
    for trait, rate, part, label in _kinds(pairs, groups):
        own = compared[(compared["trait"] == trait) & (compared["rate"] == rate)]
        rows[trait, rate] = dict.fromkeys(("groups", "max/min", "max/geometric mean"), UNKNOWN)
        if own["log"].notna().all():
            widest = own.loc[own["log"].idxmax()]
            names = sorted(groups[trait].unique())
            top = widest["comparison"].split(" / ")[0]
            weights = {name: (name == top) - 1 / len(names) for name in names}
            mean = log_contrast(part, label, weights)
            told = widest["comparison"], ratio_text(widest), ratio_text(mean)
            rows[trait, rate] = dict(zip(rows[trait, rate], told))
    return pd.DataFrame(rows).T.rename_axis(["trait", "rate"])


def ratio_text(row) -> str:
    """`1.80 [1.21, 2.68]`; of a comparison that is not significant also what would have been."""
    if not np.isfinite(row["log"]):
        return UNKNOWN
    told = with_interval(*np.exp([row["log"], row["lo"], row["hi"]]), ".2f")
    weak = row.get("significant", True) or not np.isfinite(row["smallest"])
    return told if weak else f"{told} (n.s., ≥{np.exp(row['smallest']):.2f})"


def by_shared(pairs: pd.DataFrame, groups: pd.DataFrame) -> pd.DataFrame:
    """FMR of impostors by the number of traits whose group they share, as `group_rates` has it."""
    impostors = pairs[~pairs["same"]]
    sides = (groups.loc[impostors[side]].to_numpy() for side in ("id1", "id2"))
    shared = np.sum(next(sides) == next(sides), axis=1)
    rows = {n: _rate(impostors[shared == n]) for n in range(groups.shape[1] + 1)}
    return pd.DataFrame(rows).T.rename_axis("traits shared")


def rate_frame(runs: dict[str, pd.DataFrame], groups: pd.DataFrame, rate: str) -> pd.DataFrame:
    """One rate of every group and run as a frame for `plots.forest`."""
    tables = {
        loss: group_rates(pairs, groups).xs(rate, level="rate") for loss, pairs in runs.items()
    }
    frame = pd.concat(tables, names=["loss"]).reset_index()
    label = frame["trait"] + ": " + frame["group"]
    return frame.assign(label=label, group=frame["loss"])


def shared_frame(runs: dict[str, pd.DataFrame], groups: pd.DataFrame) -> pd.DataFrame:
    """`by_shared` of every run as a frame for `plots.forest`."""
    tables = {loss: by_shared(pairs, groups) for loss, pairs in runs.items()}
    frame = pd.concat(tables, names=["group"]).reset_index()
    return frame.assign(label=frame["traits shared"].astype(str) + f" of {groups.shape[1]}")


def twin_cosines(result: Result, jpegs: Sequence[bytes], shown: pd.DataFrame) -> pd.DataFrame:
    """Cosine of each head's picture with that of every twin and reference: head, yaw, what, cosine.

    `ORDINARY` pairs the picture with that of the next head in another scene.

    Args:
        jpegs, shown: of `draw_twins`.
    """
    cfg = result.config
    model = load_model(result.folder)[0]
    emb, _ = embed_images(model, jpegs, cfg.image_size, fill_border=cfg.fill_border)
    rows = shown.assign(emb=[*an.unit(emb)])
    base = rows[rows["what"] == ITSELF].set_index(["head", "yaw"])["emb"]
    again = rows[rows["what"] == AGAIN]
    heads = rows["head"].nunique()
    ordinary = again.assign(head=(again["head"] - 1) % heads, what=ORDINARY)
    rows = pd.concat([rows[rows["what"] != ITSELF], ordinary], ignore_index=True)
    own = base.loc[[*zip(rows["head"], rows["yaw"])]]
    cosine = [float(a @ b) for a, b in zip(rows["emb"], own)]
    return rows.drop(columns="emb").assign(cosine=cosine)


def twin_sheet(jpegs: Sequence[bytes], shown: pd.DataFrame, heads: int = 4, note: str = ""):
    """A head per row, at one of the yaws in turn, and beside it what it is compared with."""
    columns, yaws = (ITSELF, *WHATS[:-1]), shown["yaw"].unique()
    place = {(row.head, row.yaw, row.what): i for i, row in enumerate(shown.itertuples())}
    blank, images = np.full((64, 64, 3), 255, np.uint8), []
    known = shown["head"].unique()
    for head in known[:: max(1, len(known) // heads)][:heads]:
        yaw = yaws[len(images) // len(columns) % len(yaws)]
        found = [place.get((head, yaw, what)) for what in columns]
        images += [blank if i is None else decode(jpegs[i], 64) for i in found]
    titles = [what.replace(", ", ",\n").replace(" person", "") for what in columns]
    titles += [""] * (len(images) - len(titles))
    return image_grid(images, titles, len(columns), "One trait changed", note)


def _by_head(cosines: pd.DataFrame) -> pd.DataFrame:
    """Mean cosine over the yaws: a row per head, a column per change in the order drawn."""
    found = cosines.pivot_table(index="head", columns="what", values="cosine")
    return found[[what for what in WHATS if what in found]]


def _way(cosines: pd.DataFrame) -> pd.DataFrame:
    """How far each change takes a head, in percent of the mean way to another person there."""
    heads = _by_head(cosines)
    found = 100 * (1 - heads) / (1 - heads[STRANGER].mean())
    return found.drop(columns=[AGAIN, STRANGER, ORDINARY])


def twin_frames(found: dict[str, pd.DataFrame]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Frames for `plots.forest`: cosines, and the way to another person; 95 % t over heads."""
    frames = []
    for table in (_by_head, _way):
        rows = [
            (what, loss, *t_interval(values.dropna()))
            for loss, cosines in found.items()
            for what, values in table(cosines).items()
        ]
        frames.append(pd.DataFrame(rows, columns=["label", "group", "value", "lo", "hi"]))
    return tuple(frames)


def accepted(found: dict[str, pd.DataFrame], runs: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Share of twins that the run's one threshold takes for the same person, with its interval."""
    table = {}
    for loss, cosines in found.items():
        passed = cosines["cosine"] > runs[loss]["threshold"].iloc[0]
        for what, part in passed.groupby(cosines["what"]):
            share = an.mean_interval(part.to_numpy(), cosines["head"][part.index].to_numpy())
            told = with_interval(*(100 * end for end in share), ".0f")
            table.setdefault(loss, {})[what] = told
    return pd.DataFrame(table).reindex([w for w in WHATS if w in set(cosines["what"])])


def way_gaps(found: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Differences of two losses in the way of each change, paired by head, corrected together."""
    ways, rows = {loss: _way(cosines) for loss, cosines in found.items()}, []
    for a, b in combinations(ways, 2):
        for what, gap in (ways[a] - ways[b]).items():
            mean, lo, hi = t_interval(gap.dropna())
            row = {"change": what, "comparison": f"{a} less {b}", "difference": mean}
            rows.append({**row, "lo": lo, "hi": hi, "repeats": gap.count()})
    return correct(pd.DataFrame(rows))


def sentences(
    runs: dict[str, pd.DataFrame], groups: pd.DataFrame, found: dict[str, pd.DataFrame]
) -> list[str]:
    """What the chapter found, a line each: groups, pairs alike, twins, losses."""
    lines = []
    for loss, pairs in runs.items():
        compared, shared = ratios(pairs, groups), by_shared(pairs, groups)["value"]
        clear = compared[compared["significant"]]
        told = [
            f"{r['rate']} of {r['comparison']} {ratio_text(r)}" for r in clear.to_dict("records")
        ]
        power = np.exp(compared.groupby("rate")["smallest"].median())
        power = power.map(lambda ratio: f"{ratio:.1f}", na_action="ignore").fillna(UNKNOWN)
        ties = [f"{r['trait']} {ratio_text(r)}" for r in alike(pairs, groups).to_dict("records")]
        lines += [
            f"{loss}, groups: {len(clear)} of {compared['log'].count()} ratios are significant"
            f"{': ' * bool(told)}{', '.join(told)}; the median comparison would have shown a ratio "
            f"of {power['FNMR']} in FNMR and {power['FMR']} in FMR with a power of 80 %",
            f"{loss}, strangers alike: FMR inside a group over that across groups: "
            f"{', '.join(ties)}; from {_share(shared.iloc[0])} where no trait is shared to "
            f"{_share(shared.iloc[-1])} where all are",
        ]
    for loss, cosines in found.items():
        far = _way(cosines).mean().sort_values(ascending=False)
        told = ", ".join(f"{what} {way:.0f} %" for what, way in far.items())
        lines.append(f"{loss}, one trait changed, in percent of the way to another person: {told}")
    gaps = way_gaps(found)
    clear = gaps[gaps["significant"]].to_dict("records")
    told = [f"{g['change']}, {g['comparison']}: {points(g)}" for g in clear]
    lines.append(
        f"losses: {len(clear)} of {len(gaps)} differences of these ways are significant"
        f"{': ' * bool(told)}{'; '.join(told)}"
    )
    return lines


def _share(rate: float) -> str:
    return UNKNOWN if np.isnan(rate) else f"{percent(rate)} %"
