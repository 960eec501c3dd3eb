"""Claims: Holm's correction, intervals that agree with it, power, sentences that follow records."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from facelib.studies import readme
from facelib.studies.claims import correct, family_note, gap_lines, points


def made(effects, repeats=6, seed=0):
    """Uncorrected differences of some repeats around true effects, and their raw p-values."""
    rng = np.random.default_rng(seed)
    rows, p = [], []
    for number, effect in enumerate(effects):
        values = effect + rng.normal(size=repeats)
        mean, error = values.mean(), values.std(ddof=1) / np.sqrt(repeats)
        half = stats.t.ppf(0.975, repeats - 1) * error
        rows.append({"name": f"c{number}", "difference": mean, "lo": mean - half,
                     "hi": mean + half, "repeats": repeats})  # fmt: skip
        p.append(stats.ttest_1samp(values, 0).pvalue)
    return pd.DataFrame(rows), np.array(p)


def naive_holm(p):
    """Holm 1979, step by step."""
    found, highest = np.empty(len(p)), 0.0
    for step, i in enumerate(np.argsort(p)):
        highest = max(highest, p[i] * (len(p) - step))
        found[i] = min(highest, 1)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_p_values_are_holm_s_and_intervals_agree_with_the_verdicts(seed):
    # Catches: Bonferroni or no correction, p-values in the order of the steps, an interval that
    # leaves out 0 beside a difference that is not significant.
    gaps, p = made([0, 0, 0.5, 1, 2, 4, 8], seed=seed)
    found = correct(gaps)
    assert np.allclose(found["p"], naive_holm(p))
    assert (found["significant"] == (naive_holm(p) < 0.05)).all()
    assert (((found["lo"] > 0) | (found["hi"] < 0)) == found["significant"]).all()
    assert (found["hi"] - found["lo"] >= gaps["hi"] - gaps["lo"] - 1e-12).all()
    assert (found["family"] == 7).all()


def test_without_any_effect_a_family_finds_something_in_one_of_twenty_cases_at_most():
    # Catches: 13 of 78 differences listed where none is there.
    trials = [correct(made([0] * 10, seed=seed)[0])["significant"].any() for seed in range(400)]
    assert np.mean(trials) < 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / 400)


def test_a_difference_of_the_smallest_size_is_found_in_four_of_five_cases():
    # Catches: a power of another level or of one comparison alone.
    smallest = np.mean([correct(made([0] * 3, seed=s)[0])["smallest"].mean() for s in range(50)])
    found = [correct(made([smallest, 0, 0], seed=s)[0])["significant"][0] for s in range(400)]
    assert 0.7 < np.mean(found) < 0.92


def test_one_repeat_has_no_interval_and_counts_in_no_family():
    # Catches: an order claimed from a single run.
    gaps, _ = made([3, 4])
    one = pd.DataFrame([{"name": "one", "difference": 9.0, "lo": np.nan, "hi": np.nan,
                         "repeats": 1}])  # fmt: skip
    found = correct(pd.concat([gaps, one]))
    assert found["significant"].tolist() == [True, True, False]
    assert found["family"].tolist() == [2, 2, 2]
    lines = gap_lines(found, "name")
    assert lines[2] == "- one: +9.0 (one repeat: no interval)"


def test_sentences_say_interval_verdict_and_what_could_have_been_found():
    # Catches: an interval without its verdict, a verdict without the power.
    gap = {"difference": 0.54, "lo": -0.12, "hi": 1.21, "significant": False, "smallest": 0.91}
    assert points(gap) == "+0.5 [-0.1, +1.2] (n.s., ≥0.9)"
    assert points(gap | {"lo": 0.1, "significant": True}) == "+0.5 [+0.1, +1.2]"
    assert "corrected by Holm for 7 comparisons" in family_note(correct(made([0] * 7)[0]))


def test_the_pose_question_follows_the_record():
    # Catches: a sentence that does not move with the numbers, or has its sign turned.
    rng = np.random.default_rng(0)
    rows = [
        {"loss": loss, "benchmark": bench, "seed": seed, "data_seed": seed,
         **{f: 0.9 - (loss == "infonce") * (0.08 if bench == "cfp_fp" else 0) + rng.normal(0, 1e-3)
            for f in ("best.accuracy", "strict.accuracy", "auc")}}
        for loss in ("arcface", "infonce", "hybrid")
        for bench in ("lfw", "cfp_ff", "cfp_fp")
        for seed in range(6)
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    line = readme.loss_sentences(frame)[0]
    assert "it is reproduced here" in line and "+8.0" in line
    swapped = frame.replace({"loss": {"arcface": "infonce", "infonce": "arcface"}})
    line = readme.loss_sentences(swapped)[0]
    assert "it is not reproduced here" in line and "-8.0" in line
