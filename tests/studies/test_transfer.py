"""Rendered and real accuracy: which benchmarks are compared, what a rank correlation may claim."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from facelib.errors import UserError
from facelib.studies import transfer


def made(order, noise=0.0, seed=0):
    """Runs of two losses and two floors: accuracy on cfp_ff, and on two real sets by `order`."""
    rng, rows = np.random.default_rng(seed), []
    for i in range(20):
        loss, rendered = ("arcface", "infonce")[i % 2], 0.7 + i / 100
        real = 0.6 + order * i / 100 + noise * rng.normal()
        rows += [(f"run-{i}", loss, "cfp_ff", True, rendered)]
        rows += [(f"run-{i}", loss, name, False, real) for name in ("real_ff", "real_ff_filled")]
    for floor in transfer.FLOORS:  # far from the line of the others
        rows += [(floor, floor, "cfp_ff", True, 0.99), (floor, floor, "real_ff", False, 0.5)]
        rows += [(floor, floor, "real_ff_filled", False, 0.5)]
    frame = pd.DataFrame(rows, columns=["run", "loss", "benchmark", "rendered", "best.accuracy"])
    return frame.assign(**{"strict.accuracy": frame["best.accuracy"], "auc": 0.9})


@pytest.fixture
def over_runs(monkeypatch):
    """Correlations over runs alone: two losses are too few for one over losses."""
    monkeypatch.setattr(transfer, "UNITS", {"run": "runs"})


@pytest.mark.parametrize("order", [1, -1])
def test_the_sign_of_an_order_is_kept_and_floors_do_not_count(over_runs, order):
    # Catches: accuracies in place of ranks, floors among the trained, a family of one protocol.
    found = transfer.correlations(made(order))
    assert len(found) == 4 and found["significant"].all()
    assert found["rank correlation"].to_numpy() == pytest.approx(order)
    assert (np.sign(found["lo"]) == order).all() and (np.sign(found["hi"]) == order).all()


def test_an_order_by_chance_is_no_finding_and_its_interval_is_that_of_a_family_of_four(over_runs):
    # Catches: an interval that is not corrected, or one on the wrong scale.
    frame = made(0, noise=0.05)
    found = transfer.correlations(frame)
    assert not found["significant"].any() and set(found["family"]) == {4}
    half = stats.t.ppf(1 - 0.05 / 4 / 2, 19) * np.sqrt(1.06 / 17)
    wanted = np.tanh(np.arctanh(found["rank correlation"]) - half)
    assert found["lo"].to_numpy() == pytest.approx(wanted.to_numpy())
    assert "(n.s., ≥0." in transfer.sentences(frame)[1]


def test_one_correlation_is_scipy_s(over_runs):
    # Catches: pairs of runs that do not belong together.
    frame = made(1, noise=0.05)
    wide = frame[~frame["loss"].isin(transfer.FLOORS)].pivot(
        index="run", columns="benchmark", values="best.accuracy"
    )
    wanted = stats.spearmanr(wide["cfp_ff"], wide["real_ff"]).statistic
    row = transfer.correlations(frame).query("real == 'real_ff'").iloc[0]
    assert row["rank correlation"] == pytest.approx(wanted)
    assert row["lo"] < wanted < row["hi"] and (row["repeats"], row["over"]) == (20, "runs")


def test_a_name_that_fits_no_rendered_benchmark_is_an_error(over_runs):
    frame = made(1).replace({"benchmark": {"real_ff": "mine", "real_ff_filled": "other"}})
    with pytest.raises(UserError, match="none of mine, other has the name of a rendered one"):
        transfer.correlations(frame)


def test_too_few_losses_for_a_rank_correlation_are_an_error():
    with pytest.raises(UserError, match="2 losses: a rank correlation wants 5 or more"):
        transfer.correlations(made(1))


def test_floors_stand_last_in_the_table_of_accuracies():
    table = transfer.accuracy_table(made(1))
    assert set(table.index[-2:]) == set(transfer.FLOORS)
    assert table["networks"].to_list() == [10, 10, 1, 1]


def test_the_sentences_count_what_was_shown(over_runs):
    first, *rest = transfer.sentences(made(1))
    assert first.startswith("4 of 4 rank correlations are shown to be above 0")
    assert len(rest) == 4 and "over 20 runs: +1.00" in rest[0]
