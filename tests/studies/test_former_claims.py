"""What was once reported as a difference, and what stands after the correction."""

import pytest

from facelib.studies import former_claims


@pytest.fixture(scope="module")
def found():
    return former_claims.former_claims().reset_index()


def test_each_chapter_with_repeats_lists_what_it_reported_alone(found):
    # Catches: a family left out, claims of the corrected intervals only, others' verdicts.
    counts = former_claims.summary()
    assert counts["comparisons"].to_dict()["09: cluster-guided"] == 78
    assert counts.loc["09: cluster-guided", ["once reported", "stand"]].tolist() == [13, 0]
    assert counts.loc["05: CoReFace", "once reported"] == 5
    assert (counts["stand"] <= counts["once reported"]).all()
    assert len(found) == counts["once reported"].sum()
    assert found["stands"].value_counts()["yes"] == counts["stand"].sum()


def test_a_verdict_agrees_with_its_interval(found):
    # Catches: verdicts and intervals of different corrections.
    for row in found.to_dict("records"):
        assert ("n.s." in row["points"]) == (row["stands"] == "no")
