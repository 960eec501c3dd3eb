"""What every registered loss must do: gradients, precision, state, and settings that reach it."""

import inspect
import sys

import pytest
import torch
import torch.nn.functional as F

from facelib.config import FIELDS, Config
from facelib.errors import UserError
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
TERM = {"cluster_term": "triplet", "images_per_identity": 2}  # of cluster, that gathers


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


def settings_in(module, path="") -> dict:
    """What a loss was built with: plain attributes, shapes of buffers, classes of its parts."""
    plain = {k: v for k, v in vars(module).items() if not k.startswith("_") and k != "training"}
    found = {path + k: v for k, v in plain.items() if isinstance(v, int | float | str | tuple)}
    found |= {path + k: tuple(b.shape) for k, b in module.named_buffers(recurse=False)}
    for name, part in module.named_children():
        found |= {path + name: type(part).__name__, **settings_in(part, f"{path}{name}.")}
    return found


def changed(cfg: Config, name: str) -> Config:
    """The same run with another value of one setting."""
    field, now = FIELDS[name], getattr(cfg, name)
    values = field.metadata["choices"]
    if field.type is bool:
        values = [not now]
    elif field.type in (int, float):
        values = [field.type(value) for value in (now / 2 + 0.3, now * 2, now + 2, 8192)]
    for value in values:
        try:
            if value != now:
                return cfg.replace(**{name: value})
        except UserError:
            continue
    raise AssertionError(f"no other value of {name} is allowed")


@pytest.mark.parametrize(
    ("loss", "name"),
    [(loss, name) for loss, row in LOSS_ROWS.items() for name in sorted(row.taken)],
)
def test_every_setting_of_a_loss_reaches_it(loss, name):
    # Catches: a setting that `build` leaves out or gives to another argument: it would change the
    # run's name and nothing else.
    own = {"images_per_identity": 2} if loss in ON_GROUPS else {}
    if (loss, name) == ("cluster", "gather"):  # of one of its terms
        own = TERM
    if name == "anchors":  # whole chunks
        own = {"chunk": 2}
    cfg = config_of(loss, dim=DIM, **own)
    before, after = (settings_in(build_loss(one, CLASSES)) for one in (cfg, changed(cfg, name)))
    assert before != after


# Where a run that is not told otherwise differs from the paper: small faces, few identities.
PAPERS = {"s": 64.0, "gradient": "exact", "cluster_encoder": 0.999}
OWN = {"arcface": {"m": 0.5}, "sphereface": {"gradient": "exact"}}


@pytest.mark.parametrize("name", LOSS_ROWS)
def test_a_loss_built_without_settings_is_the_published_one(name):
    # Catches: a default of a class that is neither the paper's nor the one in the table of losses.
    papers = {k: v for k, v in PAPERS.items() if k not in LOSS_ROWS[name].published}
    loss = build_loss(config_of(name, dim=DIM, **papers | OWN.get(name, {})), CLASSES)
    wanted = inspect.signature(type(loss)).parameters.values()
    needed = [p.name for p in wanted if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    sizes = {"classes": CLASSES, "dim": DIM}
    plain = type(loss)(**{k: sizes[k] if k in sizes else getattr(loss, k) for k in needed})
    assert settings_in(plain) == settings_in(loss)


@pytest.mark.parametrize("name", [n for n, row in LOSS_ROWS.items() if row.head and n != "center"])
def test_the_logs_of_a_classifier_are_of_its_cosines(name):
    # Catches: a figure under another name, of the cosines with the margin, or of other classes.
    loss, z, labels = build(name)
    weights = {key.rpartition(".")[2]: value for key, value in loss.named_parameters()}
    centres = F.normalize(weights["weight"].detach(), dim=-1)
    cos = (F.normalize(z) @ centres.reshape(-1, DIM).T).reshape(len(z), CLASSES, -1).amax(2)
    logs = loss.eval()(z, labels)[1]
    wanted = cos[torch.arange(len(z)), labels].mean()
    assert logs["target_cosine"].item() == pytest.approx(wanted.item(), rel=1e-6)
    hits = (cos.argmax(1) == labels).to(cos.dtype).mean()
    assert logs["train_accuracy"].item() == pytest.approx(hits.item()) and 0 < hits < 1


OF_ONE_NETWORK = [n for n, row in LOSS_ROWS.items() if not row.head and n != "semi_siamese"]


@pytest.mark.parametrize("name", OF_ONE_NETWORK)
def test_the_logs_of_a_contrastive_loss_are_of_its_pairs(name):
    # Catches: the own image among the positives, positives among the negatives, a wrong name.
    loss, z, labels = build(name)
    cos = F.normalize(z) @ F.normalize(z).T
    same = labels[:, None] == labels
    logs = loss.eval()(z, labels)[1]
    positive = cos[same & ~torch.eye(len(z), dtype=bool)].mean()
    assert logs["positive_cosine"].item() == pytest.approx(positive.item())
    if name != "triplet":
        assert logs["negative_cosine"].item() == pytest.approx(cos[~same].mean().item())


@pytest.mark.parametrize("name", [n for n, row in LOSS_ROWS.items() if "gather" in row.taken])
def test_other_processes_are_asked_for_their_images_where_the_run_says_so(name, monkeypatch):
    # Catches: a loss that ignores gather. What is gathered: tests/test_distributed.py.
    calls = []
    for path, module in list(sys.modules.items()):
        for ask in ("gather", "gather_with_grad"):
            if path.startswith("facelib.losses.") and hasattr(module, ask):
                monkeypatch.setattr(module, ask, lambda x: (calls.append(1), x)[1])
    counts = []
    for gather in (True, False):
        term = TERM if name == "cluster" else {}
        loss, z, labels = build(name, gather=gather, **term)
        loss(z, labels)
        counts.append(len(calls))
        calls.clear()
    assert counts[0] > counts[1]


@pytest.mark.parametrize("name", LOSS_ROWS)
@pytest.mark.parametrize("bank", ["queue", "identity"])
def test_a_loss_taken_up_from_a_checkpoint_goes_on_as_the_saved_one(name, bank):
    # Catches: counters, banks or centres outside the checkpoint: a resumed run would differ.
    loss, z, labels = build(name, sampled_centres=4, bank=bank)
    copy = build(name, sampled_centres=4, bank=bank)[0]
    for _ in range(2):
        loss(z, labels)
        if hasattr(loss, "after_step"):
            loss.after_step(1.0)
    copy.load_state_dict(loss.state_dict())
    values = []
    for one in (loss, copy):
        torch.manual_seed(1)
        values.append(one(-z, labels)[0].item())
    assert values[0] == values[1]
