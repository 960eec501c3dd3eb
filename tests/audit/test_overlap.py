"""The audit as a command and as frames, on a tiny planted set and a tiny trained run."""

import json
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from facelib.__main__ import main
from facelib.audit import overlap
from facelib.audit.checks import score_signals
from facelib.audit.overlap import TrainingSet, audit, summary
from facelib.config import make_config
from facelib.data.datasets import FaceRecords
from facelib.data.locate import train_folder
from facelib.runs.folder import load_run
from facelib.runs.launch import launch
from facelib.studies import overlap_tables as tables
from facelib.studies import records as publish
from facelib.studies.results import evaluate

TINY = {"data_planted": 12, "data_identities": 50, "data_images": 2, "test_identities": 20}
TINY |= {"data_size": 32, "data_seed": 5}
SETTINGS = [f"{key}={value}" for key, value in TINY.items()]
NETWORK = {"width": 4, "image_size": 16, "dim": 8, "global_batch": 16, "images_seen": 160}


@pytest.fixture(scope="module")
def tiny(planted_root, tmp_path_factory):
    """(training folder, a run trained on it), both roots set."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACELIB_DATA", str(planted_root))
        patch.setenv("FACELIB_RUNS", str(tmp_path_factory.mktemp("runs")))
        cfg = make_config(**TINY, **NETWORK, threads=1)
        yield train_folder(cfg), launch(cfg).path


@pytest.mark.slow
def test_each_signal_finds_what_only_it_can_find(tiny):
    # Catches: a signal that is not joined, ids and labels exchanged, names of other people.
    folder, run = tiny
    truth = pd.read_csv(folder / "planted.csv")
    found = audit(TrainingSet(folder), folder / "lfw.bin", run=run)
    scored = score_signals(found.candidates, list(zip(truth["id"], truth["label"])))
    assert scored.loc["names", "right"] == (truth["name"] == "match").sum() == 6
    copies = pd.read_csv(folder / "copies.csv")
    exact = copies.loc[copies["kind"] == "exact", "record"]
    used = exact.isin(found.images.loc[found.images["bits"] == 0, "row"] + 1)
    assert len(exact) == 4 and used.sum() == 0  # they are copies of cfp_ff's pictures
    again = copies.loc[copies["kind"] == "brighter", "record"]
    assert again.isin(found.images["row"] + 1).sum() >= 3
    row = found.people.loc[truth.loc[0, "id"]]
    assert row["by_name"] and row["label"] == 50
    assert row["train_name"].replace("_", " ") == row["bench_name"]
    assert found.people["similarity"].notna().all() and len(found.people) == 20
    assert summary([found]).loc["lfw", "names"] == 7  # six, and one stranger's namesake


@pytest.mark.slow
def test_the_sums_of_a_run_are_kept_and_cover_every_image(tiny, monkeypatch):
    # Catches: validation people left out, halves that overlap, embedded again each time.
    folder, run = tiny
    train = TrainingSet(folder)
    halves = train.halves(run)
    assert halves.shape == (2, 62, 8)
    assert (np.linalg.norm(halves, axis=2) > 0).all()
    monkeypatch.setattr(TrainingSet, "_sums", lambda *_: 1 / 0)
    np.testing.assert_array_equal(train.halves(run), halves)


@pytest.mark.parametrize("chunk", [1, 7, 40, 1000])
def test_sums_do_not_depend_on_where_a_chunk_ends(monkeypatch, chunk):
    # Catches: even and odd counted anew in each chunk, the last chunk lost, rows of the chunk.
    monkeypatch.setattr(overlap, "CHUNK", chunk)
    rng = np.random.default_rng(0)
    labels, emb = rng.integers(0, 5, 40), rng.normal(size=(40, 3))
    wanted, seen = np.zeros((2, 5, 3)), [0] * 5
    for label, row in zip(labels, emb):
        wanted[seen[label] % 2, label] += row
        seen[label] += 1
    train = SimpleNamespace(
        records=SimpleNamespace(labels=labels, classes=5), _embed=lambda _, __, rows: emb[rows]
    )
    np.testing.assert_allclose(TrainingSet._sums(train, None, None), wanted, atol=1e-5)


@pytest.mark.slow
def test_the_command_prints_a_table_and_writes_a_list_that_training_takes(tiny, tmp_path, capsys):
    # Catches: labels of the benchmark in the list, a list that leaves nobody out.
    folder, _ = tiny
    out = tmp_path / "exclude.txt"
    line = ["overlap", "--train", "rendered", "--set", *SETTINGS, "--benchmark", "lfw", "cfp_ff"]
    assert main([*line, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "not searched" in printed and f"exclude={out}" in printed
    assert main([*line, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    labels = set(FaceRecords(folder, 32, exclude=report["labels"]).names)
    kept = FaceRecords(folder, 32, exclude=out)
    assert set(kept.names) == labels and kept.classes == 62 - len(report["labels"]) < 62
    assert report["benchmarks"]["lfw"]["people_by_embeddings"] is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--benchmark", "lfw"], "give --train FOLDER"),
        (["--train", "/nowhere", "--benchmark", "lfw"], "no train.rec in /nowhere"),
        (["--train", "rendered", "--benchmark", "nothing"], "benchmark 'nothing': not at "),
        (["--train", "rendered", "--benchmark", "lfw", "--names", "/no.txt"], "/no.txt: no such"),
        (["--train", "rendered", "--benchmark", "lfw", "--run", "no"], "run 'no': matching"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(tiny, tmp_path, capsys, arguments, message):
    # Catches: a traceback, or a list written before the check.
    out = tmp_path / "exclude.txt"
    assert main(["overlap", *arguments, "--set", *SETTINGS, "--out", str(out)]) == 2
    assert message in capsys.readouterr().err and not out.exists()


@pytest.mark.slow
def test_copies_are_counted_by_kind_where_their_original_is_in_a_benchmark(tiny):
    # Catches: a hit on another picture of the person counted, copies of absent originals counted.
    folder, _ = tiny
    train, copies = TrainingSet(folder), pd.read_csv(folder / "copies.csv")
    found = [audit(train, folder / f"{name}.bin") for name in ("lfw", "cfp_ff")]
    table = tables.copies_found(found, copies)
    assert table["copies"].tolist() == [4] * 4 and table.loc["exact", "recall"] == 1
    alone = tables.copies_found(found[:1], copies)
    assert set(alone.index) == {"cropped", "brighter"}  # copies of lfw's pictures
    found[0].images.drop(found[0].images.index, inplace=True)
    assert tables.copies_found(found[:1], copies)["found"].sum() == 0


@pytest.mark.slow
def test_a_gallery_shows_each_candidate_with_its_similarity_and_truth(tiny):
    # Catches: faces of another row, captions of the answer exchanged.
    folder, run = tiny
    train = TrainingSet(folder)
    found = audit(train, folder / "lfw.bin", run=run)
    rows = found.candidates[found.candidates["by_name"]].head(3)
    truth = [(rows["id"].iloc[0], rows["label"].iloc[0])]
    figure = tables.gallery(train, found, rows, run, truth)
    captions = [ax.get_title() for ax in figure.axes]
    assert [caption.split()[1] for caption in captions] == ["same", "different", "different"]
    assert captions[0].startswith(f"{rows['similarity'].iloc[0]:.2f}")
    assert figure.axes[0].images[0].get_array().shape == (tables.FACE, 2 * tables.FACE, 3)
    plt.close(figure)


def test_a_gain_compares_a_run_with_its_own_clean_twin_in_percentage_points(monkeypatch):
    # Catches: fractions for points (also of the interval), the clean run of another pair or other
    # scores, sides swapped, the clean run's name.
    def made(kind, loss):
        return SimpleNamespace(
            folder=Path("runs") / f"{kind}-{loss}", config=SimpleNamespace(loss=loss),
            benchmarks=["lfw", "cfp_fp"], scores=lambda name: (kind, loss, name),
        )  # fmt: skip

    compared = []

    def known(one, clean, in_training):
        compared.append((one, clean, in_training))
        gain = len(compared) / 100
        return pd.DataFrame({"pairs": [9], "value": gain, "lo": gain - 0.02, "hi": gain + 0.03})

    monkeypatch.setattr(tables, "inflation", known)
    losses = ("arcface", "infonce")
    gains = tables.gain_frame([(made("all", loss), made("clean", loss)) for loss in losses], [4])
    keys = [(loss, name) for loss in losses for name in ("lfw", "cfp_fp")]
    assert compared == [(("all", *key), ("clean", *key), [4]) for key in keys]
    assert list(zip(gains["loss"], gains["benchmark"])) == keys
    assert gains["run"].tolist() == [f"all-{loss}" for loss, _ in keys]
    np.testing.assert_allclose(gains["gain"], [1, 2, 3, 4])
    np.testing.assert_allclose(gains[["lo", "hi"]], [[g - 2, g + 3] for g in (1, 2, 3, 4)])
    assert gains["pairs"].tolist() == [9] * 4


@pytest.mark.slow
def test_gains_of_a_run_against_itself_are_zero_in_a_form_that_can_be_published(tiny):
    # Catches: fractions for points, a loss that is not the run's, rows that the record loses.
    result = evaluate(load_run(tiny[1]), bootstrap=0)
    gains = tables.gain_frame([(result, result)], in_training=[50, 51, 53])
    assert (gains[["gain", "lo", "hi"]].fillna(0) == 0).all(axis=None)
    assert set(gains["benchmark"]) == {"lfw", "cfp_ff", "cfp_fp"} and set(gains["loss"]) == {
        "arcface"
    }
    row = {
        "run": "r",
        **result.config.to_dict(),
        "loss": "infonce",
        "lines": gains.to_dict("records"),
    }
    lines = publish._lines(row, [])
    assert len(lines) == len(gains) and {line["loss"] for line in lines} == {"arcface"}
    assert lines[0]["data_seed"] == 5
    accuracy = tables.accuracy_frame([result, result], [50, 51], labels=["one", "two"])
    assert accuracy.groupby("run").size().tolist() == [len(accuracy) // 2] * 2
