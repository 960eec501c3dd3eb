"""Chapter 08 in sentences: numbers of small made tables, and words that follow from them."""

import numpy as np
import pandas as pd
import pytest

from facelib.config import make_config
from facelib.studies import embedding_analysis as reading
from facelib.studies.strangers import FIGURES, GROUPS

BENCH = "CFP-FP"
LOSSES = ("ArcFace", "InfoNCE")


def unseen(lows=(-0.01, -0.02)):
    """Pull to training people, one benchmark: a row per loss."""
    index = pd.MultiIndex.from_tuples([(BENCH, loss) for loss in LOSSES],
                                      names=["benchmark", "loss"])  # fmt: skip
    low = np.array(lows)
    return pd.DataFrame({"difference": low + 0.02, "lo": low, "hi": low + 0.03}, index)


def agreement():
    """Share of pairs with one centre, two benchmarks, both kinds of pairs."""
    rows = {}
    for bench, more in ((BENCH, 0.0), ("LFW", 0.2)):
        for loss, same, odds in (("ArcFace", 0.2, 4.0), ("InfoNCE", 0.1, 16.0)):
            for pairs, share in (("positive", same + more), ("impostor", 0.01)):
                rows[bench, loss, "centroids", pairs] = {
                    "same centre": share, "by chance": 0.006, "rotated same": 0.15,
                    "correct if same": 0.5, "correct if not": 0.25, "odds ratio": odds,
                    "lo": odds - 1, "hi": odds + 1, "rotated odds": 4.0,
                }  # fmt: skip
    return pd.DataFrame(rows).T.rename_axis(["benchmark", "loss", "centres", "pairs"])


def strangers(low=0.02):
    """Change of every figure: 0.03 for the held-out people, 0.001 for the benchmark's."""
    rows = {
        (figure, group): {"trained on": 0.6, "held out": 0.63, "change": change, "lo": low,
                          "hi": 0.04}
        for figure in FIGURES
        for group, change in zip(GROUPS, (0.03, 0.002, 0.001))
    }  # fmt: skip
    return pd.DataFrame(rows).T.rename_axis(["figure", "people"])


def overview():
    columns = ["excess", "pull", "pull lo", "pull hi", "same centre"]
    rows = {"ArcFace": [0.07, 0.0, -0.01, 0.01, 0.12], "InfoNCE": [0.05, 0.003, 0.002, 0.005, 0.1]}
    return pd.DataFrame(rows, columns).T


def answers(low=(-0.01, -0.02)):
    pulls = unseen(low)
    return reading.answer_snapping(pulls, pulls["lo"] > 0, positive().loc[BENCH], BENCH)


def positive():
    return agreement().xs("positive", level="pairs").xs("centroids", level="centres")


def test_the_answers_on_snapping_follow_from_their_tables():
    # Catches: InfoNCE and the others swapped, another benchmark's shares.
    first, second, third = answers().splitlines()
    assert "is not found in InfoNCE (intervals end at +0.010)" in first
    assert "is not found in the losses with centres (+0.020)" in first
    assert "10% to 20% of the positive pairs of CFP-FP" in second
    assert "ArcFace more, InfoNCE not more" in second
    assert "Odds ratios 4.0 to 16.0" in third and "50% to 100%" in third


@pytest.mark.parametrize(
    ("low", "words"),
    [
        ((0.01, -0.02), "is found in the losses with centres"),
        ((0.01, -0.02), "part of it is a pull to training people"),
        ((-0.01, 0.01), "is found in InfoNCE"),
    ],
)
def test_other_intervals_give_other_answers(low, words):
    # Catches: a sentence that is the same whatever the intervals say.
    assert words not in answers()
    assert words in answers(low)


def test_answers_on_every_run_and_on_strangers_follow_from_their_tables():
    # Catches: runs whose interval holds 0 among those that are listed, a claim without evidence.
    assert "in 1 of 2: InfoNCE +0.0030 [+0.0020, +0.0050]" in (
        reading.answer_every_run(BENCH, overview())
    )
    assert "in 0 of 1: none" in reading.answer_every_run(BENCH, overview().iloc[:1])
    change, none = (strangers(low).xs(GROUPS[0], level="people") for low in (0.02, -0.01))
    assert "nearest other +0.030" in reading.answer_strangers(change)
    assert "away from each other" in reading.answer_strangers(change)
    assert "is not found" in reading.answer_strangers(none)


def test_readings_of_pairs_take_the_right_benchmark_and_kind():
    # Catches: impostors read as positives, a mean over benchmarks where one is named.
    shares = reading.read_agreement(agreement())
    assert "ArcFace 30% (rotated 15%, chance 0.6%)" in shares
    odds = reading.read_odds(BENCH, positive(), agreement())
    assert "- ArcFace: 20% of positive pairs share a centre; 50% of those are accepted" in odds
    assert "odds ratio 4.0 [3.0, 5.0], rotated 4.0. Impostors that share one (1.0%)" in odds


def test_readings_of_centres_and_nulls():
    # Catches: classifier and centroids swapped, percentages as fractions.
    index = pd.MultiIndex.from_tuples(
        [(BENCH, "ArcFace", "classifier"), (BENCH, "ArcFace", "centroids"),
         (BENCH, "InfoNCE", "centroids")], names=["benchmark", "loss", "centres"]
    )  # fmt: skip
    closer = reading.read_centres(BENCH, pd.DataFrame({"A closer": [0.81, 0.88, 0.91]}, index))
    assert "in 81% of ArcFace's pairs (published, CFP-FP: 90%)" in closer
    assert "ArcFace 88%, InfoNCE 91%" in closer
    nulls = pd.DataFrame({"centre sim": [0.7, 0.66, 0.85], "Gaussian": [0.6, 0.6, 0.8],
                          "excess": [0.1, 0.06, 0.05], "above 95 %": [0.3, 0.25, 0.23]},
                         index)  # fmt: skip
    assert "of ArcFace's 0.66 the Gaussian alone gives 0.60" in reading.read_nulls(nulls)
    pulled = reading.read_pull(unseen((0.01, -0.02)), nulls)
    assert "1 of 2 intervals lie above 0" in pulled and "up to +0.100" in pulled


def test_readings_of_single_tables():
    # Catches: first and last bin swapped, columns of another table.
    change = reading.read_strangers(strangers())
    assert "0.60 → 0.63, change +0.030 [+0.020, +0.040]; the benchmark's people +0.001" in change
    spread = pd.DataFrame({"participation ratio": [18.5], "gap": [0.44], "positives": [0.46],
                           "negatives": [0.02]},
                          pd.MultiIndex.from_tuples([(BENCH, "ArcFace")]))  # fmt: skip
    assert "ArcFace uses 18.5 effective directions of 128" in reading.read_spread(
        BENCH, spread, [make_config()]
    )
    poses = pd.DataFrame(
        {"TAR": [0.8, 0.5, 0.2], "own TAR": [0.7, 0.5, 0.4]},
        pd.MultiIndex.from_product([["ArcFace"], ["0", "1", "2"]], names=["loss", "pose"]),
    )
    assert "ArcFace 80% → 20% at one threshold, 70% → 40% at a threshold a bin" in (
        reading.read_pose(poses)
    )
    shared = pd.DataFrame({"k": [50, 50], "shared": [14, 16], "by chance": [0.7, 0.7],
                           "all": [7, 7]},
                          pd.Index(["genuine", "genuine"], name="pairs"))  # fmt: skip
    assert "of the 50 hardest pairs (genuine) two runs share 14 to 16 (by chance 0.7), all runs 7" \
        in reading.read_hardest(shared)  # fmt: skip
    assert "InfoNCE: excess +0.050, pull +0.003 [+0.002, +0.005], one centre in 10%" in (
        reading.read_every_run(overview(), BENCH)
    )
