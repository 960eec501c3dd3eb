"""Each command that a message of the package advises is run, and does what the message promises.

A case provokes a message, runs the command in it as it is typed, and provokes once more: the fault
is gone, or (`after`) the next message is the true one. `test_advice.py` parses every command and
asks that each has its case here.
"""

import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from unittest.mock import patch

import numpy as np
import pytest

from facelib.audit.overlap_pairs import pair_groups
from facelib.cli.main import main
from facelib.config import make_config
from facelib.data.datasets import FaceRecords
from facelib.errors import UserError
from facelib.evaluate.embed import evaluate_run
from facelib.evaluate.labelled import load_labelled
from facelib.evaluate.pictures import compare_pictures
from facelib.metrics.lgcn import load_links
from facelib.metrics.scores import load_scores
from facelib.models.foundation import load_foundation
from facelib.models.initial import init_file
from facelib.models.registry import download_hint
from facelib.runner.sources import run_origin
from facelib.runs.files import kept_embeddings
from facelib.runs.folder import create_run, hold, identify, load_run
from facelib.runs.launch import launch, stop, wait_and_follow
from facelib.runs.origin import check_name, unfinished
from facelib.studies.explorer.gather import gather
from facelib.studies.overview import add_finished
from facelib.studies.results import Result
from facelib.training.checkpoint import load_checkpoint
from facelib.training.continued import longer
from facelib.training.train import main as train_main
from facelib.training.train import make_accelerator, train
from facelib.training.trained import load_model, load_trained
from tests.cli.advice_cases import (  # noqa: F401  (fixtures)
    CASES,
    bench,
    case,
    message_of,
    people,
    place,
    problems,
    trained,
    with_bad_record,
)

COMMAND = re.compile(r"python -m facelib ((?:[^\n;`()']|'[^']*')+)")


# Runs


@case("runs/folder.py: runs", "runs/weights.py: runs", "training/checkpoint.py: runs",
      after="o such")  # fmt: skip
def unknown_run(p):
    said = []
    for look in (load_run, init_file, lambda n: load_checkpoint(p.tmp / n)):
        with pytest.raises(UserError) as met:
            look("nobody")
        assert "python -m facelib runs" in str(met.value)
        said.append(str(met.value))
    return "\n".join(said)


@case("runs/launch.py: train --run VALUE")
def not_started(p):
    wait_and_follow("fresh one")


@case("training/trained.py: train --run VALUE")
def not_trained(p):
    load_trained(p.fresh)


@case("training/continued.py: train --run VALUE")
def not_finished(p):
    longer(p.fresh, 500)


@case("runs/weights.py: train --run VALUE")
def nothing_to_start_from(p):
    init_file(p.fresh.name)


@case("studies/overview.py: train --run VALUE")
def not_to_be_added(p):
    add_finished([], names=p.fresh.name)


@case("runner/sources.py: train --run VALUE", after="train --run done")
def page_of_runs(p):
    return run_origin(p.done.name)["command"]


@case("runs/origin.py: train --run VALUE")
def figures_of_a_stopped_run(p):
    if p.fresh.state == "new":
        p.fresh.set_status(state="stopped", step=1, steps=2)
    return unfinished(load_run(p.fresh.name))


@case("doctor.py: train --run VALUE")
def doctor_sees_a_failed_run(p):
    if p.fresh.state == "new":
        p.fresh.set_status(state="failed", step=1, steps=2, message="killed")
    return problems("failed")


@case("training/checkpoint.py: train --run VALUE")
def disk_is_full(p):
    with patch("torch.save", side_effect=OSError("no space")):
        if p.fresh.state != "done":
            train(p.fresh)


@case("models/foundation.py: train --run VALUE")
def stand_in_is_not_done(p):
    cfg = make_config("generic-vit", data=str(p.records), global_batch=16, images_seen=16,
                      image_size=32, val_fraction=0.25, threads=1, benchmarks="")  # fmt: skip
    load_foundation("generic-vit", create_run(cfg).name)


@case("models/registry.py: train --preset generic-vit",
      fill=lambda p: {"generic-vit": "generic-vit --create"}, after="two minutes")  # fmt: skip
def no_stand_in(p):
    return download_hint("generic-vit")


@case("training/train.py: train --run VALUE --skip-bad")
def met_a_bad_record(p):
    folder = with_bad_record(p, "late", 144, 70)
    run = create_run(p.done.config.replace(name="late", data=str(folder), images_seen=160,
                                           benchmarks="", val_fraction=0))  # fmt: skip
    if run.state != "done":
        assert train_main([str(run.path)]) == 2
        return run.status["message"]


@case("training/train.py: train --run RUN", fill=lambda p: {"RUN": two_processes(p).ref},
      after="1 process")  # fmt: skip
def too_few_processes(p):
    make_accelerator(two_processes(p).config)


def two_processes(p):
    return create_run(p.done.config.replace(name="two", processes=2, benchmarks=""))


@case("runs/launch.py: train --set elastic=true name=elastic --create", after="was made for")
def another_number_of_processes(p):
    launch(p.done.config, processes=2)


@case("training/checkpoint.py: train --set KEY=VALUE", "runs/origin.py: train --set KEY=VALUE",
      fill=lambda p: {"KEY=VALUE": f"name=own data={p.done.config.data} benchmarks= width=4 "
                      "image_size=16 dim=8 global_batch=16 images_seen=32 val_fraction=0.25"},
      after="a run of its own")  # fmt: skip
def edited_configuration(p):
    config = p.done.path / "config.json"
    config.write_text(config.read_text().replace('"dim": 8', '"dim": 16').replace(
        '"lr": ', '"lr": 1'))  # fmt: skip
    said = []
    for look in (check_name, load_model):
        with pytest.raises(UserError) as met:
            look(load_run("done"))
        said.append(str(met.value))
    return "\n".join(said)


@case("runs/folder.py: follow VALUE", after="done")
def trained_elsewhere(p):
    with hold(p.done.path), hold(p.done.path):
        pass


# Figures


@case("runs/folder.py: eval VALUE")
def not_evaluated(p):
    if "touched" not in vars(p):
        p.touched = (p.done.path / "eval.json").unlink()
    p.done.evaluation()


@case("runs/origin.py: eval VALUE")
def figures_of_another_checkpoint(p):
    if "touched" not in vars(p):
        train(p.fresh)
        evaluate_run(p.fresh.path, bootstrap=0)
        p.touched = shutil.copy(p.fresh.path / "eval.json", p.done.path / "eval.json")
    p.done.evaluation()


@case("runs/files.py: eval VALUE --force")
def embeddings_are_gone(p):
    if "touched" not in vars(p):
        p.touched = (p.done.path / "embeddings" / "toy.npz").unlink()
    kept_embeddings(p.done.path, "toy", p.done.evaluation()["benchmarks"]["toy"])


@case("metrics/scores.py: eval RUN", fill=lambda p: {"RUN": "done"})
def scores_are_gone(p):
    if "touched" not in vars(p):
        p.touched = (p.done.path / "scores" / "toy.npz").unlink()
    load_scores(p.done.path / "scores" / "toy.npz")


@case("audit/overlap_pairs.py: eval RUN --force", fill=lambda p: {"RUN": "done"})
def scores_without_identities(p):
    path = p.done.path / "scores" / "toy.npz"
    if "touched" not in vars(p):
        scores = load_scores(path)
        p.touched = np.savez(path, score=scores.score, same=scores.same)
    pair_groups(load_scores(path), [1])


@case("evaluate/pictures.py: eval VALUE --benchmarks BIN", fill=lambda p: {"BIN": larger(p)})
def too_few_impostors(p):
    picture = people(p) / "person 0" / "0.jpg"
    compare_pictures("done", picture, picture, fmr=1e-3)


def larger(p):
    bench(p.tmp / "larger.bin", FaceRecords(p.records, 16), 1800)
    return p.tmp / "larger.bin"


@case("studies/explorer/gather.py: eval VALUE --benchmarks FILE.bin",
      fill=lambda p: {"FILE.bin": p.tmp / "toy.bin"})  # fmt: skip
def no_benchmark_of_both(p):
    if "touched" not in vars(p):
        train(p.fresh)
        p.touched = evaluate_run(p.fresh.path, [larger(p)], bootstrap=0)
    gather(["done", p.fresh.name])


@case("studies/results.py: eval VALUE --benchmarks VALUE")
def benchmark_changed(p):
    if "touched" not in vars(p):
        p.touched = evaluate_run(p.done.path, [p.tmp / "toy.bin"], bootstrap=0)
        bench(p.tmp / "toy.bin", FaceRecords(p.records, 16), 240)
    Result(p.done.path, p.done.config, p.done.evaluation(), "done").benchmark("toy")


@case("evaluate/labelled.py: cluster VALUE --export RUN",
      fill=lambda p: {"RUN": "done --benchmark toy"})  # fmt: skip
def no_embeddings(p):
    load_labelled(p.tmp / "my embeddings.npz")


@case("metrics/lgcn.py: cluster TRAIN.npz --train-lgcn MODEL.safetensors",
      fill=lambda p: {"TRAIN.npz": labelled(p),
                      "MODEL.safetensors": "links --steps 2"})  # fmt: skip
def no_links(p):
    load_links(p.tmp / "links")


def labelled(p):
    label = np.arange(300) // 10
    emb = np.eye(30, dtype=np.float32)[label] + np.random.default_rng(0).normal(0, 0.1, (300, 30))
    np.savez(p.tmp / "train.npz", emb=emb.astype(np.float32), label=label)
    return p.tmp / "train.npz"


@case("runs/launch.py: follow VALUE", after="nothing to stop")
def does_not_stop(p):
    if "touched" not in vars(p):
        code = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(4)"
        p.touched = subprocess.Popen([sys.executable, "-c", code])
        threading.Thread(target=p.touched.wait).start()
        time.sleep(1)
        p.fresh.set_status(state="running", **identify(p.touched.pid))
    stop(p.fresh, patience=0.3)


def as_typed(message: str, fill: dict) -> list[list[str]]:
    """The commands of a message, the words that it leaves open filled in."""
    lines = []
    for found in COMMAND.findall(message):
        text = re.split(r"  |, | and | writes | \(|\.$|: ", found)[0]
        for word, value in fill.items():
            text = re.sub(rf"(?<!\S){re.escape(word)}(?!\S)", str(value), text)
        lines.append(shlex.split(text))
    return lines


@pytest.mark.parametrize("advice", sorted(CASES))
def test_the_command_that_a_message_advises_does_what_it_promises(advice, place, capsys):  # noqa: F811
    # Catches: advice that ends in another error, names a run or file it cannot find, or that
    # leaves everything as it was.
    provoke, fill, after = CASES[advice]
    message = message_of(provoke, place)
    command = advice.partition(": ")[2].split(" VALUE")[0].split()[0]
    [words] = {tuple(w) for w in as_typed(message, fill(place)) if w[0] == command}
    try:
        code = main(list(words))
    except SystemExit as stopped:  # --help
        code = stopped.code
    assert code == 0 or (after == "no readable image" and code == 2), capsys.readouterr().err
    now = message_of(provoke, place)
    assert (after in now) if after else not now, now
