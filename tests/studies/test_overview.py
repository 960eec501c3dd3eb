"""Any finished run joins the table; an unfinished one does not."""

import pytest

from facelib.config import make_config
from facelib.errors import UserError
from facelib.runs.folder import create_run
from facelib.runs.launch import launch
from facelib.studies import centres as ce
from facelib.studies import overview
from facelib.studies.results import evaluate
from tests.studies.test_results import toy_benchmark

SIZES = {"width": 4, "image_size": 16, "dim": 8, "global_batch": 16, "images_seen": 320}


@pytest.fixture(scope="module")
def configs(tiny_records, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACELIB_RUNS", str(tmp_path_factory.mktemp("runs")))
        bench = tmp_path_factory.mktemp("bench") / "toy.bin"
        toy_benchmark(bench)
        common = {"data": str(tiny_records), "benchmarks": str(bench), "threads": 1, **SIZES}
        core = make_config(loss="coreface", dropout=0.4, **common)
        other = make_config(loss="infonce", **(common | {"dim": 12, "tau": 0.1}))
        yield [make_config(loss="infonce", **common), core, other]


@pytest.fixture(scope="module")
def runs(configs):
    return [ce.Geometry(evaluate(launch(cfg), bootstrap=0)) for cfg in configs[::2]]


def test_finished_configs_join_and_missing_ones_are_left_out(configs, runs):
    # Catches: an untrained run in the table, or one that is trained for it; configs ignored.
    found = overview.add_finished(runs[:1], configs[1:])
    assert [run.result.folder for run in found] == [run.result.folder for run in runs]
    assert overview.add_finished(runs[:1], configs[1:2]) == runs[:1]
    assert not create_run(configs[1]).status["step"]


def test_a_run_is_added_by_name_once_and_told_from_its_namesake(configs, runs):
    # Catches: two rows of one label in the table, a run that is listed twice.
    name = configs[2].run_name
    found = overview.add_finished(runs[:1], configs[:1], f"{name}, {name}")
    assert [r.result.label for r in found] == ["InfoNCE", f"InfoNCE ({configs[2].digest()})"]
    with pytest.raises(UserError, match="is new: only finished runs"):
        overview.add_finished(runs, names=create_run(configs[1]).name)


def test_the_table_holds_what_the_single_tables_say_for_any_dimension(configs, runs):
    # Catches: another kind of centre, impostors for positives, one run's row for all.
    every = overview.add_finished(runs)
    table = overview.overview_table(every, "toy", "toy")
    assert table["d"].tolist() == [8, 12]
    for run, (_, row) in zip(every, table.iterrows()):
        alone = ce.snapping_table([run]).iloc[0]
        assert row[["pair sim", "A closer"]].tolist() == pytest.approx(
            alone[["pair sim", "A closer"]].tolist()
        )
        agreed = ce.agreement_table([run], "toy").xs("positive", level="pairs").iloc[0]
        assert row["odds ratio"] == pytest.approx(agreed["odds ratio"])
        assert row["pull lo"] <= row["pull"] <= row["pull hi"]
