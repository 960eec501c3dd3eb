"""Cited figures: source B's comparison, row by row."""

from facelib.rows import LOSS_ROWS
from facelib.studies.source_a import source_b_table


def test_source_b_s_table_holds_published_figures_losses_and_systems_apart():
    # Catches: a system shown as run, a loss that does not exist, a figure nobody published.
    table = source_b_table()
    own = table.loc["cluster-guided, R100"]
    assert own.iloc[:7].to_list() == [
        "99.85", "99.12", "98.58", "96.16", "93.51", "95.62", "96.80"
    ]  # fmt: skip
    losses = table["here"][table["here"].str.startswith("a loss: ")]
    assert set(losses.str.removeprefix("a loss: loss=")) <= set(LOSS_ROWS)
    systems = table[table["here"] == "cited by source B, not a loss: not run"]
    assert len(losses) == 13
    assert len(systems) == 8
    assert (table.loc[[*losses.index, *systems.index]].iloc[:, :7] == "").all(axis=None)
    assert table.index.is_unique
