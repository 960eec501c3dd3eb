"""Semi-siamese training: naive loops, authors' figures, limit, gradients, precision, two ranks."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from facelib.losses.semi_siamese import ROW, SemiSiamese, build
from tests.losses.two_ranks import DIM, compare_with_one_process

SLOTS = 6


def table(rows, columns, start=0.0):
    """Numbers that anyone can make again."""
    i, j = torch.arange(rows, dtype=torch.float64)[:, None], torch.arange(columns)
    return torch.sin(start + 3 * i + 5 * j + i * j)


def example(slots=SLOTS, **settings):
    loss = SemiSiamese(4, 10.0, 0.35, slots, 0.9, **settings).double()
    loss.prototypes.copy_(F.normalize(table(slots, 4, 3.0)))
    return loss


def train_step(loss, step, people):
    """(value, gradient at z) of a training batch of two people."""
    labels = torch.tensor(people).repeat_interleave(2)
    z = table(2 * len(people), 4, step).requires_grad_()
    loss.remember(table(2 * len(people), 4, step + 0.5), labels)
    value, _ = loss(z, labels)
    return value.item(), torch.autograd.grad(value, z)[0]


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def naive_loss(step, people, stored, s=10.0, m=0.35):
    """The definition with loops; stored: [(prototype, identity)], oldest slot of the batch first
    left out by the caller."""
    f, g = unit(table(4, 4, step).numpy()), unit(table(4, 4, step + 0.5).numpy())
    total = 0.0
    for i in range(4):
        target = s * (f[i] @ g[i ^ 1] - m)
        below = math.exp(target)
        below += sum(math.exp(s * f[i] @ g[j ^ 1]) for j in range(i % 2, 4, 2) if j // 2 != i // 2)
        below += sum(math.exp(s * f[i] @ v) for v, owner in stored if owner != people[i // 2])
        total += math.log(below) - target
    return total / 4


def test_loss_and_store_equal_the_definition_written_with_loops():
    # Catches: the image's own prototype, both views as negatives, a stored prototype of the own
    # identity, slots that the batch overwrites counted twice, a margin on negatives.
    loss = example()
    stored = [(v, None) for v in loss.prototypes.numpy()]  # oldest first
    for step, people in enumerate([[10, 11], [12, 13], [10, 14], [15, 11], [12, 10]]):
        naive = naive_loss(step, people, stored[2:])
        assert train_step(loss, step, people)[0] == pytest.approx(naive, rel=1e-12)
        g = F.normalize(table(4, 4, step + 0.5)).unflatten(0, (2, 2))
        place = loss.prototypes[[2 * step % SLOTS, 2 * step % SLOTS + 1]]
        view = int(not torch.equal(place, g[:, 0]))
        assert torch.equal(place, g[:, view])  # one of the two views, for all identities
        stored = [*stored[2:], *zip(g[:, view].numpy(), people)]
    assert sorted(loss.owners.tolist()) == sorted(owner for _, owner in stored)


# Figures of prototype.py of dituu/Semi-Siamese-Training at d80f42c (scale=10, margin=0.35,
# am_softmax, queue of 6 unit vectors, cross entropies of both views halved as in FaceX-Zoo):
# of each batch the value, the gradient at the first image and its norm over all.
AUTHORS = (
    (10.782972235038994, [0.98408939, -0.55451097, 0.21987824, -0.63374339], 4.255038538088069),
    (11.601514632554357, [1.04514114, 0.24925112, 0.48086841, 1.14256281], 3.2527964567165926),
    (11.05925412061461, [0.92337218, 0.50874731, 0.47143799, 0.95787566], 3.9587925977031535),
    (12.298229790675691, [-0.19342606, 0.62234757, 0.47266314, 1.04798834], 3.7769594311080796),
)


def test_value_and_gradient_are_those_of_the_authors_code():
    # Eight people, so that nothing is masked. The chance of which view is stored was ours.
    # Catches: a sum instead of the mean of the views, gradient in prototypes, a queue out of order.
    loss = example()
    for step, (wanted, first, norm) in enumerate(AUTHORS):
        value, gradient = train_step(loss, step, [10 + 2 * step, 11 + 2 * step])
        assert value == pytest.approx(wanted, rel=1e-12)
        assert gradient[0].tolist() == pytest.approx(first, abs=1e-7)
        assert gradient.norm().item() == pytest.approx(norm, rel=1e-9)


def test_two_pairs_at_right_angles_have_the_closed_form():
    # Catches: a wrong number of negatives, or the margin added: log(1 + e^{−s(1 − m)}) for one.
    z = torch.eye(2).repeat_interleave(2, 0)
    value, logs = SemiSiamese(2, 4.0, 0.5).eval()(z, torch.tensor([0, 0, 1, 1]))
    assert value.item() == pytest.approx(math.log(1 + math.exp(-2)))
    assert (logs["positive_cosine"].item(), logs["negative_cosine"].item()) == (1, 0)


def test_the_momentum_encoder_s_embeddings_are_used_once():
    # Catches: a batch that meets the prototypes of the batch before it.
    loss = example()
    train_step(loss, 0, [10, 11])
    assert loss.encoded is None
    assert loss.encoder_momentum == 0.9


def test_a_batch_larger_than_the_store_leaves_its_last_prototypes():
    # Catches: two identities that write to one slot in any order.
    loss = example(slots=3)
    train_step(loss, 0, [10, 11, 12, 13, 14])
    assert sorted(loss.owners.tolist()) == [12, 13, 14]


def test_state_survives_a_checkpoint_bit_for_bit():
    # Catches: a position of the store, or a chance, outside the state.
    whole, first, second = example(), example(), example(slots=SLOTS)
    for step in range(6):
        people = [10 + 2 * step, 11 + 2 * step]
        if step == 3:
            second.load_state_dict(first.state_dict())
        train_step(whole, step, people)
        train_step(first if step < 3 else second, step, people)
    assert torch.equal(whole.prototypes, second.prototypes)
    assert torch.equal(whole.owners, second.owners)


def test_gradient_passes_a_numeric_check():
    # Catches: a detach in the rows. In eval mode the embeddings themselves are prototypes.
    loss, z = example().eval(), table(6, 4).requires_grad_()
    labels = torch.arange(3).repeat_interleave(2)
    assert torch.autograd.gradcheck(lambda x: loss(x, labels)[0], z)


def test_bf16_embeddings_give_a_finite_fp32_loss():
    # Catches: logits or prototypes in half precision.
    loss, labels = SemiSiamese(4, slots=SLOTS), torch.arange(3).repeat_interleave(2)
    value, logs = loss(table(6, 4).bfloat16().float(), labels)
    assert value.dtype == loss.prototypes.dtype == torch.float32
    assert value.isfinite()
    assert all(v.dtype == torch.float32 and v.isfinite() for v in logs.values())


def two_rank_loss():
    return SemiSiamese(DIM, slots=20, encoder_momentum=0.9)


def test_two_ranks_equal_one_process(tmp_path):
    # Catches: prototypes of one rank only, another view stored on each rank, a wrong own column.
    compare_with_one_process(two_rank_loss, pairs=True, folder=tmp_path)


def test_settings_reach_the_loss():
    # Catches: a loss built with defaults instead of the configuration's values.
    cfg = SimpleNamespace(s=3.0, m=0.2, semi_siamese_slots=9, semi_siamese_encoder=0.5)
    loss = build(cfg, 7, 5)
    assert (loss.s, loss.m, loss.encoder_momentum, loss.prototypes.shape) == (3, 0.2, 0.5, (9, 5))
    assert set(ROW.settings) == {"semi_siamese_slots", "semi_siamese_encoder"}
