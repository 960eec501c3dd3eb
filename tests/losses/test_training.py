"""Every registered loss in the real trainer, in this process: steps, logs, resume."""

import itertools

import pytest
import torch

from facelib.config import make_config
from facelib.data.feed import Feed
from facelib.rows import LOSS_ROWS
from facelib.runs.folder import create_run
from facelib.training.train import Trainer, make_accelerator


def trained(cfg, steps):
    """The trainer of a run after at most `steps` further steps (a checkpoint every third)."""
    run = create_run(cfg)
    accelerator = make_accelerator(cfg)
    feed = Feed(cfg, accelerator.device)
    batches = feed.batches
    feed.batches = lambda start, stop: itertools.islice(batches(start, stop), steps)
    trainer = Trainer(run, feed, accelerator)
    trainer.resume()
    trainer.fit()
    return trainer


@pytest.mark.parametrize("loss", LOSS_ROWS)
def test_three_steps_and_three_more_equal_six_bit_for_bit(tiny_records, runs_folder, loss):
    # Catches: centres, statistics, curricula or draws that a checkpoint does not hold; a layout
    # that the sampler does not know; weights that the loss does not move.
    settings = {
        "data": str(tiny_records), "benchmarks": "", "width": 4, "image_size": 16, "dim": 8,
        "global_batch": 16, "images_seen": 96, "val_fraction": 0.0, "dropout": 0.3, "save_every": 3,
        "loss": loss, "log_every": 1, "threads": 1,
    }  # fmt: skip
    whole = trained(make_config(name="whole", **settings), 6)
    first = trained(make_config(name="parts", **settings), 3)
    early = {k: v.clone() for k, v in first.plain_learner.state_dict().items()}
    second = trained(make_config(name="parts", **settings), 6)
    state, resumed = whole.plain_learner.state_dict(), second.plain_learner.state_dict()
    assert (first.step, second.step) == (3, 6)
    assert all(torch.equal(state[key], resumed[key]) for key in state)
    assert not torch.equal(early["backbone.conv1.weight"], resumed["backbone.conv1.weight"])
