"""Files of a run that no longer belong to it are refused, in one line."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from facelib import doctor
from facelib.cli.main import main
from facelib.config import make_config
from facelib.errors import BadData, UserError
from facelib.evaluate.embed import evaluate_run
from facelib.formats.benchmarks import load_benchmark, save_benchmark
from facelib.paths import REPO
from facelib.runner.pages import runs_page
from facelib.runs import origin
from facelib.runs.folder import create_run, load_run, tabulate, write_json
from facelib.runs.launch import launch, start
from facelib.runs.origin import check_resume, of_other_code
from facelib.studies.results import evaluate
from facelib.training.train import train


@pytest.fixture(scope="module")
def trained(tiny_records, tmp_path_factory):
    """Two runs of six steps in one runs root, evaluated on 40 pairs of training images."""
    from facelib.data.datasets import FaceRecords

    root, records = tmp_path_factory.mktemp("stale"), FaceRecords(tiny_records, 16)
    first, images = np.arange(40), [records.jpeg(i) for i in range(80)]
    second = np.where(first % 2, first + 12, first ^ 4)
    sides = [[images[i] for i in index] for index in (first, second)]
    same = records.labels[first] == records.labels[second]
    save_benchmark(root / "toy.bin", *sides, same, fold=first % 5)
    runs = [
        create_run(
            make_config(
                data=str(tiny_records), benchmarks=str(root / "toy.bin"), seed=seed, width=4,
                image_size=16, dim=8, global_batch=16, images_seen=96, val_fraction=0.25,
            ),
            root / "runs",
        )
        for seed in (0, 1)
    ]  # fmt: skip
    for run in runs:
        train(run)
        evaluate_run(run.path, bootstrap=5)
    return root / "runs"


@pytest.fixture
def two(trained, tmp_path, monkeypatch):
    """A copy of both runs for one test, with its runs root."""
    shutil.copytree(trained, tmp_path / "runs")
    monkeypatch.setenv("FACELIB_RUNS", str(tmp_path / "runs"))
    return [load_run(path) for path in sorted((tmp_path / "runs").iterdir())]


def error_of(capsys, *arguments) -> str:
    capsys.readouterr()
    assert main([str(part) for part in arguments]) == 2
    found = capsys.readouterr().err.strip().splitlines()
    return next(line for line in found if line.startswith("error: "))


def test_figures_of_another_checkpoint_or_altered_by_hand_are_not_shown(two, caplog):
    # Mutations: eval.json believed as it is; its key without the weights or the configuration.
    a, b = two
    own = a.evaluation()
    assert set(tabulate()["toy"]) == {
        round(100 * r.evaluation()["benchmarks"]["toy"]["best"]["accuracy"], 2) for r in two
    }
    shutil.copy(b.path / "eval.json", a.path / "eval.json")
    with pytest.raises(BadData, match="of another checkpoint .*python -m facelib eval"):
        a.evaluation()
    assert tabulate()["toy"].isna().sum() == 1 and a.name not in runs_page()
    assert "figures of another checkpoint" in caplog.text
    own["benchmarks"]["toy"]["best"]["accuracy"] = 0.123
    write_json(a.path / "eval.json", own)
    with pytest.raises(BadData, match="was altered after it was written"):
        a.evaluation()
    assert list(tabulate()["state"]) == ["damaged", "done"]
    (a.path / "eval.json").unlink()
    evaluate_run(a.path, bootstrap=5)
    assert a.evaluation()["benchmarks"]["toy"]["best"]["accuracy"] != 0.123
    shutil.copy(b.checkpoint, a.checkpoint)  # its configuration is another's, too
    with pytest.raises(BadData, match="of another checkpoint"):
        a.evaluation()


def test_figures_of_an_unfinished_run_are_marked(two, capsys):
    # Mutation: step 5 of 50 shown as the run's accuracy.
    run = two[0]
    run.set_status(state="failed", step=5, steps=50)
    with pytest.raises(BadData, match=r"not finished \(failed at step 5 of 50\).*train --run"):
        run.evaluation()
    assert tabulate()["toy"].isna().sum() == 1 and run.name not in runs_page()
    assert main(["eval", run.name, "--json"]) == 0
    assert "step 5 of 50" in json.loads(capsys.readouterr().out)["warnings"][0]


def test_figures_of_before_are_shown(two):
    # Mutation: an eval.json without digests refused.
    run = two[0]
    old = {k: v for k, v in run.evaluation().items() if k not in ("key", "digest")}
    write_json(run.path / "eval.json", old)
    assert run.evaluation() == old


def test_an_edited_configuration_is_one_line(two, capsys):
    # Mutations: eval with other settings than the training's; `train --run` of another run.
    run = two[0]
    settings = run.config.to_dict()
    write_json(run.path / "config.json", settings | {"log_every": 5})  # changes no result
    assert main(["eval", run.name]) == 0
    write_json(run.path / "config.json", settings | {"fill_border": "replicate"})
    for verb in (["eval", run.name], ["eval", run.path], ["train", "--run", run.name]):
        line = error_of(capsys, *verb)
        assert "config.json" in line and "edited" in line
    assert "fill_border='replicate' (trained with 'none')" in error_of(capsys, "eval", run.name)
    assert len(list(run.path.parent.iterdir())) == 2  # and no other run was started


def test_scores_and_embeddings_are_those_of_the_figures(two):
    # Mutations: files of another run, or altered ones, under a table of this run's figures.
    result, other = evaluate(two[0], bootstrap=0), two[1].path
    result.scores("toy"), result.embeddings("toy")
    for folder, read in (
        ("scores", lambda: result.scores("toy")),
        ("embeddings", lambda: result.embeddings("toy")),
    ):
        path = result.folder / folder / "toy.npz"
        kept = path.read_bytes()
        shutil.copy(other / folder / "toy.npz", path)
        with pytest.raises(BadData, match="not the scores|made from something else"):
            read()
        path.write_bytes(kept)
        arrays = dict(np.load(path))
        name = "score" if folder == "scores" else "emb"
        np.savez(path, **arrays | {name: arrays[name] * 0.99})
        with pytest.raises(BadData, match=r"toy\.npz: was altered .*facelib eval"):
            read()
    again = evaluate(two[0], bootstrap=0)  # made anew, with a warning
    assert again.scores("toy").digest == result.report["benchmarks"]["toy"]["scores"]


def test_a_benchmark_that_changed_is_not_shown_beside_old_scores(two):
    # Mutation: pictures of hard pairs from a file with other pairs.
    result = evaluate(two[0], bootstrap=0)
    path = result.report["benchmarks"]["toy"]["file"]
    bench = load_benchmark(path)
    sides = [[bench.images[i] for i in index] for index in (bench.index1, bench.index2)]
    try:
        save_benchmark(path, *sides[::-1], bench.same, fold=bench.fold)
        with pytest.raises(UserError, match="is of other images or pairs now; evaluate it again"):
            result.benchmark("toy")
    finally:
        save_benchmark(path, *sides, bench.same, fold=bench.fold)


def test_a_run_whose_data_changed_is_an_error(two, tiny_records, tmp_path, capsys, caplog):
    # Mutations: data checked at the start only; a run of before, or whose data are gone, refused.
    run = two[0]
    kept = json.loads((run.path / "origin.json").read_text())
    assert set(kept["data"]) == {"train.rec", "train.idx"}
    moved = tmp_path / "data"
    shutil.copytree(tiny_records, moved)
    for name, entry in kept["data"].items():
        entry["path"] = str(moved / name)
    write_json(run.path / "origin.json", kept)
    assert main(["eval", run.name]) == 0 and launch(run.config, root=run.path.parent)
    content = bytearray((moved / "train.rec").read_bytes())
    content[-9] ^= 1
    (moved / "train.rec").write_bytes(content)
    for verb in (["eval", run.name], ["train", "--run", run.name]):
        assert f"the data of this run changed: {moved / 'train.rec'}" in error_of(capsys, *verb)
    run.set_status(state="stopped")
    with pytest.raises(BadData, match="the data of this run changed"):
        start(run)
    shutil.rmtree(moved)  # nothing to compare with: as before
    assert main(["eval", run.name]) == 0
    (run.path / "origin.json").unlink()
    assert main(["eval", run.name]) == 0 and not of_other_code(run)


def test_training_goes_on_with_the_data_that_it_would_read_now(two, tiny_records, tmp_path):
    # Mutation: the paths of the start checked, another folder's files trained on.
    run = two[0]
    files = [tmp_path / name for name in ("train.rec", "train.idx")]
    for file in files:
        shutil.copy(tiny_records / file.name, file)
    check_resume(run, files)
    with pytest.raises(BadData, match=r"changed: .*train\.idx"):
        check_resume(run, files[:1])
    with pytest.raises(BadData, match=r"changed: .*out\.txt"):
        check_resume(run, [*files, tmp_path / "out.txt"])


def test_a_run_of_other_code_is_returned_and_noted(two, monkeypatch, caplog):
    # Mutations: a comment in the code that invalidates a study; a silent resume.
    assert doctor.check()["runs"][0]["other_code"] is False
    monkeypatch.setattr(origin, "code_digest", lambda: "another")
    assert launch(two[0].config, root=two[0].path.parent).state == "done"
    report = doctor.check()
    assert report["runs"][0]["other_code"] is True and report["problems"] == []
    assert "2 were trained by other code than this" in doctor.render(report)
    assert not caplog.records
    check_resume(two[0])
    assert [r.message for r in caplog.records] == [
        f"{two[0].name}: goes on with other code than it began with"
    ]


def test_large_records_are_sampled_from_the_first_byte_to_the_last(tmp_path, monkeypatch):
    # Mutations: record 0, the end or the size left out; an index that is only sampled.
    monkeypatch.setattr(origin, "WHOLE", 0)
    monkeypatch.setattr(origin, "BLOCK", 16)
    monkeypatch.setattr(origin, "BLOCKS", 4)
    content = bytes(range(256)) * 4
    for suffix, places, seen in ((".rec", (0, 1023), True), (".rec", (100,), False),
                                 (".idx", (0, 100, 1023), True)):  # fmt: skip
        path = tmp_path / f"train{suffix}"
        path.write_bytes(content)
        whole = origin.file_digest(path)
        for place in places:
            changed = bytearray(content)
            changed[place] ^= 1
            path.write_bytes(changed)
            assert (origin.file_digest(path) != whole) == seen
        path.write_bytes(content + b"\0")
        assert origin.file_digest(path) != whole


def test_the_code_that_trains_is_all_in_the_digest():
    # Mutation: a room that joins the training and changes weights without a word.
    own = "import sys, facelib.training.train; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", own], cwd=REPO, capture_output=True, text=True)
    parts = {name.split(".")[1] for name in loaded.stdout.split() if name.startswith("facelib.")}
    # Bookkeeping; `rendered` makes data, which have a digest of their own.
    others = {"digests", "errors", "locks", "paths", "presets", "rendered", "runs", "safety"}
    assert parts - others == {name.removesuffix(".py") for name in origin.CODE}
