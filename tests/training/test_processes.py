"""Training on two processes: the weights of one, whole or in chunks."""

import numpy as np
import pytest

from facelib.runs.launch import launch
from tests.training.test_train import largest_difference, tiny, weights


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["arcface", "infonce", "hybrid", "cluster"])
def test_two_processes_train_the_weights_of_one(tiny_records, runs_folder, loss):
    # Catches: one process started instead of two, unequal shares, ungathered negatives.
    same = {"loss": loss, "images_seen": 80, "freeze_batchnorm": True, "lr": 0.02}
    one = launch(tiny(tiny_records, processes=1, **same))
    two = launch(tiny(tiny_records, processes=2, **same))
    assert two.status["facts"]["images"] == one.status["facts"]["images"]
    assert largest_difference(weights(one), weights(two)) < 1e-6
    a, b = (r.metrics()["loss"].dropna().to_numpy() for r in (one, two))
    assert np.abs(a - b).max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "accumulate"), [("hybrid", 1), ("cluster", 2)])
def test_two_processes_in_chunks_train_the_weights_of_one_whole_batch(
    tiny_records, runs_folder, loss, accumulate
):
    # Catches: gradients reduced in every replay or in none, the criterion's own weights left out of
    # the reduction, negatives of a chunk or a rank, a memory that is filled chunk by chunk.
    same = {"loss": loss, "images_seen": 64, "freeze_batchnorm": True, "lr": 0.02,
            "accumulate": accumulate}  # fmt: skip
    one = launch(tiny(tiny_records, processes=1, **same))
    blocks = {"loss_block": 3} if loss == "hybrid" else {}
    two = launch(tiny(tiny_records, processes=2, chunk=2, select="val_auc", **blocks, **same))
    assert two.status["facts"]["chunk"] == 2
    assert largest_difference(weights(one), weights(two)) < 1e-6


@pytest.mark.slow
def test_two_processes_train_on_their_own_anchors_whatever_the_chunk(tiny_records, runs_folder):
    # Catches: gradients that are reduced before the last anchor, or never; anchors not passed on.
    same = {"loss": "infonce", "images_seen": 64, "freeze_batchnorm": True, "lr": 0.02,
            "processes": 2, "anchors": 4}  # fmt: skip
    pairs, fours = (launch(tiny(tiny_records, chunk=n, **same)) for n in (2, 4))
    assert largest_difference(weights(pairs), weights(fours)) < 1e-6
    every = launch(tiny(tiny_records, chunk=4, **same | {"anchors": 0}))
    assert largest_difference(weights(every), weights(fours)) > 1e-4
