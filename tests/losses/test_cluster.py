"""Cluster-guided losses: slow restatement, limits, gradients, variants.

Two ranks: tests/test_distributed.py; resume and the loop: tests/test_train.py.
"""

import math

import numpy as np
import pytest
import torch

from facelib.config import make_config
from facelib.losses import build_loss
from facelib.losses.arcface import ArcFace
from facelib.losses.center import CenterLoss
from facelib.losses.cluster import (
    ClusterGuided,
    sample_classes,
    temperatures_pcl,
    tightness_clipped,
    tightness_literal,
)
from facelib.losses.parts.cluster_store import ClassRings, RecentFeatures
from facelib.losses.parts.margin import cosine_of_sum
from facelib.losses.triplet import Triplet

N, D, S, M = 9, 5, 8.0, 0.5
LABELS = torch.tensor([0, 4, 4, 7, 2, 0])


def slow_terms(f, W, y, C, phi, classes, tau):
    """(CG-ArcFace, CluCon, CluAli) with loops, float64; symbols of arXiv 2312.04029."""
    f, W = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (f, W))
    lam = [(phi[k] - min(phi)) / (max(phi) - min(phi)) for k in range(N)]
    cg = clucon = cluali = 0.0
    for i in range(len(y)):
        theta = [math.acos(f[i] @ W[j]) for j in range(N)]
        m = lam[y[i]] * M
        t = math.cos(theta[y[i]] + m)
        if theta[y[i]] + m > math.pi:
            t = math.cos(theta[y[i]]) - m * math.sin(m)
        others = sum(math.exp(S * math.cos(theta[j])) for j in range(N) if j != y[i])
        cg -= math.log(math.exp(S * t) / (math.exp(S * t) + others)) / len(y)
        below = sum(math.exp(f[i] @ C[j] / phi[j]) for j in classes)
        clucon -= math.log(math.exp(f[i] @ C[y[i]] / phi[y[i]]) / below) / len(y)
    for i in classes:
        below = sum(math.exp(C[i] @ W[j] / tau) for j in classes)
        cluali -= math.log(math.exp(C[i] @ W[i] / tau) / below) / len(classes)
    return cg, clucon, cluali


def build(store=None, sampled=2048, **settings):
    torch.manual_seed(0)
    store = store or RecentFeatures(N, D, slots=12)
    arcface = ArcFace(N, D, S, M)
    torch.nn.init.normal_(arcface.weight)
    loss = ClusterGuided(arcface, store, sampled=sampled, **settings).double()
    for step in range(5):
        g = torch.Generator().manual_seed(step)
        features = torch.randn(10, D, generator=g, dtype=torch.float64) + 0.5
        loss.remember(features, torch.randint(0, N, (10,), generator=g))
    return loss


def example(seed=0):
    g = torch.Generator().manual_seed(100 + seed)
    return torch.randn(6, D, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("sampled", [2048, 6])
def test_the_three_terms_equal_the_definition_written_with_loops(sampled):
    # Catches: φ of the row instead of the column, λ of the image instead of the class, a mean over
    # N instead of M, C or W of the wrong class, a target outside the sampled classes.
    loss, z = build(sampled=sampled), example()
    classes = sample_classes(LABELS, N, sampled, loss.store.updates).tolist()
    C, phi = loss.store.bank.numpy(), loss.store.phi.tolist()
    W = loss.arcface.weight.detach().numpy()
    wanted = slow_terms(z.numpy(), W, LABELS.tolist(), C, phi, classes, 0.07)
    value, logs = loss(z, LABELS)
    found = [logs[name].item() for name in ("cg_arcface", "contrast", "align")]
    assert found == pytest.approx(wanted, abs=1e-6)
    assert value.item() == pytest.approx(wanted[0] + wanted[1] + 0.5 * wanted[2], abs=1e-6)


def test_equal_concentration_is_plain_arcface():
    # Catches: 0/0 where φ_min = φ_max (so at the first step), a margin other than m there.
    loss, z = build(contrast_weight=0.0, align_weight=0.0), example()
    loss.store.phi.fill_(0.3)
    assert loss(z, LABELS)[0].item() == pytest.approx(loss.arcface(z, LABELS)[0].item())
    unguided = build(margin_weight=0.0, contrast_weight=0.0, align_weight=0.0)
    assert unguided(z, LABELS)[0].item() == pytest.approx(loss.arcface(z, LABELS)[0].item())


def test_the_tightest_class_gets_no_margin_and_the_loosest_the_full_one():
    # Catches: λ upside down. This is the literal reading; an outlier sets the scale of all.
    loss = build()
    loss.store.phi.copy_(torch.linspace(0.1, 0.2, N))
    loss.store.phi[-1] = 10.0
    m = loss.margins()
    assert (m[0].item(), m[-1].item()) == pytest.approx((0, M))
    assert m[:-1].max() < 0.006


def test_the_target_follows_arcface_through_its_hard_branch():
    # Catches: a margin tensor that takes the other branch at θ + m = π.
    cos = torch.linspace(-0.999, 0.999, 41, dtype=torch.float64)
    arcface = ArcFace(2, 2, m=0.4)
    assert torch.allclose(cosine_of_sum(cos, torch.full_like(cos, 0.4)), arcface.margin(cos))


def test_the_contrast_trains_the_embedding_and_the_alignment_the_classifier_alone():
    # Catches: a gradient of CluAli at z or of CluCon at W, τ without gradient, a bank in the graph.
    loss, z = build(), example().requires_grad_()
    logs = loss(z, LABELS)[1]
    at = (z, loss.arcface.weight, loss.log_tau)
    for name, touched in (("contrast", (1, 0, 0)), ("align", (0, 1, 1))):
        found = torch.autograd.grad(logs[name], at, retain_graph=True, allow_unused=True)
        assert [int(g is not None and bool(g.norm() > 0)) for g in found] == list(touched)
    assert not any(b.requires_grad for b in loss.store.buffers())


@pytest.mark.parametrize("phi", ["literal", "pcl", "tau0"])
def test_gradients_pass_a_numeric_check(phi):
    # Catches: a detached factor, a temperature outside the graph.
    loss, z = build(phi=phi).eval(), example(1).requires_grad_()
    assert torch.autograd.gradcheck(lambda *_: loss(z, LABELS)[0], (z, *loss.parameters()))


def test_half_precision_embeddings_give_a_finite_fp32_loss():
    # Catches: 1/φ or s times a cosine in half precision.
    loss = build().float()
    value, _ = loss(example().bfloat16().float(), LABELS)
    assert value.dtype == torch.float32
    assert value.isfinite()


def test_pcl_s_temperatures_are_clipped_and_have_the_mean_tau():
    # Catches: clipping after rescaling, percentiles of something else.
    phi = torch.linspace(0.1, 0.9, 101, dtype=torch.float64)
    phi[-1] = 50.0
    found = temperatures_pcl(phi, torch.full((101,), 2), 0.07)
    low, high = np.percentile(phi.numpy(), [10, 90])
    clipped = np.clip(phi.numpy(), low, high)
    assert found.numpy() == pytest.approx(0.07 * clipped / clipped.mean())
    assert found.mean().item() == pytest.approx(0.07)


def test_the_clipped_lambda_has_a_floor_and_ignores_outliers():
    # Catches: the floor added instead of scaled in, an outlier that flattens all others.
    phi = torch.linspace(0.1, 0.9, 101, dtype=torch.float64)
    phi[-1] = 50.0
    share = tightness_clipped(phi, 0.5)
    assert (share.min().item(), share.max().item()) == (0.5, 1.0)
    assert share[50].item() == pytest.approx(0.75, abs=0.01)
    assert tightness_literal(phi)[50] < 0.02
    assert tightness_clipped(torch.full((9,), 0.3), 0.5).tolist() == [1.0] * 9


def test_sampled_classes_hold_the_batch_and_change_with_the_step():
    # Catches: a row whose own class is not among the columns; the same negatives at each step.
    first, second = (sample_classes(LABELS, 1000, 20, seed).tolist() for seed in (1, 2))
    assert set(LABELS.tolist()) <= set(first)
    assert len(set(first)) == 20
    assert first != second
    assert first == sample_classes(LABELS, 1000, 20, 1).tolist()
    assert len(sample_classes(torch.arange(30), 1000, 20, 1)) == 30


def test_learned_temperatures_stay_above_a_hundredth():
    # Catches: τ that falls to 0, where the softmax of CluAli is a step.
    loss = build(phi="tau0")
    for p in (loss.log_tau, loss.log_tau0):
        p.data.fill_(-20.0)
    loss.after_step(0.5)
    assert (loss.log_tau.exp().item(), loss.log_tau0.exp().item()) == pytest.approx((0.01, 0.01))


def test_diagnostics_say_what_the_state_holds():
    # Catches: shares that do not add up to 1, quantiles of another tensor, drift upside down.
    loss = build()
    loss.arcface.weight.data.copy_(loss.store.bank)
    found = loss.diagnostics()
    assert sum(v for k, v in found.items() if k.startswith("queue_")) == pytest.approx(1)
    share_of_ones = (loss.store.labels.bincount(minlength=N) == 1).float().mean().item()
    assert found["queue_1"] == pytest.approx(share_of_ones)
    assert found["phi_q50"] == pytest.approx(loss.store.phi.median().item())
    assert (found["margin_q0"], found["margin_q100"]) == pytest.approx((0, M))
    assert found["bank_cosine"] == pytest.approx(1)


def test_gradient_shares_are_measured_now_and_then():
    # Catches: shares of the unweighted terms, a measurement at each step, none at all.
    loss, z = build(contrast_weight=2.0), example().requires_grad_()
    assert loss(z, LABELS)[1]["share_z_clucon"] == 0
    for _ in range(5):
        loss.remember(example(), LABELS)
    assert loss.store.updates == 10
    _, logs = loss(z, LABELS)

    def norm(term, at):
        return torch.autograd.grad(loss(z, LABELS)[1][term], at)[0].norm().item()

    w = loss.arcface.weight
    for share, others, own in (
        ("share_z_clucon", norm("cg_arcface", z), 2 * norm("contrast", z)),
        ("share_w_cluali", norm("cg_arcface", w), 0.5 * norm("align", w)),
    ):
        assert logs[share].item() == pytest.approx(own / (others + own))


@pytest.mark.parametrize("term", ["center", "triplet"])
def test_center_or_triplet_takes_clucon_s_place(term, monkeypatch):
    # Catches: CluCon computed all the same, the other term without its weight or on unit features.
    monkeypatch.setattr(ClusterGuided, "_contrast", lambda *_: 1 / 0)
    cfg = make_config(
        loss="cluster", cluster_term=term, cluster_contrast=2.0, cluster_align=0.0,
        cluster_phi="tau0", images_per_identity=2, dim=D,
    )  # fmt: skip
    own = {"center": CenterLoss(N, D), "triplet": Triplet()}[term].double()
    loss, labels = build_loss(cfg, N).double(), LABELS.sort()[0]
    for seed in (0, 1):  # the second time, centres have moved
        z = example(seed)
        wanted, arcface = own(z, labels)[0].item(), loss.arcface(z, labels)[0].item()
        value, logs = loss(z, labels)
        assert logs["contrast"].item() == pytest.approx(wanted) and wanted > 0.01
        assert value.item() == pytest.approx(arcface + 2 * wanted)
    assert not hasattr(loss, "log_tau0")


def test_settings_reach_the_loss():
    # Catches: the table building a loss with defaults instead of the config's values.
    cfg = make_config(
        loss="cluster", dim=16, s=20.0, cluster_margin=0.5, cluster_contrast=2.0, tau=0.1,
        cluster_align=0.25, cluster_phi="tau0", cluster_lambda="clipped", cluster_floor=0.3,
        cluster_slots=77, cluster_classes=5, cluster_encoder=0.9, cluster_centre=0.8, seed=3,
    )  # fmt: skip
    loss = build_loss(cfg, 9)
    assert (loss.margin_weight, loss.contrast_weight, loss.align_weight) == (0.5, 2.0, 0.25)
    assert (loss.phi, loss.tightness, loss.floor, loss.sampled) == ("tau0", "clipped", 0.3, 5)
    assert (loss.store.features.shape, loss.store.momentum) == ((77, 16), 0.8)
    assert (loss.encoder_momentum, loss.seed, loss.arcface.s) == (0.9, 3, 20)
    assert loss.log_tau0.exp().item() == pytest.approx(0.1)
    rings = build_loss(cfg.replace(cluster_ring=3), 9).store
    assert isinstance(rings, ClassRings)
    assert rings.features.shape == (10, 3, 16)
