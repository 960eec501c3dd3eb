"""Hybrid: the weighted sum, its limits, gradients, precision. Ranks: tests/test_distributed.py."""

import pytest
import torch
import torch.nn.functional as F

from facelib.config import make_config
from facelib.losses import build_loss
from facelib.losses.arcface import ArcFace
from facelib.losses.hybrid import Hybrid
from facelib.losses.infonce import InfoNCE
from facelib.losses.parts.banks import FeatureFifo
from tests.losses.test_arcface import naive_arcface
from tests.losses.test_infonce import example, naive_infonce


def build(weight, s=8.0, tau=0.3):
    torch.manual_seed(0)
    return Hybrid(ArcFace(4, 6, s, 0.2), InfoNCE(tau), weight).double()


def test_loss_is_the_sum_of_both_naive_references():
    # Catches: the weight on the wrong term, or a term computed on other embeddings.
    z, labels = example()
    loss = build(0.5)
    w = loss.arcface.weight.detach().numpy()
    naive = naive_arcface(z.numpy(), w, labels.tolist(), 8.0, 0.2)
    naive += 0.5 * naive_infonce(z.numpy(), 0.3)
    assert loss(z, labels)[0].item() == pytest.approx(naive)


def test_weight_zero_is_arcface_alone():
    # Catches: a contrastive term that cannot be switched off.
    z, labels = example(seed=2)
    loss = build(0.0)
    assert loss(z, labels)[0].item() == loss.arcface(z, labels)[0].item()


def test_gradient_passes_a_numeric_check():
    # Catches: one of the terms detached.
    z, labels = example(seed=3)
    loss = build(0.7)
    assert torch.autograd.gradcheck(lambda x: loss(x, labels)[0], z.requires_grad_())


def test_bf16_embeddings_give_a_finite_fp32_loss():
    # Catches: a half-precision sum of the two terms.
    z, labels = example()
    value, _ = Hybrid(ArcFace(4, 6), InfoNCE())(z.bfloat16().float(), labels)
    assert value.dtype == torch.float32
    assert value.isfinite()


def test_settings_reach_both_terms():
    # Catches: the table building a loss with defaults instead of the config's values.
    cfg = make_config(loss="hybrid", s=20.0, m=0.1, tau=0.2, contrastive_weight=0.3, dim=16)
    loss = build_loss(cfg, 9)
    assert (loss.arcface.s, loss.arcface.m, loss.infonce.tau, loss.weight) == (20, 0.1, 0.2, 0.3)
    assert loss.arcface.weight.shape == (9, 16)


def test_validation_by_arcface_alone_leaves_training_the_sum():
    # Catches: source A's choice of the checkpoint in training, or in no mode at all.
    z, labels = example(seed=4)
    loss = Hybrid(ArcFace(4, 6), InfoNCE(), 0.5, val="arcface").double()
    arc = loss.arcface(z, labels)[0].item()
    assert loss(z, labels)[0].item() == pytest.approx(arc + 0.5 * loss.infonce(z, labels)[0].item())
    assert loss.eval()(z, labels)[0].item() == arc


def test_the_bank_of_the_hybrid_stores_what_the_momentum_encoder_made():
    # Catches: remember or after_step that stop at the hybrid; the embeddings stored in their place.
    z, labels = example(seed=5)
    infonce = InfoNCE(bank=FeatureFifo(20, 6), encoder_momentum=0.9, bank_warmup=0.5)
    loss = Hybrid(ArcFace(4, 6), infonce).double()
    assert loss.encoder_momentum == 0.9
    for progress, stored in ((0.4, 0), (0.5, len(z))):
        loss.remember(-z, labels)
        loss(z, labels)
        loss.after_step(progress)
        features, classes = infonce.bank.stored()
        assert len(features) == stored
    assert torch.allclose(features, F.normalize(-z)) and classes.equal(labels)
