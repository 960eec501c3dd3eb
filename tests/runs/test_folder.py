"""Run folders: found again, never overwritten, readable after a crash."""

import json
import shutil
from os import mkfifo

import pytest

from facelib.config import make_config
from facelib.errors import BadData, UserError
from facelib.runs.folder import (
    AlreadyTraining,
    compare_configs,
    create_run,
    hold,
    list_runs,
    load_run,
    read_lines,
    record_row,
    tabulate,
    write_json,
)


def test_the_same_config_finds_the_same_folder(runs_folder):
    # Catches: a new folder at each start: "run again" would not resume.
    first = create_run(make_config())
    first.set_status(state="done", step=7)
    again = create_run(make_config())
    assert again.path == first.path
    assert again.status["step"] == 7
    assert create_run(make_config(seed=1)).path != first.path


def test_a_folder_with_another_config_is_left_alone(runs_folder):
    # Catches: results of two settings mixed in one folder.
    run = create_run(make_config())
    settings = json.loads((run.path / "config.json").read_text())
    write_json(run.path / "config.json", {**settings, "lr": 0.5})
    with pytest.raises(UserError, match=r"holds another configuration \(differs in lr\)"):
        create_run(make_config())
    assert load_run(run.path).config.lr == 0.5


def test_a_run_is_found_by_a_unique_beginning_of_its_name(runs_folder):
    # Catches: a wrong run picked where two match.
    create_run(make_config(loss="infonce"))
    create_run(make_config(loss="arcface"))
    assert load_run("smoke-inf").config.loss == "infonce"
    with pytest.raises(UserError, match=r"runs: smoke-arcface-.*, smoke-infonce-"):
        load_run("smoke")


def test_an_unreadable_config_names_its_file(runs_folder):
    # Catches: a bare JSON or TypeError trace.
    run = create_run(make_config())
    (run.path / "config.json").write_text("{")
    with pytest.raises(BadData, match=r"config\.json: not JSON"):
        load_run(run.path)
    (run.path / "config.json").write_text('{"unknown": 1}')
    with pytest.raises(BadData, match="not a configuration of this version"):
        load_run(run.path)
    assert list_runs() == []


def test_a_damaged_status_hides_no_other_run(runs_folder, capsys):
    # Catches: the doctor, or a list of runs, that ends at the first bad file.
    good, bad = create_run(make_config()), create_run(make_config(seed=1))
    for content in ("{}", '{"state": "running", "pid": "x"}', "[" * 9999, "5"):
        (bad.path / "status.json").write_text(content)
        assert [run.name for run in list_runs()] == [good.name]
        assert sorted(tabulate()["state"]) == ["damaged", "new"]


@pytest.mark.parametrize("file", ["config.json", "status.json", "metrics.jsonl", "eval.json"])
@pytest.mark.parametrize("kind", ["folder", "loop", "pipe"])
def test_a_file_of_a_run_that_is_no_file_hides_no_other_run(runs_folder, file, kind):
    # Mutation: is_file() where the run's file is wanted; a pipe that is read for ever.
    good, odd = create_run(make_config(name="good")), create_run(make_config(name="odd"))
    path = odd.path / file
    path.unlink(missing_ok=True)
    if kind == "loop":  # as if it were not there
        path.symlink_to(path)
    else:
        path.mkdir() if kind == "folder" else mkfifo(path)
    states = tabulate().set_index("run")["state"]
    assert states[good.name] == "new" and (kind == "loop" or states[odd.name] == "damaged")


def test_an_unfinished_last_line_is_left_out(tmp_path):
    # Catches: a killed writer making the metrics unreadable.
    (tmp_path / "m.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert [row["step"] for row in read_lines(tmp_path / "m.jsonl")] == [1, 2]


def test_a_run_whose_process_is_gone_reads_died(runs_folder):
    # Catches: "running" believed for ever after kill -9.
    run = create_run(make_config())
    assert run.state == "new"
    run.set_status(state="running", pid=2**22 + 1, pid_started=0)
    assert run.state == "died"


def test_tables_hold_one_row_a_run_and_what_differs(runs_folder):
    # Catches: settings that are equal listed as differences.
    runs = [create_run(make_config(loss=loss)) for loss in ("arcface", "infonce")]
    assert list(tabulate(runs)["state"]) == ["new", "new"]
    assert list(compare_configs(runs).columns) == ["name", "loss"]


def test_a_row_is_recorded_only_for_a_sweep(tmp_path, monkeypatch):
    # Catches: files written by a notebook that no sweep runs.
    monkeypatch.delenv("FACELIB_ROW", raising=False)
    record_row({"a": 1})
    monkeypatch.setenv("FACELIB_ROW", str(tmp_path / "row.json"))
    record_row({"a": 2})
    assert json.loads((tmp_path / "row.json").read_text()) == {"a": 2}


def test_a_full_disk_is_one_clear_error(runs_folder, monkeypatch):
    # Catches: a traceback, or half a config under its final name.
    import facelib.runs.folder as runs

    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs, "write_json", full)
    with pytest.raises(UserError, match="No space left on device"):
        create_run(make_config())
    assert not list(runs_folder.glob("*/config.json"))


def test_the_plain_run_counts_among_several_of_a_name(runs_folder):
    # Catches: README's `smoke-arcface` refused since another chapter trained one with other
    # settings, or since a preset's name begins another's.
    plain = create_run(make_config(loss="arcface"))
    create_run(make_config(loss="arcface", seed=7))
    assert load_run("smoke-arcface").name == plain.name
    shutil.copytree(plain.path, runs_folder / f"{plain.name}.old")  # a copy hides nothing
    assert load_run(plain.name).path == plain.path
    shutil.rmtree(runs_folder / f"{plain.name}.old")
    standard = create_run(make_config("ms1m-arcface-standard"))
    create_run(make_config("ms1m-arcface", seed=3))
    assert load_run("ms1m-arcface").name.startswith("ms1m-arcface-")
    assert load_run("ms1m-arcface").name != standard.name
    create_run(make_config("ms1m-arcface", seed=4))
    with pytest.raises(UserError, match="matching runs: ms1m-arcface"):
        load_run("ms1m-arcface")  # three with other settings: none is plain


def test_a_checkpoint_that_a_killed_writer_left_half_done_is_removed(runs_folder):
    # Catches: hundreds of megabytes for each kill during a save, for ever.
    run = create_run(make_config())
    folder = run.path / "checkpoints"
    for name in ("last.pt", ".last.pt.abc.tmp"):
        (folder / name).write_bytes(b"x")
    with hold(run.path), pytest.raises(AlreadyTraining), hold(run.path):
        pass
    assert [path.name for path in folder.iterdir()] == ["last.pt"]
