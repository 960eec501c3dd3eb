"""Damaged and hostile files, each given to a command that reads it."""

from pathlib import Path

import pytest

from tests.faults import hostile
from tests.faults.hostile import Attack, Outcome, faults

FOUND = [Path("../shared/cases"), Path(__file__).parents[3] / "shared" / "cases"]


@pytest.mark.slow
def test_every_hostile_file_is_one_line_at_once_and_nothing_is_written(tmp_path):
    # Mutation: a reader behind the import of torch, or that runs, writes or takes what a file says.
    rows = list(hostile.campaign(tmp_path))
    assert {attack.name: bad for attack, _, bad in rows if bad} == {}
    assert len(rows) > 90


@pytest.mark.slow
def test_files_that_were_found_once_are_refused_too(tmp_path):
    # Mutation: the same, by the files with which the faults were first found.
    shared = next((path for path in FOUND if path.is_dir()), None)
    if shared is None:
        pytest.skip("no folder ../shared/cases beside the checkout")
    rows = list(hostile.campaign(tmp_path, shared))
    assert {attack.name: bad for attack, _, bad in rows if bad} == {} and rows


def test_each_kind_of_fault_is_seen(tmp_path):
    # Mutation: a campaign that finds nothing as it looks at nothing.
    (tmp_path / "place").mkdir()
    good = Outcome(2, 0.1, 50, "", "error: x.pt: damaged\n")
    assert faults(Attack("a", (), "x.pt"), good, tmp_path) == []
    (tmp_path / "place" / "made").touch()
    bad = Outcome(1, 9.0, 700, "", "Traceback\nOSError")
    assert faults(Attack("a", (), "x.pt"), bad, tmp_path) == [
        "code 1", "2 lines", "does not say 'x.pt'", "traceback", "9.0 s", "700 MB", "wrote made",
    ]  # fmt: skip
