"""What every registered loss must do: gradients, precision, state, and settings that reach it."""

import pytest
import torch

from facelib.losses import build_loss
from facelib.rows import LOSS_ROWS
from facelib.studies.results import LABELS, method_of
from tests.losses.configs import ON_GROUPS, config_of

CLASSES, DIM = 5, 4
# For a numeric check of gradients. AdaFace's margin is a constant of the gradient, but moves with
# the norm under finite differences: h=0 stills it. The rest of it is in test_adaptive.py.
STILL = {"adaface": {"adaface_h": 0.0}}
# The weights of Circle and μ of CoReFace are constants of the gradient: see their own tests.
CONSTANTS = ("circle", "circle_pairs", "coreface")


def build(name, **changes):
    """(loss in float64, its embeddings, its labels)."""
    torch.manual_seed(0)
    size = {"images_per_identity": 2} if name in ON_GROUPS else {}
    cfg = config_of(name, dim=DIM, s=8.0, **size, **changes)
    entry = LOSS_ROWS[name]
    z = torch.randn(8 * entry.views, DIM, dtype=torch.float64)
    labels = torch.arange(4).repeat_interleave(2).repeat(entry.views)
    return build_loss(cfg, CLASSES).double(), z, labels


@pytest.mark.parametrize("name", [name for name in LOSS_ROWS if name not in CONSTANTS])
def test_gradient_passes_a_numeric_check(name):
    # Catches: a detach, or a wrong derivative, between z and the loss. State and chance are still.
    loss, z, labels = build(name, gradient="exact", **STILL.get(name, {}))
    loss.eval()
    assert torch.autograd.gradcheck(lambda x: loss(x, labels)[0], z.requires_grad_())


@pytest.mark.parametrize("name", LOSS_ROWS)
def test_bf16_embeddings_give_a_finite_fp32_loss(name):
    # Catches: margins, exponents or state in half precision.
    loss, z, labels = build(name)
    value, logs = loss.float()(z.bfloat16().float(), labels)
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert all(v.dtype == torch.float32 and v.isfinite() and v.ndim == 0 for v in logs.values())
    assert all(b.dtype == torch.float32 for b in loss.buffers() if b.is_floating_point())


@pytest.mark.parametrize("name", LOSS_ROWS)
def test_embeddings_on_one_point_have_finite_gradients(name):
    # Catches: roots, arc cosines and norms whose slope is infinite at a cosine of 1.
    loss, z, labels = build(name)
    z = torch.ones_like(z).requires_grad_()
    for weight in loss.parameters():
        weight.data.fill_(1)
    loss(z, labels)[0].backward()
    assert z.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSS_ROWS)
def test_eval_mode_moves_no_state_and_repeats_itself(name):
    # Catches: a validation that changes what training goes on with; a margin drawn in eval mode.
    loss, z, labels = build(name)
    loss.eval()
    before = {key: value.clone() for key, value in loss.state_dict().items()}
    assert loss(z, labels)[0].equal(loss(z, labels)[0])
    assert all(value.equal(before[key]) for key, value in loss.state_dict().items())


@pytest.mark.parametrize(
    ("name", "state"),
    [("curricularface", {"c"}), ("adaface", {"mean", "std"}), ("center", {"center.centres"})],
)
def test_training_moves_the_state_and_a_checkpoint_holds_it(name, state):
    # Catches: state outside the registered buffers, which a resumed run would lose.
    loss, z, labels = build(name)
    before = {key: value.clone() for key, value in loss.state_dict().items()}
    loss(z, labels)
    assert {k for k, v in loss.state_dict().items() if not v.equal(before[k])} == state
    copy, _, _ = build(name)
    copy.load_state_dict(loss.state_dict())
    assert copy.eval()(z, labels)[0].equal(loss.eval()(z, labels)[0])


def test_every_loss_has_a_name_for_tables():
    # Catches: a loss that trains and then fails when its figures are shown.
    for loss in LOSS_ROWS:
        settings = config_of(loss).to_dict()
        assert method_of(settings) in LABELS
        assert method_of({**settings, "backbone": "generic-vit"}) in LABELS
