"""Coverage: what is counted, the designs, and what the record says."""

import numpy as np

from facelib.paths import published_root
from tests.metrics import coverage


def test_an_interval_holds_the_mean_of_the_estimates_or_misses_on_one_side():
    # catches: sides swapped, the estimate taken for the truth, a missing interval counted as held
    found = [(1.0, [0.5, 2.5]), (3.0, [2.5, 3.5]), (2.0, [0.0, 1.5]), (2.0, [1.9, 2.1])]
    row = coverage.held(found)
    assert (row["truth"], row["coverage"]) == (2.0, 0.5)
    assert (row["above"], row["below"]) == (0.25, 0.25)
    assert np.isnan(coverage.held([(1.0, None), (2.0, [1, 3])])["coverage"])


def test_designs_are_as_they_are_called():
    # catches: people in two folds where none should be, and the reverse; genuine pairs of two
    for design in coverage.designs():
        scores, other = design.draw(np.random.default_rng(0))
        assert len(scores.score) == design.pairs
        assert ((scores.id1 == scores.id2) == scores.same).all()
        assert np.corrcoef(scores.score[scores.same], other.score[scores.same])[0, 1] > 0.5
        folds = [set(scores.id1[scores.fold == f]) for f in range(coverage.FOLDS)]
        assert bool(folds[0] & folds[1]) != design.disjoint


def test_a_stopped_study_goes_on_with_the_parts_that_are_there(tmp_path):
    # catches: parts that are drawn again, one seed for all parts, figures that JSON changes
    drawn = []

    def one(rng):
        drawn.append(rng.normal())
        return {"figure": (drawn[-1], np.array([0.0, 1.0])), "none": (1.0, None)}

    half = coverage.draw_sets(one, "design", coverage.PART, tmp_path)
    whole = coverage.draw_sets(one, "design", 2 * coverage.PART, tmp_path)
    assert len(drawn) == len(set(drawn)) == len(whole) == 2 * coverage.PART
    assert whole[: len(half)] == half
    assert [row["figure"][0] for row in whole] == drawn
    again = coverage.draw_sets(one, "design", 2 * coverage.PART)
    assert again == whole


def test_the_record_names_every_design_outside_93_to_97_percent_beyond_chance():
    # catches: a table that was made again beside an old summary
    text = (published_root() / "coverage" / "README.md").read_text()
    assert coverage.outside() in text
