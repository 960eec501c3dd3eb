"""What notebook 08 reads off its tables: one function per section, sentences with numbers."""

import math

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
        "difference "
        f"is {unseen['difference'].max():+.3f}, the highest upper end "
        f"{unseen['hi'].max():+.3f}, where "
        f"the excess over the Gaussian is up to {null['excess'].max():+.3f}."
    )


def read_strangers(compared) -> str:
    """What changes when the same people are held out of training."""
    change = compared.xs(strangers.GROUPS[0], level="people")
    beside = compared.xs(strangers.GROUPS[2], level="people")
    lines = [
        f"- {figure} ({strangers.FIGURES[figure]}): {row['trained on']:.2f} → "
        f"{row['held out']:.2f}, "
        f"change {row['change']:+.3f} [{row['lo']:+.3f}, {row['hi']:+.3f}]; the benchmark's people "
        f"{beside.loc[figure, 'change']:+.3f}"
        for figure, row in change.iterrows()
    ]
    return "**Reading.** From trained on to held out:\n\n" + "\n".join(lines)


def read_agreement(agree) -> str:
    """How often both pictures of a pair have one nearest centroid."""
    every = agree.xs("positive", level="pairs").xs("centroids", level="centres")
    share = every.groupby("loss")[["same centre", "by chance", "rotated same"]].mean()
    text = [
        f"{loss} {r['same centre']:.0%} (rotated {r['rotated same']:.0%}, chance "
        f"{r['by chance']:.1%})"
        for loss, r in share.iterrows()
    ]
    return (
        "**Reading.** Positive pairs with one centroid, mean of benchmarks: "
        + "; ".join(text)
        + "."
    )


def read_odds(last, every, agree) -> str:
    """Does a common nearest centre go with being verified?"""
    pos = every.loc[last]
    imp = agree.xs("impostor", level="pairs").xs("centroids", level="centres").loc[last]
    lines = [
        f"- {loss}: {p['same centre']:.0%} of positive pairs share a centre; "
        f"{p['correct if same']:.0%} of those are accepted, {p['correct if not']:.0%} of the "
        "others: "
        f"odds ratio {p['odds ratio']:.1f} [{p['lo']:.1f}, {p['hi']:.1f}], rotated "
        f"{p['rotated odds']:.1f}. Impostors that share one "
        f"({imp.loc[loss, 'same centre']:.1%}) are "
        f"refused in {imp.loc[loss, 'correct if same']:.0%}, the others in "
        f"{imp.loc[loss, 'correct if not']:.0%}"
        for loss, p in pos.iterrows()
    ]
    return f"**Reading**, {last}, centroids:\n\n" + "\n".join(lines)


def read_spread(last, spread, configs) -> str:
    """Effective directions and the gap between positives and impostors."""
    row = spread.loc[last]
    text = [
        f"{loss} uses {r['participation ratio']:.1f} effective directions of "
        f"{configs[0].dim}, gap of "
        f"the means {r['gap']:.2f} (positives {r['positives']:.2f}, impostors {r['negatives']:.2f})"
        for loss, r in row.iterrows()
    ]
    return f"**Reading**, {last}: " + "; ".join(text) + "."


def read_maps(name, shown, kept) -> str:
    """Nearest picture of the same person, on the map and in the embedding."""
    shares = [maps.separation(frame, run.images(name)) for run, frame in zip(shown, kept)]
    text = [
        f"{run.result.label} {on_map:.0%} on the map, {inside:.0%} in the embedding"
        for run, (on_map, inside) in zip(shown, shares)
    ]
    return "**Reading.** Nearest picture of the same person: " + "; ".join(text) + "."


def read_hardest(shared) -> str:
    """How many of the hardest pairs the runs share."""
    text = [
        f"of the {row['k'].max():.0f} hardest pairs ({kind}) two runs share "
        f"{row['shared'].min():.0f} to {row['shared'].max():.0f} (by chance "
        f"{row['by chance'].mean():.1f}), all runs {row['all'].max():.0f}"
        for kind, row in shared.groupby(level="pairs", sort=False)
    ]
    return "**Reading.** There, " + "; ".join(text) + "."


def read_every_run(table, last) -> str:
    """Excess and pull of every finished run."""
    text = [
        f"{loss}: excess {r['excess']:+.3f}, pull {r['pull']:+.3f} [{r['pull lo']:+.3f}, "
        f"{r['pull hi']:+.3f}], one centre in {r['same centre']:.0%}"
        for loss, r in table.iterrows()
    ]
    return f"**Reading**, {last}. " + "; ".join(text) + "."


def read_pose(poses) -> str:
    """How far TAR falls from the first bin of pose to the last."""
    ends = poses.groupby(level="loss", sort=False)
    text = [
        f"{loss} {p['TAR'].iloc[0]:.0%} → {p['TAR'].iloc[-1]:.0%} at one threshold, "
        f"{p['own TAR'].iloc[0]:.0%} → {p['own TAR'].iloc[-1]:.0%} at a threshold a bin"
        for loss, p in ends
    ]
    return (
        f"**Reading.** From the first bin to the last: {'; '.join(text)}. Where the second fall is "
        "the smaller one, part of the first is a threshold that is too strict for turned pairs."
    )


def answer_snapping(unseen, pulled, pos, last) -> str:
    """The answers to the three questions on centre snapping."""
    nce, arc = unseen.xs("InfoNCE", level="loss"), unseen.drop("InfoNCE", level="loss")
    found = {True: "is found in", False: "is not found in"}
    more = (pos["same centre"] > pos["rotated same"]).map({True: "more", False: "not more"})
    part = (pos["rotated odds"].map(math.log) / pos["odds ratio"].map(math.log)).clip(0, 1)
    so = (
        "part of it is a pull to training people"
        if pulled.any()
        else "strangers have it to each other too"
    )
    return (
        "- **Does InfoNCE avoid snapping to training centres?** In the three runs trained from "
        "scratch, beyond unseen people, a pull to the training's centroids "
        f"{found[(nce['lo'] > 0).any()]} InfoNCE (intervals end at {nce['hi'].max():+.3f}) and "
        f"{found[(arc['lo'] > 0).any()]} the losses with centres ({arc['hi'].max():+.3f}). "
        "The high "
        f"similarity to the nearest centre is real, but {so}.\n"
        f"- **Do both pictures of a pair snap to one centre?** In "
        f"{pos['same centre'].min():.0%} to "
        f"{pos['same centre'].max():.0%} of the positive pairs of {last}; than rotated embeddings: "
        + ", ".join(f"{loss} {word}" for loss, word in more.items())
        + f".\n- **Does it go with being verified?** Odds ratios {pos['odds ratio'].min():.1f} to "
        f"{pos['odds ratio'].max():.1f}; centres without meaning give "
        f"{pos['rotated odds'].min():.1f} "
        f"to {pos['rotated odds'].max():.1f}, on the log scale {part.min():.0%} to "
        f"{part.max():.0%} of "
        "it: similar pictures share any neighbour."
    )


def answer_every_run(last, table) -> str:
    """In how many finished runs the pull lies above 0."""
    above = [
        f"{loss} {r['pull']:+.4f} [{r['pull lo']:+.4f}, {r['pull hi']:+.4f}]"
        for loss, r in table[table["pull lo"] > 0].iterrows()
    ]
    return (
        f"- **And in every finished run?** On {last} the pull lies above 0 with its interval in "
        f"{len(above)} of {len(table)}: {'; '.join(above) or 'none'}."
    )


def answer_strangers(change) -> str:
    """Are strangers other than people of the training?"""
    apart = change.loc["nearest other", "lo"] > 0
    word = (
        "Training keeps the people it knows away from each other; strangers lack that."
        if apart
        else "That they lie closer to other people is not found."
    )
    return (
        f"- **Are strangers other than people of the training?** The same people, held out: "
        "nearest "
        f"other {change.loc['nearest other', 'change']:+.3f}, own pairs "
        f"{change.loc['own pairs', 'change']:+.3f}, verified "
        f"{change.loc['verified', 'change']:+.3f}. " + word
    )
