"""Negatives from a memory, the effective number, drawn centres: restatements, limits, state."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from facelib.config import make_config
from facelib.losses import build_loss
from facelib.losses.arcface import ArcFace
from facelib.losses.infonce import InfoNCE
from facelib.losses.parts.banks import FeatureFifo, IdentityBank, effective_number
from facelib.losses.parts.centres import CentreDraw, sample_classes

TAU, DIM = 0.2, 6


def batch(step, pairs=4):
    g = torch.Generator().manual_seed(step)
    z = torch.randn(2 * pairs, DIM, generator=g, dtype=torch.float64)
    people = torch.randperm(9, generator=g)[:pairs]
    return z, people.repeat_interleave(2)


def slow_loss(f, labels, stored):
    """InfoNCE with loops, float64; stored: list of (feature, label)."""
    total = 0.0
    for i in range(len(f)):
        partner = i ^ 1
        below = sum(math.exp(f[i] @ f[j] / TAU) for j in range(len(f)) if j != i)
        below += sum(math.exp(f[i] @ v / TAU) for v, y in stored if y != labels[i])
        total -= math.log(math.exp(f[i] @ f[partner] / TAU) / below)
    return total / len(f)


def step(loss, z, labels):
    """(value, logs) of one training step."""
    value, logs = loss(z, labels)
    loss.after_step(0.5)
    return value, logs


def unit(z):
    return z / np.linalg.norm(z, axis=-1, keepdims=True)


@pytest.mark.parametrize("block", [0, 3])
@pytest.mark.parametrize("slots", [5, 20, 1000])
def test_a_fifo_gives_the_loss_of_the_last_features(slots, block):
    # Catches: features of the own batch counted twice (stored before the loss), the first ones kept
    # instead of the last, own identities among the negatives, an empty slot that counts.
    loss = InfoNCE(TAU, block=block, bank=FeatureFifo(slots, DIM)).double()
    past = []
    for number in range(6):
        z, labels = batch(number)
        f = unit(z.numpy())
        value, logs = step(loss, z, labels)
        assert value.item() == pytest.approx(slow_loss(f, labels.tolist(), past), rel=1e-9)
        there = np.mean([sum(y != own for _, y in past) for own in labels.tolist()])
        assert logs["negatives"].item() == pytest.approx(6 + there)
        past = [*past, *zip(f, labels.tolist())][-slots:]


@pytest.mark.parametrize("block", [0, 4])
@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_a_bank_holds_one_feature_an_identity(momentum, block):
    # Catches: the mean of the two images not normalised, a first feature mixed with zeros, another
    # identity's slot, identities without a feature that count.
    loss = InfoNCE(TAU, block=block, bank=IdentityBank(9, DIM, momentum)).double()
    bank = {}
    for number in range(6):
        z, labels = batch(number)
        f = unit(z.numpy())
        stored = [(v, y) for y, v in bank.items()]
        value, _ = step(loss, z, labels)
        assert value.item() == pytest.approx(slow_loss(f, labels.tolist(), stored), rel=1e-9)
        for y in set(labels.tolist()):
            new = unit(sum(f[i] for i in range(len(f)) if labels[i] == y))
            bank[y] = unit(momentum * bank[y] + (1 - momentum) * new) if y in bank else new
    features, there = loss.bank.stored()
    assert there.tolist() == sorted(bank)
    assert np.allclose(features.numpy(), [bank[y] for y in sorted(bank)])


def test_a_queue_stores_what_the_momentum_encoder_gave():
    # Catches: the network's own embeddings in the queue, features that are kept for the next batch.
    loss = InfoNCE(TAU, bank=FeatureFifo(50, DIM), encoder_momentum=0.9).double()
    z, labels = batch(0)
    given = torch.randn_like(z)
    loss.remember(given, labels)
    step(loss, z, labels)
    assert torch.allclose(loss.bank.stored()[0], F.normalize(given))
    step(loss, z, labels)
    assert torch.allclose(loss.bank.stored()[0][8:], F.normalize(z))


def test_the_memory_stays_empty_in_its_warm_up():
    # Catches: negatives from the first steps, when embeddings move fast; a memory never filled.
    loss = InfoNCE(TAU, bank=FeatureFifo(50, DIM), bank_warmup=0.5).double()
    for progress, stored in ((0.25, 0), (0.49, 0), (0.5, 8), (0.75, 16)):
        loss(*batch(0))
        loss.after_step(progress)
        assert len(loss.bank.stored()[0]) == stored


OWN_SETTINGS = {
    "queue": {"bank_slots": 7, "bank_encoder": 0.95},
    "identity": {"bank_centre": 0.5},
    "cross_batch": {"bank_slots": 7},
}


@pytest.mark.parametrize("kind", ["queue", "identity", "cross_batch"])
def test_memories_are_built_from_the_configuration(kind):
    # Catches: a setting that reaches nothing; a memory without the momentum encoder it needs.
    cfg = make_config(loss="hybrid", dim=DIM, bank=kind, **OWN_SETTINGS[kind])
    loss = build_loss(cfg, 9)
    memory = loss.infonce.bank
    assert loss.encoder_momentum == (0.95 if kind == "queue" else None)
    assert len(memory.features) == (9 if kind == "identity" else 7)
    assert getattr(memory, "momentum", 0.5) == 0.5


@pytest.mark.parametrize("kind", ["cross_batch", "identity"])
def test_eval_mode_takes_no_negatives_from_the_memory_and_leaves_it(kind):
    # Catches: validation labels, which name other people, compared with stored ones.
    cfg = make_config(loss="infonce", dim=DIM, bank=kind, tau=TAU)
    loss = build_loss(cfg, 9).double()
    step(loss, *batch(0))
    before = {k: v.clone() for k, v in loss.state_dict().items()}
    z, labels = batch(1)
    value = loss.eval()(z, labels)[0]
    assert value.item() == pytest.approx(slow_loss(unit(z.numpy()), labels.tolist(), []))
    assert all(v.equal(before[k]) for k, v in loss.state_dict().items())


@pytest.mark.parametrize("kind", ["cross_batch", "identity"])
def test_a_checkpoint_holds_the_memory(kind):
    # Catches: the position of the queue lost, so that a resumed run overwrites other slots.
    cfg = make_config(loss="infonce", dim=DIM, bank=kind, **OWN_SETTINGS[kind])
    first = build_loss(cfg, 9).double()
    for number in range(3):
        step(first, *batch(number))
    second = build_loss(cfg, 9).double()
    second.load_state_dict(first.state_dict())
    for number in range(3, 6):
        assert step(first, *batch(number))[0].equal(step(second, *batch(number))[0])


@pytest.mark.parametrize("block", [0, 3])
def test_stored_features_carry_no_gradient_and_the_batch_does(block):
    # Catches: a graph that grows through the memory; gradcheck also covers the added columns.
    loss = InfoNCE(TAU, block=block, bank=FeatureFifo(16, DIM)).double()
    step(loss, *batch(0))
    assert not loss.bank.features.requires_grad
    z, labels = batch(1)
    stored = loss.bank.stored()

    def value(x):
        f = F.normalize(x)
        contrast = loss._by_blocks if block else loss._whole
        return contrast(f, labels, f, torch.arange(8), stored)[0]

    assert torch.autograd.gradcheck(value, z.requires_grad_())


def test_effective_number_is_the_exponential_of_the_entropy():
    # Catches: bits for nats, positives or left-out columns counted, a mean inside the exponential.
    logits = torch.tensor([[0.0, 0, 0, -math.inf], [5.0, -math.inf, -math.inf, -math.inf]])
    assert effective_number(logits).item() == pytest.approx((3 + 1) / 2)
    p = np.array([0.5, 0.25, 0.125, 0.125])
    expected = math.exp(-(p * np.log(p)).sum())
    assert effective_number(torch.tensor(np.log(p))[None]).item() == pytest.approx(expected)
    assert effective_number(torch.full((1, 3), -math.inf)).item() == 1  # no negative at all


def test_losses_log_the_effective_number_of_their_negatives():
    # Catches: the own image, the partner or the own centre among the negatives.
    z, labels = batch(3)
    f = F.normalize(z)
    logits = (f @ f.T / TAU).masked_fill(labels[:, None] == labels, -math.inf)
    logs = InfoNCE(TAU)(z, labels)[1]
    assert logs["effective_negatives"].item() == pytest.approx(effective_number(logits).item())
    assert logs["negatives"].item() == 6
    arc = ArcFace(9, DIM, s=8.0).double()
    cos = f @ F.normalize(arc.weight.detach()).T
    logits = (8 * cos).scatter(1, labels[:, None], -math.inf)
    found = arc(z, labels)[1]["effective_centres"].item()
    assert found == pytest.approx(effective_number(logits).item())


def test_drawn_centres_are_the_batchs_and_random_others_up_to_the_number():
    # Catches: a class of the batch left out, the same draw at each step, a number that drifts.
    labels = torch.tensor([3, 90, 3, 41])
    draw = CentreDraw(100, wanted=10, seed=0)
    drawn = [draw(labels) for _ in range(200)]
    assert all(len(set(d.tolist())) == 10 and set(labels.tolist()) <= set(d.tolist())
               for d in drawn)  # fmt: skip
    times = torch.bincount(torch.cat(drawn), minlength=100)
    others = times[torch.isin(torch.arange(100), labels, invert=True)]
    # 200 · 7/97 = 14.4 times each, ± 3.7: no class is left out, none is preferred.
    assert others.min() > 0 and others.max() < 2.5 * 14.4
    assert others.sum() == 200 * 7
    assert len(sample_classes(labels, 100, 2, 0)) == 4  # never fewer than the batch


def test_two_seeds_and_two_steps_draw_other_centres():
    # Catches: a seed in bits that torch's generator on a CPU leaves out; repeats then share draws.
    labels = torch.tensor([3, 90])
    first = {tuple(CentreDraw(1000, 20, seed)(labels).tolist()) for seed in range(5)}
    draw = CentreDraw(1000, 20, 0)
    assert len(first | {tuple(draw(labels).tolist()) for _ in range(5)}) == 9


@pytest.mark.parametrize("block", [0, 3])
def test_the_softmax_over_drawn_centres_equals_one_written_with_loops(block):
    # Catches: labels not moved to the drawn columns, margins on another class, gradients elsewhere.
    z, labels = batch(5)
    loss = ArcFace(9, DIM, s=8.0, m=0.3, draw=CentreDraw(9, 6, 0), block=block).double()
    chosen = sample_classes(labels, 9, 6, 1).tolist()
    f, w = unit(z.numpy()), unit(loss.weight.detach().numpy())
    total = 0.0
    for i, y in enumerate(labels.tolist()):
        logits = {j: 8 * (f[i] @ w[j]) for j in chosen}
        logits[y] = 8 * math.cos(math.acos(f[i] @ w[y]) + 0.3)
        total += math.log(sum(map(math.exp, logits.values()))) - logits[y]
    value, _ = loss(z, labels)
    assert value.item() == pytest.approx(total / len(f), rel=1e-9)
    value.backward()
    trained = loss.weight.grad.norm(dim=1).nonzero().flatten().tolist()
    assert trained == sorted(chosen)


def test_all_centres_drawn_is_plain_arcface():
    # Catches: a draw of N centres in another order that the labels do not follow.
    z, labels = batch(6)
    plain = ArcFace(9, DIM).double()
    drawn = ArcFace(9, DIM, draw=CentreDraw(9, 9, 0)).double()
    drawn.weight.data = plain.weight.data
    assert drawn(z, labels)[0].item() == pytest.approx(plain(z, labels)[0].item(), rel=1e-12)
    assert drawn.eval()(z, labels)[0].item() == pytest.approx(plain(z, labels)[0].item(), rel=1e-12)


@pytest.mark.parametrize("block", [0, 4])
def test_a_pair_alone_with_an_empty_memory_has_no_gradient(block):
    # Catches: log(e^-inf + e^-inf), whose gradient is not a number.
    loss = InfoNCE(TAU, block=block, bank=FeatureFifo(8, DIM)).double()
    z, labels = batch(0, pairs=1)
    z.requires_grad_()
    value, _ = loss(z, labels)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(z.grad, 0, atol=1e-12)
