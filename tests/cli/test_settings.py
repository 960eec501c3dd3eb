"""The verb `settings` and the table at the end of `train --help`."""

import pytest

from facelib.__main__ import main
from facelib.cli.settings import settings_table
from facelib.config import FIELDS
from facelib.rows import LOSS_ROWS


def test_every_setting_has_one_entry_with_help(capsys):
    # Catches: a setting without help, one left out of the table, a command line that is not there.
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    shown = capsys.readouterr().out
    assert settings_table() in shown
    for name, field in FIELDS.items():
        assert field.metadata["help"]
        assert f"\n  {name} " in shown
    assert main(["settings"]) == 0
    assert settings_table() in capsys.readouterr().out


def test_a_setting_says_limits_owners_and_published_values(capsys):
    # Catches: help that does not follow from the rows.
    assert main(["settings", "m", "bank_slots", "log_every"]) == 0
    shown = capsys.readouterr().out
    takes = [name for name, row in LOSS_ROWS.items() if "m" in row.taken]
    assert all(name in shown for name in takes)
    assert f"center: {LOSS_ROWS['center'].published['m']}" in shown
    assert "bank=queue, cross_batch" in shown
    assert "no: it changes no result" in shown


def test_a_misspelt_setting_names_the_nearest(capsys):
    # Catches: a traceback, or a list of a hundred names.
    assert main(["settings", "tua"]) == 2
    assert "did you mean 'tau'?" in capsys.readouterr().err
