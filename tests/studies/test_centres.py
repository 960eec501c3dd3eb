"""From a trained run to centres and tables, on tiny records and a toy benchmark."""

import numpy as np
import pytest
import torch

from facelib.config import make_config
from facelib.data.datasets import open_records
from facelib.metrics import geometry as an
from facelib.runs.launch import launch
from facelib.studies import centres as ce
from facelib.studies.explorer.nearest import training_centres
from facelib.studies.results import evaluate
from facelib.studies.source_a import CENTRES_SOURCE_A
from facelib.training.checkpoint import _digest
from facelib.training.trained import load_trained
from tests.studies.test_results import toy_benchmark


@pytest.fixture(scope="module")
def runs(tiny_records, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACELIB_RUNS", str(tmp_path_factory.mktemp("runs")))
        bench = tmp_path_factory.mktemp("bench") / "toy.bin"
        toy_benchmark(bench)
        sizes = {"width": 4, "image_size": 16, "dim": 8, "global_batch": 16, "images_seen": 320}
        common = {"data": str(tiny_records), "benchmarks": str(bench), "threads": 1, **sizes}
        configs = [make_config(loss=loss, **common) for loss in ("arcface", "infonce")]
        yield [ce.Geometry(evaluate(launch(cfg), bootstrap=0)) for cfg in configs]


def test_centres_are_the_classifier_where_there_is_one_and_training_means(runs):
    # Catches: validation people among the centroids, centroids in another order than the weights.
    arcface, infonce = runs
    assert list(arcface.centres) == ["classifier", "centroids"]
    assert list(infonce.centres) == ["centroids"]
    weights = load_trained(arcface.result.folder)["learner"]["criterion.weight"].numpy()
    np.testing.assert_allclose(arcface.centres["classifier"], an.unit(weights))
    emb, labels = arcface.train
    assert arcface.centres["centroids"].shape == weights.shape
    assert len(emb) == 6 * len(weights)
    own = np.einsum("td,td->t", emb, arcface.centres["classifier"][labels])
    other = np.einsum("td,td->t", emb, arcface.centres["classifier"][labels - 1])
    assert own.mean() > other.mean() + 0.1


def test_training_embeddings_are_kept_until_the_checkpoint_changes(runs, monkeypatch):
    # Catches: embeddings of an older checkpoint, or embedded again each time.
    run = runs[0]
    kept, path = run.train[0], run.result.folder / "checkpoints" / "last.pt"
    monkeypatch.setattr(ce, "load_model", lambda *_: 1 / 0)
    np.testing.assert_array_equal(ce.Geometry(run.result).train[0], kept)
    before = path.read_bytes()
    state = load_trained(run.result.folder)
    learner = {name: tensor + 1 for name, tensor in state["learner"].items()}
    torch.save(state | {"learner": learner, "digest": _digest(learner, "")}, path)
    with pytest.raises(ZeroDivisionError):
        _ = ce.Geometry(run.result).train
    path.write_bytes(before)


def test_the_explorer_has_a_loss_s_own_centres_or_means_with_that_person_s_picture(runs):
    # Catches: a picture of another person, validation people, means where there is a classifier.
    own, means = (training_centres(run.result) for run in runs)
    np.testing.assert_array_equal(own.unit, runs[0].centres["classifier"])
    assert own.kind == "class centres" and "of 23 training people" in means.kind
    for run, found in zip(runs, (own, means)):
        records = open_records(run.result.config)
        pictures = [records.jpeg(i) for i in range(len(records))]
        people = [records.names[records.labels[pictures.index(p)]] for p in found.pictures]
        assert people == list(found.names) and len(set(people)) == len(found.unit)
    order = np.argsort(np.argsort(means.names)), np.argsort(own.names)
    close = np.einsum("nd,nd->n", means.unit, runs[1].centres["centroids"][order[1]][order[0]])
    assert close.min() > 0.9


def test_every_table_has_a_row_for_each_run_and_says_what_the_functions_say(runs):
    # Catches: rows under another run's name, impostors among the positive pairs.
    rows = [("toy", "ArcFace", "classifier"), ("toy", "ArcFace", "centroids")]
    rows.append(("toy", "InfoNCE", "centroids"))
    table, nulls = ce.snapping_table(runs), ce.null_table(runs)
    assert list(table.index) == list(nulls.index) == rows
    scores = runs[0].result.scores("toy")
    assert table.loc[rows[0], "pair sim"] == pytest.approx(scores.score[scores.same].mean())
    assert table.loc[rows[0], "centre sim A"] == pytest.approx(nulls.loc[rows[0], "centre sim"])
    assert (nulls["lo"] <= nulls["excess"]).all()
    assert (nulls["excess"] <= nulls["hi"]).all()
    unseen = ce.unseen_table(runs)
    assert (unseen["people"] == 19).all()
    assert list(CENTRES_SOURCE_A.columns) == list(table.columns)


def test_agreement_counts_all_pairs_of_its_kind_at_the_global_threshold(runs):
    # Catches: correct = accepted for impostors too, a threshold of another run.
    table = ce.agreement_table(runs, "toy")
    counts = table[["same & correct", "same & wrong", "other & correct", "other & wrong"]]
    assert (counts.sum(axis=1) == 40).all()
    scores = runs[1].result.scores("toy")
    passed = scores.score > runs[1].threshold("toy")
    wrong = counts[["same & wrong", "other & wrong"]].sum(axis=1)
    key = ("toy", "InfoNCE", "centroids")
    assert wrong[(*key, "positive")] == (~passed & scores.same).sum()
    assert wrong[(*key, "impostor")] == (passed & ~scores.same).sum()
    thresholds = ce.threshold_table(runs, "toy")
    assert thresholds.loc[key[:2], "TAR"] == pytest.approx(passed[scores.same].mean())


def test_the_spread_has_a_row_a_run_and_the_spectrum_ends_at_one(runs):
    # Catches: one run's figures for both, shares that are not cumulated.
    assert list(ce.spread_table(runs).index) == [("toy", "ArcFace"), ("toy", "InfoNCE")]
    ends = ce.spectrum_frame(runs, "toy").groupby("name")["share"].max()
    assert ends.tolist() == [pytest.approx(1)] * 2


def test_another_run_s_training_images_are_kept_apart_from_the_own_ones(runs):
    # Catches: one cache file for both, the embeddings of the other run's network.
    run, other = (ce.Geometry(r.result) for r in runs)
    own, labels = run.train
    emb, again = run.training_images(other.result.config)
    np.testing.assert_array_equal(emb, own)  # the same records and split, so the same images
    np.testing.assert_array_equal(again, labels)
    kept = sorted(p.stem for p in (run.result.folder / "embeddings").glob("train*"))
    assert kept == ["train", f"train-of-{other.result.config.digest()}"]


def test_a_pull_to_the_training_centres_is_seen_beyond_unseen_people(runs, monkeypatch):
    # Catches: the control compared with itself, so that no pull could ever be found.
    run = ce.Geometry(runs[0].result)
    emb, centres = run.images("toy"), run.centres["centroids"]
    nearest = centres[an.nearest_centres(emb, centres)[1]]
    pulled = an.unit(emb + nearest)
    monkeypatch.setattr(ce.Geometry, "images", lambda self, name: pulled)
    assert ce.unseen_table([run])["lo"].item() > 0
