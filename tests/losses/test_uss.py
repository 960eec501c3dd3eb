"""USS: naive loops, the authors' own figures, limits, gradients, precision, two ranks."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from facelib.losses.uss import ROW, USS, build
from tests.losses.two_ranks import CLASSES, DIM, compare_with_one_process

LABELS = torch.tensor([0, 2, 1, 2, 0, 3])


def table(rows, columns, start=0.0):
    """Numbers that anyone can make again."""
    i, j = torch.arange(rows, dtype=torch.float64)[:, None], torch.arange(columns)
    return torch.sin(start + 3 * i + 5 * j + i * j)


def example(written=5, **settings):
    """USS alone from the first step, in float64, with stored images of the first identities."""
    loss = USS(5, 4, **{"warmup": 0.0, **settings}).double()
    loss.weight.data = table(5, 4, 4.0)
    loss.stored[:written], loss.written[:written] = F.normalize(table(written, 4, 1.0)), True
    return loss


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def naive_uss(z, v, written, labels, s, m, b):
    """The definition with loops, in float64 NumPy."""
    f, total = unit(z), 0.0
    for i, y in enumerate(labels):
        for k in range(len(v)):
            if written[k]:
                exponent = b - s * (f[i] @ v[k] - m) if k == y else s * f[i] @ v[k] - b
                total += math.log1p(math.exp(max(-s, min(s, exponent))))
    return total / len(labels)


def naive_softmax(z, w, labels, s, m):
    f, w, total = unit(z), unit(w), 0.0
    for i, y in enumerate(labels):
        logits = [s * (f[i] @ w[k] - m * (k == y)) for k in range(len(w))]
        total += math.log(sum(math.exp(v) for v in logits)) - logits[y]
    return total / len(labels)


@pytest.mark.parametrize("s", [4.0, 64.0])
@pytest.mark.parametrize("written", [2, 5])
def test_loss_equals_the_definition_written_with_loops(s, written):
    # Catches: a margin on negatives, a mean over classes, no clamp, an empty slot that counts.
    loss, z = example(written, s=s).eval(), table(6, 4)
    loss.threshold.data.fill_(0.4 * s)
    v, there = loss.stored.numpy(), loss.written.tolist()
    naive = naive_uss(z.numpy(), v, there, LABELS.tolist(), s, 0.1, 0.4 * s)
    assert loss(z, LABELS)[0].item() == pytest.approx(naive, rel=1e-9)


def test_a_classifier_trains_alone_at_first_and_then_beside_uss():
    # Catches: USS against an empty store, a classifier whose weight counts in the warm-up.
    loss, z = example(warmup=0.1, classifier=0.5).eval(), table(6, 4)
    loss.threshold.data.fill_(20.0)
    softmax = naive_softmax(z.numpy(), loss.weight.detach().numpy(), LABELS.tolist(), 64.0, 0.4)
    uss = naive_uss(z.numpy(), loss.stored.numpy(), [True] * 5, LABELS.tolist(), 64.0, 0.1, 20.0)
    for progress, wanted in ((0.05, softmax), (0.1, 0.5 * softmax + uss)):
        loss.after_step(progress)
        assert loss(z, LABELS)[0].item() == pytest.approx(wanted, rel=1e-9)


def test_value_gradient_threshold_and_store_are_those_of_the_authors_code():
    # Figures of Unified_Threshold_Integrated_Sample_to_Sample_Loss in head.py of CVI-SZU/UniTSFace
    # at a53e97e; between two batches feat_mem takes the embeddings, in order, as in backbone.py.
    # Their first threshold is rounded to fp32. Catches: another start of b, a store that keeps the
    # first of two images.
    loss = example()
    found = []
    for start in (0.0, 2.0):
        z = table(6, 4, start).requires_grad_()
        value, _ = loss(z, LABELS)
        gradients = torch.autograd.grad(value, (z, loss.threshold))
        found.append((value.item(), *gradients, loss.threshold.item()))
        loss.threshold.data.fill_(20.0)
    (value, at_z, at_b, b), (value2, at_z2, at_b2, _) = found
    assert (value, b, at_b.item()) == pytest.approx(
        (45.742091781263525, 40.81464385986328, 0.5293881893157959), rel=1e-6
    )
    first = [-4.98725205, -0.37886433, 4.76900254, 3.43099735]
    assert at_z[0].tolist() == pytest.approx(first, rel=1e-5)
    assert at_z.norm().item() == pytest.approx(17.386948729001418, rel=1e-6)
    assert (value2, at_b2.item()) == pytest.approx(
        (53.95052407497921, 0.3333953320980072), rel=1e-7
    )
    first = [1.64937265, -3.69313536, 4.23201336, -3.32573563]
    assert at_z2[0].tolist() == pytest.approx(first, abs=1e-7)
    assert at_z2.norm().item() == pytest.approx(15.145787939220206, rel=1e-9)
    assert torch.equal(loss.stored[[0, 2]], F.normalize(table(6, 4, 2.0))[[4, 3]])


def test_stored_images_at_right_angles_have_the_closed_form():
    # Catches: s or b on one side only: one positive at cosine 1, one negative at 0.
    loss = USS(2, 2, s=4.0, m=0.25, warmup=0.0).eval()
    loss.stored, loss.written = torch.eye(2), torch.ones(2, dtype=torch.bool)
    loss.threshold.data.fill_(2.0)
    value, logs = loss(torch.eye(2), torch.tensor([0, 1]))
    assert value.item() == pytest.approx(math.log1p(math.exp(-1)) + math.log1p(math.exp(-2)))
    assert (logs["positive_cosine"].item(), logs["threshold"].item()) == (1, 0.5)


def test_the_threshold_starts_once_and_only_in_training():
    # Catches: a threshold that each batch or a validation sets anew; one from an empty store.
    loss, z = example(written=0), table(6, 4)
    loss.eval()(z, LABELS)
    assert loss.threshold.item() == 0
    loss.train()
    loss(z, LABELS)
    assert loss.threshold.item() == 0
    assert loss.written.tolist() == [True, True, True, True, False]
    loss(z, LABELS)
    first = loss.threshold.item()
    assert first > 0
    loss(table(6, 4, 2.0), LABELS)
    assert loss.threshold.item() == first


def test_gradient_passes_a_numeric_check():
    # Catches: a detach, or a wrong derivative, at the embeddings, the centres or the threshold.
    loss, z = example(written=4, s=4.0, classifier=0.5).eval(), table(6, 4).requires_grad_()
    loss.threshold.data.fill_(1.5)
    inputs = z, loss.weight, loss.threshold
    assert torch.autograd.gradcheck(lambda x, *_: loss(x, LABELS)[0], inputs)


def test_bf16_embeddings_give_a_finite_fp32_loss():
    # Catches: exponents or stored images in half precision.
    loss = USS(5, 4, warmup=0.0)
    for _ in range(2):
        value, logs = loss(table(6, 4).bfloat16(), LABELS)
        assert value.dtype == loss.stored.dtype == torch.float32
        assert value.isfinite()
        assert all(v.dtype == torch.float32 and v.isfinite() for v in logs.values())


def two_rank_loss():
    return USS(CLASSES, DIM, s=8.0, classifier=0.5, warmup=0.25)


def test_two_ranks_equal_one_process(tmp_path):
    # Catches: a threshold or stored images of one rank only, a last image that differs on ranks.
    compare_with_one_process(two_rank_loss, pairs=False, folder=tmp_path)


def test_settings_reach_the_loss():
    # Catches: a loss built with defaults instead of the configuration's values.
    own = {"uss_classifier": 0.5, "uss_classifier_margin": 0.3, "uss_warmup": 0.2}
    loss = build(SimpleNamespace(s=3.0, m=0.2, **own), 7, 5)
    assert (loss.s, loss.m, loss.classifier, loss.warmup) == (3.0, 0.2, 0.5, 0.2)
    assert (loss.classifier_margin, loss.stored.shape) == (0.3, (7, 5))
    assert set(ROW.settings) == set(own)
