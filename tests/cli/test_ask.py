"""Questions to a trained run about people's own pictures, as they are typed."""

import json
import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from facelib.__main__ import main
from facelib.config import make_config
from facelib.data.datasets import FaceRecords
from facelib.evaluate.embed import embed_images, evaluate_run, unit_rows
from facelib.evaluate.labelled import load_labelled
from facelib.evaluate.pictures import evaluate_on
from facelib.metrics.operating import threshold_for
from facelib.metrics.scores import load_scores
from facelib.paths import REPO
from facelib.prepare.align import ARCFACE_TEMPLATE, LANDMARK_COLUMNS, align
from facelib.rendered.dataset import RenderedSpec, rendered_dataset
from facelib.runs.folder import create_run, load_run
from facelib.runs.launch import launch
from facelib.training.train import train
from facelib.training.trained import load_model


@pytest.fixture(scope="module")
def trained(tiny_records, tmp_path_factory):
    """(run, folder of people): a tiny network, and its training images as people's pictures."""
    root = tmp_path_factory.mktemp("ask")
    records, people = FaceRecords(tiny_records, 32), root / "people"
    for i in range(len(records)):
        path = people / f"person{records.labels[i]:02d}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(records.jpeg(i))
    cfg = make_config(name="ask", data=str(tiny_records), benchmarks="", image_size=32, width=4,
                      dim=16, images_seen=640, val_fraction=0)  # fmt: skip
    run = launch(cfg, root=root)
    evaluate_on(run.path, people, pairs=600, name="own", bootstrap=0)
    return run, people


def ask(capsys, *words) -> dict:
    capsys.readouterr()
    assert main([str(word) for word in words]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *words) -> str:
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    error = capsys.readouterr().err.strip()
    return error[error.index("error: ") :]


def _copied(path: Path, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return Path(shutil.copy(path, folder))


def test_embed_writes_a_row_per_picture_with_its_path_and_folder(trained, tmp_path, capsys):
    # Catches: rows in another order than their paths, a file that `cluster` does not read.
    (run, people), out = trained, tmp_path / "e.npz"
    found = ask(capsys, "embed", run.path, people, "--out", out)
    emb, label = load_labelled(out)
    path = np.load(out)["path"]
    assert found["images"] == len(emb) == 144 and found["people"] == 24
    assert all(p.startswith(f"{name}/") for p, name in zip(path, label))
    wanted, _ = embed_images(load_model(run)[0], [(people / path[77]).read_bytes()], 32)
    assert np.allclose(emb[77], wanted[0], atol=1e-5)


def test_embed_aligns_by_landmarks_relative_to_the_folder(trained, tmp_path, capsys):
    # Catches: landmarks looked up by full path, an aligned picture warped once more.
    run, photo = trained[0], np.random.default_rng(0).integers(0, 255, (300, 200, 3), np.uint8)
    photo, points = cv2.blur(photo, (9, 9)), ARCFACE_TEMPLATE * 1.3 + 25
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "a.png"), photo[..., ::-1])
    row = ",".join(map(str, points.ravel()))
    csv = tmp_path / "marks.csv"
    csv.write_text(f"file,{','.join(LANDMARK_COLUMNS)}\na.png,{row}\n")
    out = tmp_path / "e.npz"
    ask(capsys, "embed", run.path, tmp_path / "in", "--align", csv, "--out", out)
    png = cv2.imencode(".png", align(photo, points)[..., ::-1])[1].tobytes()
    wanted, _ = embed_images(load_model(run)[0], [png], 32)
    assert unit_rows(np.load(out)["emb"])[0] @ unit_rows(wanted)[0] > 0.999
    assert "wanted an aligned, square image" in refused(
        capsys, "embed", run.path, tmp_path / "in", "--out", out
    )
    photo = tmp_path / "in" / "a.png"
    words = "same", run.path, photo, photo, "--fmr", "1e-2", "--align"
    assert "is not below it" in refused(capsys, *words, _copied(csv, tmp_path / "other"))
    assert ask(capsys, *words, _copied(csv, photo.parent), "--json")["cosine"] > 0.9999


def test_bad_pictures_are_an_error_or_left_out_and_counted(trained, tmp_path, capsys):
    # Catches: a bad picture that ends the work without its name, rows that shift.
    run, people = trained
    good = sorted(people.rglob("*.jpg"))[0]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_text("no picture")
    (tmp_path / "in" / "b.jpg").write_bytes(good.read_bytes())
    words = "embed", run.path, tmp_path / "in", "--out", tmp_path / "e.npz"
    assert "a.jpg" in refused(capsys, *words) and not (tmp_path / "e.npz").exists()
    found = ask(capsys, *words, "--skip-bad")
    assert (found["images"], found["skipped"]) == (1, 1)
    assert np.load(tmp_path / "e.npz")["path"].tolist() == ["b.jpg"]


def test_same_compares_with_the_threshold_of_the_evaluated_benchmark(trained, capsys):
    # Catches: a threshold of other scores, a verdict that contradicts the cosine.
    run, people = trained
    a, b = sorted((people / "person03").iterdir())[:2]
    found = ask(capsys, "same", run.path, a, b, "--fmr", "1e-2", "--json")
    emb, _ = embed_images(load_model(run)[0], [a.read_bytes(), b.read_bytes()], 32)
    assert found["cosine"] == pytest.approx(np.dot(*unit_rows(emb)), abs=1e-6)
    point = threshold_for(load_scores(run.path / "scores" / "own.npz"), 1e-2)
    assert {k: found[k] for k in point} == point and found["benchmark"] == "own"
    assert found["above"] == (found["cosine"] >= point["threshold"])
    assert ask(capsys, "same", run.path, a, a, "--fmr", "1e-2", "--json")["above"]


def test_same_says_in_words_what_follows_and_what_does_not(trained, capsys):
    # Catches: a bare number, "the same person" as a fact.
    run, people = trained
    a = next((people / "person03").iterdir())
    assert main(["same", str(run.path), str(a), str(a), "--fmr", "1e-2"]) == 0
    text = capsys.readouterr().out
    for words in ("cosine: 1.0000", "95 % interval", "impostor pairs of own", "above the threshold",
                  "no probability", "no proof"):  # fmt: skip
        assert words in text


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("--fmr", "1e-6"), "use --fmr 1e-2"),
        (("--fmr", "2"), "wanted a rate between 0 and 1"),
        (("--benchmark", "lfw"), "has own"),
    ],
)
def test_same_refuses_what_its_benchmark_cannot_tell(trained, capsys, words, wanted):
    # Catches: a threshold above all impostors sold as one for a rate of 1e-6.
    run, people = trained
    a = next((people / "person03").iterdir())
    assert wanted in refused(capsys, "same", run.path, a, a, *words)


def test_the_exported_network_is_torchs_for_any_batch(trained, tmp_path, capsys):
    # Catches: training mode, a fixed batch, BGR or [0, 1] in the metadata.
    run, out = trained[0], tmp_path / "model.onnx"
    found = ask(capsys, "export", run.path, "--onnx", out)
    assert found["largest_difference"] < 1e-5
    x = np.random.default_rng(1).uniform(-1, 1, (5, 3, 32, 32)).astype(np.float32)
    (emb,) = onnxruntime.InferenceSession(str(out)).run(None, {"images": x})
    with torch.inference_mode():
        wanted = load_model(run)[0](torch.from_numpy(x)).numpy()
    assert np.abs(unit_rows(emb) - unit_rows(wanted)).max() < 1e-5
    told = {p.key: p.value for p in onnx.load(out).metadata_props}
    assert told["color"] == "RGB" and "/ 127.5 - 1" in told["normalization"]
    assert told["checkpoint"] == found["checkpoint"] and "32 x 32" in told["resize"]


def test_a_network_that_differs_is_not_written(trained, tmp_path, capsys, monkeypatch):
    # Catches: a comparison whose result nobody looks at.
    monkeypatch.setattr("facelib.evaluate.export.compare_with_torch", lambda *_: 2e-5)
    out = tmp_path / "model.onnx"
    assert "differ from torch's by 2.0e-05" in refused(
        capsys, "export", trained[0].path, "--onnx", out
    )
    assert not out.exists()


def test_evaluate_on_is_pairs_scores_and_report_in_one(trained, capsys):
    # Catches: figures that are not those of the benchmark it wrote, a benchmark overwritten.
    run, people = trained
    found = ask(capsys, "evaluate-on", run.path, people, "--pairs", "400", "--json")
    figures = found["benchmarks"]["people"]
    assert list(found["benchmarks"]) == ["people"] and figures["pairs"] == 400
    assert (run.path / "scores" / "people.npz").is_file()
    again = evaluate_run(run.path, [Path(figures["file"])])["benchmarks"]
    assert again["people"]["auc"] == figures["auc"] and "own" in again
    assert "--pairs" not in refused(capsys, "evaluate-on", run.path, people / "person03")


def test_figures_of_another_benchmark_are_not_overwritten(trained, tmp_path, capsys):
    # Catches: a folder called lfw that replaces the figures of LFW.
    run, people = trained
    other = tmp_path / "people.bin"
    source = run.path / "benchmarks" / "own.bin"
    other.write_bytes(source.read_bytes())
    evaluate_run(run.path, [other], bootstrap=0)
    try:
        assert "give one with --name" in refused(capsys, "evaluate-on", run.path, people)
        assert load_run(run.path).evaluation()["benchmarks"]["people"]["file"] == str(other)
    finally:
        (run.path / "eval.json").unlink()
        evaluate_run(run.path, [source], bootstrap=0)


@pytest.mark.slow
def test_the_lines_of_the_handbook_answer_on_rendered_faces(tmp_path, monkeypatch, capsys):
    # Catches: a verb of the handbook that only parses, and fails on the pictures of this study.
    page = (REPO / ".github" / "HANDBOOK.md").read_text()
    block = page.split("A test runs these lines on\nrendered faces:")[1].split("```")[1]
    monkeypatch.setenv("FACELIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    spec = RenderedSpec(identities=30, images=7, test_identities=20, size=32)
    cfg = make_config(data=str(rendered_dataset(spec, tmp_path / "data")), image_size=32, width=4,
                      dim=16, images_seen=640, benchmarks="lfw", val_fraction=0.2)  # fmt: skip
    run = create_run(cfg.replace(name="smoke-arcface"))
    train(run)
    evaluate_run(run.path, bootstrap=0)
    records = FaceRecords(cfg.data, 32)
    for i in range(len(records)):
        for folder in ("people", "my_faces"):
            path = tmp_path / folder / f"person {records.labels[i]}" / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(records.jpeg(i))
    for name, i in (("a.jpg", 0), ("b.jpg", 1)):
        (tmp_path / name).write_bytes(records.jpeg(i))
    lines = [line for line in block.splitlines() if line.startswith("python")]
    assert {line.split()[3] for line in lines} >= {"same", "embed", "evaluate-on", "export"}
    for line in lines:
        assert main(shlex.split(line)[3:]) == 0, capsys.readouterr().err
    told = capsys.readouterr().out
    assert "cosine" in told and "people" in told and Path("model.onnx").is_file()
