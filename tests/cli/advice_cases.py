"""What test_advised.py shares: runs to try on, and the messages about data."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from facelib.config import make_config
from facelib.data.datasets import FaceRecords
from facelib.data.locate import benchmark_path, train_folder
from facelib.errors import UserError
from facelib.evaluate.embed import evaluate_run
from facelib.formats.benchmarks import save_benchmark
from facelib.formats.bins import read_bin
from facelib.formats.recordio import RecordReader, write_face_records
from facelib.prepare.inspection import inspect
from facelib.prepare.lfw import read_lfw_pairs
from facelib.rendered.spec import RenderedSpec
from facelib.runs.folder import create_run, load_run
from facelib.runs.launch import launch
from facelib.training.train import train

CASES: dict[str, tuple] = {}


def case(*advice: str, fill=lambda p: {}, after: str = ""):
    """Registers what provokes the advice of these places (`file: command`, as test_advice says).

    Args:
        fill: what a person puts in place of the words that the message leaves open.
        after: what is said next, where the command does not remove the fault itself.
    """

    def register(provoke):
        for place in advice:
            CASES[place] = (provoke, fill, after)
        return provoke

    return register


def bench(path, records, pairs: int):
    """A benchmark of the records' images with as many pairs, most of them impostors."""
    images = [records.jpeg(i) for i in range(60)]
    first, second = np.arange(pairs) % 60, (np.arange(pairs) // 60 + 1 + np.arange(pairs)) % 60
    sides = [[images[i] for i in index] for index in (first, second)]
    save_benchmark(path, *sides, records.labels[first] == records.labels[second],
                   id1=records.labels[first], id2=records.labels[second],
                   fold=np.arange(pairs) % 5)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tiny_records, tmp_path_factory):
    """A runs root with a finished, evaluated run and one that has not begun; a picture."""
    root = tmp_path_factory.mktemp("advised")
    records = FaceRecords(tiny_records, 16)
    bench(root / "toy.bin", records, 300)
    cfg = make_config(name="done", data=str(tiny_records), benchmarks=str(root / "toy.bin"),
                      width=4, image_size=16, dim=8, global_batch=16, images_seen=32,
                      val_fraction=0.25)  # fmt: skip
    run = create_run(cfg, root / "runs")
    train(run)
    evaluate_run(run.path, bootstrap=0)
    create_run(cfg.replace(name="fresh one", seed=1), root / "runs")
    return root


@pytest.fixture
def place(trained, tiny_records, tmp_path, monkeypatch):
    """A copy for one test. Trainings run in this process instead of one of their own."""
    shutil.copytree(trained / "runs", tmp_path / "runs")
    for name in ("toy.bin", "toy.meta.npz"):
        shutil.copy(trained / name, tmp_path / name)
    monkeypatch.setenv("FACELIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("FACELIB_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)

    def launch_here(cfg, processes=None, root=None):
        if cfg.processes > 1:
            return launch(cfg, processes=processes, root=root)
        run = create_run(cfg, root)
        if run.state != "done":
            train(load_run(run.path))
        return run

    monkeypatch.setattr("facelib.runs.launch.launch", launch_here)
    records = tmp_path / "my records"
    shutil.copytree(tiny_records, records)
    return SimpleNamespace(tmp=tmp_path, done=load_run("done"), fresh=load_run("fresh one"),
                           records=records)  # fmt: skip


def message_of(provoke, place) -> str:
    try:
        return provoke(place) or ""
    except UserError as error:
        return str(error)


# Data


@case("formats/bins.py: prepare --help", after="not a readable pickle")
def damaged_bin(p):
    (p.tmp / "bad.bin").write_bytes(b"no pickle")
    read_bin(p.tmp / "bad.bin")


@case("formats/face_index.py: inspect VALUE --rebuild-idx")
def half_an_index(p):
    index = p.records / "train.idx"
    if "touched" not in vars(p):
        p.touched = index.write_text("".join(index.read_text().splitlines(True)[:-40]))
    return "; ".join(inspect(p.records)["problems"])


@case("formats/record_index.py: inspect VALUE --rebuild-idx")
def no_index(p):
    if "touched" not in vars(p):
        p.touched = (p.records / "train.idx").unlink()
    RecordReader(p.records)


@case("formats/recordio.py: prepare --help", after="no such file")
def no_records(p):
    RecordReader(p.tmp / "none")


@case("doctor.py: inspect VALUE --rebuild-idx")
def doctor_sees_no_index(p):
    if "touched" not in vars(p):
        shutil.copytree(p.records, p.tmp / "data" / "my set")
        p.touched = (p.tmp / "data" / "my set" / "train.idx").unlink()
    return problems("no train.idx")


def problems(word: str) -> str:
    from facelib.doctor import check

    return "; ".join(f"{f['problem']}\n{f['next']}" for f in check()["problems"]
                     if word in f["problem"])  # fmt: skip


@case("data/datasets.py: inspect VALUE --deep", after="no readable image")
def record_without_picture(p):
    FaceRecords(with_bad_record(p, "some bad", 12, 5), 16)[5]


def with_bad_record(p, name: str, count: int, bad: int):
    """A copy of the first records, six a person, of which one is no picture."""
    folder = p.tmp / name
    if not folder.exists():
        whole = FaceRecords(p.records, 16)
        images = [(i // 6, whole.jpeg(i) if i != bad else b"no picture") for i in range(count)]
        write_face_records(folder, images, size=(16, 16))
    return folder


@case("data/locate.py: prepare folder IMAGES --out VALUE", fill=lambda p: {"IMAGES": people(p)})
def no_training_set(p):
    train_folder(make_config(data=str(p.tmp / "not yet")))


def people(p):
    records = FaceRecords(p.records, 16)
    for i in range(12):
        path = p.tmp / "people" / f"person {i // 6}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(records.jpeg(i))
    return p.tmp / "people"


@case("data/locate.py: prepare --help", after="not at")
def no_benchmark(p):
    benchmark_path("mine", p.tmp)


@case("prepare/lfw.py: prepare pairs --help", after="wanted e.g. 10")
def paths_for_lfw(p):
    (p.tmp / "pairs.txt").write_text("a/1.jpg a/2.jpg 1\n")
    read_lfw_pairs(p.tmp / "pairs.txt", p.tmp)


@case("rendered/spec.py: prepare rendered --help", after="not allowed")
def wrong_size(p):
    RenderedSpec(size=5)


@case("cli/settings.py: settings", after="unknown setting")
def misspelt(p):
    from facelib.cli.settings import describe_setting

    describe_setting("tuu")
