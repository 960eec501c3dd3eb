"""Settings that exclude each other, where ranks and micro-batches come in."""

import pytest

from facelib.config import make_config
from facelib.errors import UserError
from facelib.limits import negatives_per_anchor


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
