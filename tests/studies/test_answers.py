"""The page of answers: five questions, each with an estimate, its interval and the power."""

import re

from facelib.presets import PRESETS
from facelib.studies import answers, former_claims


def test_each_question_has_an_interval_the_power_and_what_would_change_our_mind():
    # Catches: an answer without its interval or power; a preset that is gone.
    found = answers.answers()
    assert len(found) == 5
    for one in found:
        text = " ".join(line for _, line in one["lines"])
        assert one["question"].endswith("?") and one["change"]
        assert re.search(r"\[[+-]\d+\.\d, [+-]\d+\.\d\]", text)
        assert "≥" in text or "would have been found from" in text
        named = re.findall(r"\b(ms1m-[a-z0-9-]+)", one["change"])
        assert all(any(p.startswith(name) for p in PRESETS) for name in named)


def test_counts_of_shown_differences_are_those_of_the_family():
    # Catches: a count by uncorrected intervals.
    gaps = former_claims.families()["05: CoReFace"]
    [line] = [x for _, x in answers.answers()[3]["lines"] if x.startswith("CoReFace")]
    assert f"{gaps['significant'].sum()} of {len(gaps)} differences are significant" in line
    assert gaps["alone"].sum() > gaps["significant"].sum()


def test_a_notebook_gets_all_questions_as_markdown():
    lines = answers.answer_lines().split("\n\n")
    assert sum(line.startswith("**") for line in lines) == 5
    assert answers.answer_lines().count(answers.CHANGE) == 5
