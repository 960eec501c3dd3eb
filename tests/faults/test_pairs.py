"""Properties of each writer with its reader: what is written comes back, whatever it is."""

import copy

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from facelib.audit.checks import exclusion_lines, write_exclusions
from facelib.config import Config, make_config
from facelib.evaluate.labelled import load_labelled, save_labelled
from facelib.formats.benchmarks import load_benchmark, save_benchmark
from facelib.formats.decode import decode, encode_jpeg
from facelib.formats.face_index import excluded_labels, read_face_index, read_names
from facelib.formats.rebuild import rebuild_index
from facelib.formats.record_index import read_index
from facelib.formats.recordio import RecordReader, write_face_records
from facelib.metrics.lgcn import LinkNetwork, LinkSettings, load_links, save_links
from facelib.metrics.scores import load_scores, make_scores, save_scores
from facelib.runner.notebooks import read_notebook, write_notebook
from facelib.runs.files import read_metrics, read_status
from facelib.runs.folder import create_run, load_run, write_json
from facelib.safety.readers import one_line
from facelib.training.checkpoint import load_checkpoint, restore, save_checkpoint
from facelib.training.metrics_log import MetricsLog
from tests.faults.cases_weights import tiny_trainer
from tests.faults.test_faults import FEW, scratch

NAMES = st.text(min_size=1, max_size=12).filter(one_line).filter(lambda n: n[0] != "\ufeff")


@FEW
@given(st.lists(st.tuples(NAMES, st.integers(1, 3)), min_size=1, max_size=5), st.randoms())
def test_a_face_set_comes_back_with_its_names_and_so_does_its_index(people, rng):
    # Mutation: names.txt written in another encoding or order; ids that are not the keys.
    folder = scratch()
    images = [(label, rng.randbytes(rng.randrange(1, 60)))
              for label, (_, count) in enumerate(people) for _ in range(count)]  # fmt: skip
    write_face_records(folder, images, names=[name for name, _ in people])
    reader = RecordReader(folder)
    keys, labels, _ = read_face_index(reader)
    assert labels.tolist() == [label for label, _ in images]
    assert [bytes(reader.read(int(k)))[-len(i) :] for k, (_, i) in zip(keys, images)] == [
        image for _, image in images
    ]
    assert read_names(folder / "names.txt", labels) == [name for name, _ in people]
    before = read_index(folder / "train.idx")
    (folder / "train.idx").unlink()
    rebuild_index(folder)
    assert np.array_equal(before, read_index(folder / "train.idx"))


@FEW
@given(st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=9), st.integers(0, 3),
                          st.floats(-90, 90, width=32)), min_size=1, max_size=12))  # fmt: skip
def test_a_benchmark_comes_back_with_its_sidecar(pairs):
    # Mutation: a column of the sidecar dropped or cast to another type.
    path = scratch().with_suffix(".bin")
    left, right, person, yaw = zip(*pairs)
    same = [i % 2 == 0 for i in range(len(pairs))]
    other = [p if s else p + 10 for p, s in zip(person, same)]
    save_benchmark(path, left, right, same, fold=person, id1=person, id2=other, yaw1=yaw, yaw2=yaw)
    found = load_benchmark(path)
    assert [found.images[i] for i in found.index1] == list(left)
    assert [found.images[i] for i in found.index2] == list(right)
    assert (found.same.tolist(), found.fold.tolist()) == (same, list(person))
    assert (found.id1.tolist(), found.id2.tolist()) == (list(person), other)
    assert found.yaw1.tolist() == list(yaw)


@FEW
@given(st.lists(st.floats(-1, 1), min_size=20, max_size=30), st.integers(-3, 3))
def test_scores_and_labelled_embeddings_come_back(values, first):
    # Mutation: folds renumbered on the way, scores as float32.
    path, pairs = scratch(), np.arange(len(values))
    scores = make_scores(values, pairs % 2, pairs // 4 + first, score_flip=values, id1=pairs,
                         id2=pairs + 99 * (pairs % 2 == 0), yaw1=pairs / 7)  # fmt: skip
    save_scores(path, scores)
    found = load_scores(path)
    for name, value in vars(scores).items():
        assert np.array_equal(getattr(found, name), value) if value is not None else True
    emb = np.array(values, np.float32).reshape(-1, 1) + 2
    save_labelled(path, emb, pairs // 3)
    assert np.array_equal(load_labelled(path)[0], emb)
    assert np.array_equal(load_labelled(path)[1], pairs // 3)


@FEW
@given(st.lists(NAMES, min_size=1, max_size=8), st.sets(st.integers(0, 7)))
def test_an_exclusion_list_leaves_out_those_people_and_no_other(names, chosen):
    # Mutation: a name that several bear written for one of them; digits taken for a label.
    path, labels = scratch(), {label for label in chosen if label < len(names)}
    write_exclusions(path, labels, names)
    assert excluded_labels(path, names, len(names), allow_empty=True) == labels
    assert excluded_labels(exclusion_lines(labels, None), None, len(names)) == labels


@FEW
@given(st.integers(0, 2**31), st.floats(0.001, 1), st.sampled_from(["arcface", "infonce"]))
def test_a_run_comes_back_with_its_settings_and_state(seed, lr, loss):
    # Mutation: a setting rounded in config.json, so that the same settings are another run.
    cfg = make_config(seed=seed, lr=lr, loss=loss)
    run = create_run(cfg, scratch())
    run.set_status(state="stopped", step=3, message="why: \u2028 \n")
    found = load_run(run.path)
    assert found.config == cfg and Config(**cfg.to_dict()).digest() == found.config.digest()
    assert read_status(run.path / "status.json")["message"] == "why: \u2028 \n"


@FEW
@given(st.lists(st.floats(), min_size=1, max_size=6), st.integers(0, 7))
def test_metrics_come_back_and_are_cut_after_a_step(losses, step):
    # Mutation: NaN or infinity written as what JSON cannot read; one line too many kept.
    folder = scratch()
    folder.mkdir()
    log = MetricsLog(folder, main=False)
    log.main = True
    log.start(0, 9, 4)
    for number, loss in enumerate(losses, start=1):
        log.write(number, {"loss": loss, "lr": 0.1})
    log.cut_after(step)
    found = read_metrics(log.path)
    assert np.array_equal([row["loss"] for row in found], losses[:step], equal_nan=True)


@FEW
@given(st.integers(0, 2**32 - 1))
def test_a_checkpoint_and_an_lgcn_come_back_bit_for_bit(seed):
    # Mutation: the optimiser's or the generator's state left out.
    folder = scratch()
    torch.manual_seed(seed)
    trainer, other = tiny_trainer(folder), tiny_trainer(folder)
    save_checkpoint(trainer, "last.pt")
    expected = copy.deepcopy(trainer.optimizer.state_dict()), torch.rand(3)
    assert restore(load_checkpoint(folder / "checkpoints" / "last.pt"), other) == (1, 0.5)
    assert torch.equal(torch.rand(3), expected[1])
    momenta = [side["state"][0]["momentum_buffer"]
               for side in (expected[0], other.optimizer.state_dict())]  # fmt: skip
    assert torch.equal(*momenta)
    assert torch.equal(trainer.plain_learner.weight, other.plain_learner.weight)
    net = LinkNetwork(LinkSettings(4, (4, 4), (3, 2), 2))
    save_links(net, folder / "l.safetensors")
    found = load_links(folder / "l.safetensors")
    assert found.settings == net.settings
    assert all(torch.equal(v, found.state_dict()[k]) for k, v in net.state_dict().items())


@FEW
@given(st.text(max_size=30), st.text(max_size=30))
def test_a_notebook_comes_back(source, text):
    # Mutation: lines split at every sign that ends a line somewhere.
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    path = scratch()
    write_notebook(new_notebook(cells=[new_markdown_cell(text), new_code_cell(source)]), path)
    assert [cell.source for cell in read_notebook(path).cells] == [text, source]


@FEW
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 255))
def test_a_picture_comes_back_with_its_size_and_colour(height, width, level):
    # Mutation: height and width, or the channels, exchanged.
    image = np.full((height, width, 3), (level, 128, 255 - level), np.uint8)
    found = decode(encode_jpeg(image))
    assert found.shape == image.shape and np.abs(found.astype(int) - image).max() <= 8


@FEW
@given(
    st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.floats(allow_nan=False))
)
def test_json_comes_back(content):
    # Mutation: a number of many digits, or a sign of another plane, that is read otherwise.
    from facelib.runs.folder import read_json

    path = scratch()
    write_json(path, content)
    assert read_json(path) == content
