"""What notebook 08 reads off its tables: one function per section, sentences with numbers."""

import math

from facelib.metrics.tables import with_interval
from facelib.studies import maps, strangers
from facelib.studies.source_a import CENTRES_SOURCE_A


def read_centres(last, here) -> str:
    """How often a picture is closer to a centre than to its partner."""
    closer, paper = here["A closer"][last], CENTRES_SOURCE_A["A closer"]
    return (
        f"**Reading.** On {last} the first picture is closer to a stranger's centre than to its "
        f"partner in {closer['ArcFace', 'classifier']:.0%} of ArcFace's pairs (published, CFP-FP: "
        f"{paper['CFP-FP', 'ArcFace']:.0%}). With centroids for all: ArcFace "
        f"{closer['ArcFace', 'centroids']:.0%}, InfoNCE {closer['InfoNCE', 'centroids']:.0%}. What "
        "such shares mean, only nulls can say."
    )


def read_nulls(null) -> str:
    """How much of the similarity to the nearest centre a Gaussian gives."""
    means = null.xs("centroids", level="centres").groupby("loss").mean()
    a, b = means.loc["ArcFace"], means.loc["InfoNCE"]
    return (
        f"**Reading.** Means over benchmarks, centroids: of ArcFace's {a['centre sim']:.2f} the "
        f"Gaussian alone gives {a['Gaussian']:.2f}, of InfoNCE's {b['centre sim']:.2f} it gives "
        f"{b['Gaussian']:.2f}. Beyond it stay {a['excess']:+.3f} and {b['excess']:+.3f}; "
        f"{a['above 95 %']:.0%} and {b['above 95 %']:.0%} of the pictures lie above its 95th "
        "percentile (5 % would, without structure)."
    )


def read_pull(unseen, null) -> str:
    """How many intervals of the pull to training people lie above 0."""
    pulled = unseen["lo"] > 0
    return (
        f"**Reading.** {pulled.sum()} of {len(pulled)} intervals lie above 0; the largest "
        f"difference is {unseen['difference'].max():+.3f}, the highest upper end "
        f"{unseen['hi'].max():+.3f}, where the excess over the Gaussian is up to "
        f"{null['excess'].max():+.3f}."
    )


def read_strangers(compared) -> str:
    """What changes when the same people are held out of training."""
    change = compared.xs(strangers.GROUPS[0], level="people")
    beside = compared.xs(strangers.GROUPS[2], level="people")["change"]
    lines = [
        f"- {figure} ({strangers.FIGURES[figure]}): {row['trained on']:.2f} → "
        f"{row['held out']:.2f}, change {_interval(row, 'change')}; the benchmark's people "
        f"{beside[figure]:+.3f}"
        for figure, row in change.iterrows()
    ]
    return "**Reading.** From trained on to held out:\n\n" + "\n".join(lines)


def _interval(row, value: str, start: str = "", form: str = "+.3f") -> str:
    """A figure of a row with its interval, the columns lo and hi behind `start`."""
    return with_interval(row[value], row[f"{start}lo"], row[f"{start}hi"], form)


def read_agreement(agree) -> str:
    """How often both pictures of a pair have one nearest centroid."""
    every = agree.xs("positive", level="pairs").xs("centroids", level="centres")
    share = every.groupby("loss")[["same centre", "by chance", "rotated same"]].mean()
    text = "; ".join(
        f"{loss} {r['same centre']:.0%} (rotated {r['rotated same']:.0%}, chance "
        f"{r['by chance']:.1%})"
        for loss, r in share.iterrows()
    )
    return f"**Reading.** Positive pairs with one centroid, mean of benchmarks: {text}."


def read_odds(last, every, agree) -> str:
    """Does a common nearest centre go with being verified?"""
    imp = agree.xs("impostor", level="pairs").xs("centroids", level="centres").loc[last]
    lines = [
        f"- {loss}: {p['same centre']:.0%} of positive pairs share a centre; "
        f"{p['correct if same']:.0%} of those are accepted, {p['correct if not']:.0%} of the "
        f"others: odds ratio {_interval(p, 'odds ratio', form='.1f')}, rotated "
        f"{p['rotated odds']:.1f}. Impostors that share one "
        f"({imp.loc[loss, 'same centre']:.1%}) are refused in "
        f"{imp.loc[loss, 'correct if same']:.0%}, the others in "
        f"{imp.loc[loss, 'correct if not']:.0%}"
        for loss, p in every.loc[last].iterrows()
    ]
    return f"**Reading**, {last}, centroids:\n\n" + "\n".join(lines)


def read_spread(last, spread, configs) -> str:
    """Effective directions and the gap between positives and impostors."""
    text = "; ".join(
        f"{loss} uses {r['participation ratio']:.1f} effective directions of {configs[0].dim}, gap "
        f"of the means {r['gap']:.2f} (positives {r['positives']:.2f}, impostors "
        f"{r['negatives']:.2f})"
        for loss, r in spread.loc[last].iterrows()
    )
    return f"**Reading**, {last}: {text}."


def read_maps(name, shown, kept) -> str:
    """Nearest picture of the same person, on the map and in the embedding."""
    shares = [maps.separation(frame, run.images(name)) for run, frame in zip(shown, kept)]
    text = "; ".join(
        f"{run.result.label} {on_map:.0%} on the map, {inside:.0%} in the embedding"
        for run, (on_map, inside) in zip(shown, shares)
    )
    return f"**Reading.** Nearest picture of the same person: {text}."


def read_hardest(shared) -> str:
    """How many of the hardest pairs the runs share."""
    text = "; ".join(
        f"of the {row['k'].max():.0f} hardest pairs ({kind}) two runs share "
        f"{row['shared'].min():.0f} to {row['shared'].max():.0f} (by chance "
        f"{row['by chance'].mean():.1f}), all runs {row['all'].max():.0f}"
        for kind, row in shared.groupby(level="pairs", sort=False)
    )
    return f"**Reading.** There, {text}."


def read_every_run(table, last) -> str:
    """Excess and pull of every finished run."""
    text = "; ".join(
        f"{loss}: excess {r['excess']:+.3f}, pull {_interval(r, 'pull', 'pull ')}, one centre in "
        f"{r['same centre']:.0%}"
        for loss, r in table.iterrows()
    )
    return f"**Reading**, {last}. {text}."


def read_pose(poses) -> str:
    """How far TAR falls from the first bin of pose to the last."""
    text = "; ".join(
        f"{loss} {p['TAR'].iloc[0]:.0%} → {p['TAR'].iloc[-1]:.0%} at one threshold, "
        f"{p['own TAR'].iloc[0]:.0%} → {p['own TAR'].iloc[-1]:.0%} at a threshold a bin"
        for loss, p in poses.groupby(level="loss", sort=False)
    )
    return (
        f"**Reading.** From the first bin to the last: {text}. Where the second fall is "
        "the smaller one, part of the first is a threshold that is too strict for turned pairs."
    )


def answer_snapping(unseen, pulled, pos, last) -> str:
    """The answers to the three questions on centre snapping."""
    nce, arc = unseen.xs("InfoNCE", level="loss"), unseen.drop("InfoNCE", level="loss")
    found = {True: "is found in", False: "is not found in"}
    more = (pos["same centre"] > pos["rotated same"]).map({True: "more", False: "not more"})
    part = (pos["rotated odds"].map(math.log) / pos["odds ratio"].map(math.log)).clip(0, 1)
    people = "part of it is a pull to training people"
    so = people if pulled.any() else "strangers have it to each other too"
    same, odds, rotated = pos["same centre"], pos["odds ratio"], pos["rotated odds"]
    return (
        "- **Does InfoNCE avoid snapping to training centres?** In the three runs trained from "
        "scratch, beyond unseen people, a pull to the training's centroids "
        f"{found[(nce['lo'] > 0).any()]} InfoNCE (intervals end at {nce['hi'].max():+.3f}) and "
        f"{found[(arc['lo'] > 0).any()]} the losses with centres ({arc['hi'].max():+.3f}). The "
        f"high similarity to the nearest centre is real, but {so}.\n"
        f"- **Do both pictures of a pair snap to one centre?** In {same.min():.0%} to "
        f"{same.max():.0%} of the positive pairs of {last}; than rotated embeddings: "
        f"{', '.join(f'{loss} {word}' for loss, word in more.items())}.\n"
        f"- **Does it go with being verified?** Odds ratios {odds.min():.1f} to {odds.max():.1f}; "
        f"centres without meaning give {rotated.min():.1f} to {rotated.max():.1f}, on the log "
        f"scale {part.min():.0%} to {part.max():.0%} of it: similar pictures share any neighbour."
    )


def answer_every_run(last, table) -> str:
    """In how many finished runs the pull lies above 0."""
    rows = table[table["pull lo"] > 0].iterrows()
    above = [f"{loss} {_interval(r, 'pull', 'pull ', '+.4f')}" for loss, r in rows]
    return (
        f"- **And in every finished run?** On {last} the pull lies above 0 with its interval in "
        f"{len(above)} of {len(table)}: {'; '.join(above) or 'none'}."
    )


def answer_strangers(change) -> str:
    """Are strangers other than people of the training?"""
    known = "Training keeps the people it knows away from each other; strangers lack that."
    apart = change.loc["nearest other", "lo"] > 0
    word = known if apart else "That they lie closer to other people is not found."
    other, own, verified = change.loc[["nearest other", "own pairs", "verified"], "change"]
    return (
        "- **Are strangers other than people of the training?** The same people, held out: nearest "
        f"other {other:+.3f}, own pairs {own:+.3f}, verified {verified:+.3f}. {word}"
    )
