"""Settings that exclude each other, where ranks and micro-batches come in."""

import pytest
import torch

from facelib.config import make_config
from facelib.errors import UserError
from facelib.limits import negative_centres, negatives_per_anchor
from facelib.losses.parts.centres import CentreDraw


def test_two_identities_must_meet_where_the_loss_sees_them():
    # Catches: a rank's own part counted as the joint batch when nothing is gathered.
    batch = {"loss": "triplet", "images_per_identity": 4, "global_batch": 8}
    with pytest.raises(UserError, match="two identities or more in a micro-batch; use 16"):
        make_config(**batch, processes=2, gather=False)
    make_config(**batch, processes=2, gather=True)
    with pytest.raises(UserError, match="cluster_term='triplet' needs two identities or more"):
        make_config(loss="cluster", cluster_term="triplet", images_per_identity=4, global_batch=4)


def test_a_foundation_model_refuses_dropout_views_before_it_asks_for_dropout():
    # Catches: advice (dropout=0.4) that the next check refuses.
    with pytest.raises(UserError, match="use an iresnet, or loss=arcface or infonce"):
        make_config(loss="coreface", backbone="generic-vit")


@pytest.mark.parametrize(
    ("changes", "negatives"),
    [
        ({"loss": "infonce"}, 62),
        ({"loss": "infonce", "accumulate": 2}, 30),
        ({"loss": "infonce", "processes": 2}, 62),
        ({"loss": "infonce", "processes": 2, "gather": False}, 30),
        ({"loss": "supcon"}, 60),
    ],
)
def test_negatives_are_those_that_one_image_meets(changes, negatives):
    # Catches: micro-batches or ranks that are counted though they never meet.
    assert negatives_per_anchor(make_config(global_batch=64, **changes)) == negatives


@pytest.mark.parametrize("changes, used", [
    ({"bank_slots": 4096}, "it belongs to bank=queue, cross_batch"),
    ({"bank": "identity", "bank_slots": 4096}, "bank='identity' has no such"),
    ({"bank": "cross_batch", "bank_encoder": 0.9}, "bank='cross_batch' has no such"),
    ({"bank": "queue", "bank_centre": 0.9}, "it belongs to bank=identity; leave it at 0.0"),
    ({"bank_warmup": 0.5}, "it belongs to bank=queue, identity, cross_batch"),
])  # fmt: skip
def test_a_setting_of_a_bank_that_is_not_there_is_refused(changes, used):
    # Catches: a forgotten bank=queue, which trains plain InfoNCE under a folder of its own.
    with pytest.raises(UserError, match=used):
        make_config(loss="infonce", **changes)


def test_centres_are_counted_for_every_view():
    # Catches: 99 stated where two views of 64 images bring in the centres of 128 rows.
    cfg = make_config(loss="coreface", dropout=0.4, sampled_centres=100)
    assert negative_centres(cfg, 240) == 127
    drawn = CentreDraw(240, cfg.sampled_centres, 0)(torch.arange(64).repeat(2))
    assert len(drawn) == 128
