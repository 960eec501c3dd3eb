"""Queue, bank and concentration against a slow restatement; the momentum encoder; checkpoints."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from facelib.losses.parts.cluster_store import ClassRings, RecentFeatures
from facelib.losses.parts.encoder import MomentumEncoder

CLASSES, DIM = 7, 5


class SlowMemory:
    """Source B's state with lists and loops: Q, C, φ; `rings` keeps the last of each class."""

    def __init__(self, slots, m_c=0.9, alpha=10.0, rings=False):
        self.slots, self.m_c, self.alpha, self.rings = slots, m_c, alpha, rings
        self.Q = []  # (f, k), oldest first
        self.C = np.zeros((CLASSES, DIM))
        self.phi = [1 / math.log(1 + alpha)] * CLASSES

    def stored_of(self, k):
        own = [f for f, y in self.Q if y == k]
        return own[-self.slots :] if self.rings else own

    def remember(self, features, labels):
        self.Q += [(f, y) for f, y in zip(features, labels)]
        if not self.rings:
            self.Q = self.Q[-self.slots :]
        for k in range(CLASSES):
            own = self.stored_of(k)
            if not own or (self.rings and k not in labels):
                continue
            self.C[k] = self.m_c * self.C[k] + (1 - self.m_c) * sum(own) / len(own)
            apart = sum(np.linalg.norm(f - self.C[k]) for f in own)
            self.phi[k] = apart / (len(own) * math.log(len(own) + self.alpha))


def random_batch(step, size=6, classes=CLASSES):
    g = torch.Generator().manual_seed(step)
    features = F.normalize(torch.randn(size, DIM, generator=g) + 0.5)
    return features, torch.randint(0, classes, (size,), generator=g)


@pytest.mark.parametrize(
    ("kind", "slots"), [(RecentFeatures, 4), (RecentFeatures, 16), (ClassRings, 1), (ClassRings, 4)]
)
def test_bank_and_concentration_equal_the_slow_restatement_after_50_steps(kind, slots):
    # Catches: φ with the bank before its update, a queue that wraps wrongly or is shorter than a
    # batch, a class without features that is updated, log without α, sums in place of means.
    store, slow = kind(CLASSES, DIM, slots=slots), SlowMemory(slots, rings=kind is ClassRings)
    for step in range(50):
        size, classes = (6, 2, 4)[step % 3], CLASSES - (step < 25)
        features, labels = random_batch(step, size, classes)
        store.remember(features, labels)
        slow.remember(features.double().numpy(), labels.tolist())
        sizes = [len(slow.stored_of(k)) for k in range(CLASSES)]
        assert store.sizes().tolist() == sizes
        assert np.abs(store.bank.numpy() - slow.C).max() < 1e-6
        assert np.abs(store.phi.numpy() - slow.phi).max() < 1e-6


def test_a_ring_keeps_the_last_images_of_a_class_that_fills_a_batch():
    # Catches: more images of a class than slots writing to one slot in any order.
    store = ClassRings(CLASSES, DIM, slots=2)
    features, _ = random_batch(0)
    store.remember(features, torch.full((6,), 3))
    stored = {tuple(row.tolist()) for row in store.features[3]}
    assert stored == {tuple(row.tolist()) for row in features[-2:]}
    waste = {tuple(row.tolist()) for row in store.features[-1]}
    assert waste <= {tuple(row.tolist()) for row in features[:-2]}  # never to one slot twice


def test_one_feature_in_a_new_class_leaves_concentration_near_its_start():
    # Catches: another start of φ: a bank that starts at 0 is 1 away from any feature.
    store = RecentFeatures(CLASSES, DIM, slots=4)
    start = store.phi[0].item()
    store.remember(random_batch(0)[0][:1], torch.tensor([2]))
    assert store.phi[2].item() == pytest.approx(0.9 * start)
    assert store.phi[0].item() == start == pytest.approx(1 / math.log(11))


def test_state_of_a_memory_survives_a_checkpoint_bit_for_bit():
    # Catches: a queue position outside the state, which a resumed run would begin anew.
    for kind in (RecentFeatures, ClassRings):
        whole, first, second = (kind(CLASSES, DIM, slots=4) for _ in range(3))
        for step in range(6):
            whole.remember(*random_batch(step))
            if step == 3:
                second.load_state_dict(first.state_dict())
            (first if step < 3 else second).remember(*random_batch(step))
        found, wanted = second.state_dict(), whole.state_dict()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_half_precision_features_leave_the_state_in_fp32():
    # Catches: a bank in bf16, whose moving average stands still.
    store = RecentFeatures(CLASSES, DIM, slots=4)
    features, labels = random_batch(0)
    store.remember(features.bfloat16(), labels)
    assert store.bank.dtype == store.phi.dtype == store.features.dtype == torch.float32
    assert store.bank.isfinite().all()


def test_the_momentum_encoder_is_the_moving_average_of_the_weights():
    # Catches: m and 1 − m swapped, weights tied to the backbone, a gradient in the copy.
    torch.manual_seed(0)
    backbone = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    encoder = MomentumEncoder(backbone, momentum=0.9)
    slow = [p.detach().double().clone() for p in backbone.parameters()]
    for _ in range(5):
        for p in backbone.parameters():
            p.data += torch.randn_like(p)
        encoder.follow(backbone)
        slow = [0.9 * a + 0.1 * p.double() for a, p in zip(slow, backbone.parameters())]
    for p, wanted in zip(encoder.network.parameters(), slow):
        assert torch.allclose(p.double(), wanted, atol=1e-6)
        assert not p.requires_grad
    assert not encoder(torch.randn(6, 3)).requires_grad


def test_the_momentum_encoder_uses_batch_statistics_but_no_dropout():
    # Catches: running statistics of other weights; stored features that are random views.
    layers = torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.5)
    encoder = MomentumEncoder(torch.nn.Sequential(*layers), 0.9).train()
    z = encoder(3 + 2 * torch.randn(64, 8))
    assert z.mean(0).abs().max() < 1e-5
    assert z.std(0, correction=0) == pytest.approx(torch.ones(8), abs=1e-4)
