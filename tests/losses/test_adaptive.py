"""CurricularFace, MV-Softmax, MagFace, AdaFace, ElasticFace: naive references, limits, state.

Gradients, precision and state of every loss: test_every_loss.py; ranks: test_distributed.py.
"""

import math

import numpy as np
import pytest
import torch

from facelib.config import make_config
from facelib.losses import build_loss
from facelib.losses.adaface import AdaFace
from facelib.losses.arcface import ArcFace
from facelib.losses.cosface import CosFace
from facelib.losses.curricularface import CurricularFace
from facelib.losses.elasticface import ElasticFace
from facelib.losses.magface import MagFace
from facelib.losses.mv_softmax import MVSoftmax
from tests.losses.test_arcface import example
from tests.losses.test_margin import cosines_of, naive_softmax


def same_centres(*losses):
    """The losses in float64, all with the first one's centres."""
    for loss in losses[1:]:
        loss.weight.data = losses[0].weight.detach().clone()
    return [loss.double() for loss in losses]


def arc(m):
    """Target of ArcFace as a function of (row, cosine); m a number or one a row."""

    def target(i, c):
        own = m if isinstance(m, float) else m[i]
        inside = math.acos(c) + own < math.pi
        return math.cos(math.acos(c) + own) if inside else c - own * math.sin(math.pi - own)

    return target


def test_curricularface_equals_the_equations_written_with_loops_step_after_step():
    # Catches: c moved after the loss, a mean over negatives, hard and easy negatives swapped.
    loss, c = CurricularFace(5, 6, 16.0, 0.3, rate=0.2).double(), 0.0
    for seed in range(3):
        z, labels = example(seed)
        cosines = cosines_of(z, loss.weight.detach())
        c = 0.8 * c + 0.2 * np.mean([row[y] for row, y in zip(cosines, labels.tolist())])
        naive = naive_softmax(
            cosines, labels.tolist(), 16.0, arc(0.3),
            lambda cosine, t, c=c: cosine * (c + cosine) if cosine > t else cosine,
        )  # fmt: skip
        assert loss(z, labels)[0].item() == pytest.approx(naive)
        assert loss.c.item() == pytest.approx(c)


def test_curricularface_without_hard_negatives_is_arcface():
    # Catches: easy negatives that are reweighted.
    z, labels = torch.eye(4, dtype=torch.float64), torch.arange(4)
    loss, arcface = same_centres(CurricularFace(4, 4, 16.0, 0.3), ArcFace(4, 4, 16.0, 0.3))
    for each in (loss, arcface):
        each.weight.data = z.clone()
    value, logs = loss(z, labels)
    assert value.item() == pytest.approx(arcface(z, labels)[0].item())
    assert logs["hard_negatives"].item() == 0


def test_mv_softmax_equals_the_equations_written_with_loops_and_one_is_cosface():
    # Catches: the weight on easy negatives, the margin left out of the comparison.
    z, labels = example()
    for t in (1.0, 1.12, 1.4):
        loss, cosface = same_centres(MVSoftmax(5, 6, 16.0, 0.35, t), CosFace(5, 6, 16.0, 0.35))
        naive = naive_softmax(
            cosines_of(z, loss.weight.detach()), labels.tolist(), 16.0, lambda i, c: c - 0.35,
            lambda c, target, t=t: c + (t - 1) * (c + 1) if c > target else c,
        )  # fmt: skip
        value = loss(z, labels)[0].item()
        assert value == pytest.approx(naive)
        assert (value == pytest.approx(cosface(z, labels)[0].item())) == (t == 1.0)


@pytest.mark.parametrize("branch", ["hard", "easy"])
def test_magface_equals_the_equations_written_with_loops(branch):
    # Catches: margins that fall with the norm, a clamp left out, a sum of g instead of a mean.
    z, labels = example()
    z = z * torch.linspace(1, 120, len(z), dtype=torch.float64)[:, None]
    loss = MagFace(5, 6, 16.0, 0.2, 0.5, weight=35.0, branch=branch).double()
    norms = z.norm(dim=1).clamp(10, 110).tolist()
    margins = [0.2 + 0.3 * (a - 10) / 100 for a in norms]
    with_margin = arc(margins)
    target = lambda i, c: c if branch == "easy" and c <= 0 else with_margin(i, c)  # noqa: E731
    naive = naive_softmax(cosines_of(z, loss.weight.detach()), labels.tolist(), 16.0, target)
    naive += 35 * np.mean([a / 110**2 + 1 / a for a in norms])
    assert loss(z, labels)[0].item() == pytest.approx(naive)


def test_magface_with_one_margin_and_no_pull_is_arcface():
    # Catches: a regulariser that cannot be switched off.
    z, labels = example(1)
    magface = MagFace(5, 6, 16.0, 0.3, 0.3, 0.0, branch="hard")
    loss, arcface = same_centres(magface, ArcFace(5, 6, 16.0, 0.3))
    assert loss(z, labels)[0].item() == pytest.approx(arcface(z, labels)[0].item())


def test_magface_pulls_the_norm_up_inside_its_range():
    # Catches: g with the wrong sign, or a detached norm: descent must lengthen z.
    loss = MagFace(2, 2, low=0.0, high=0.0).double()
    loss.weight.data = torch.eye(2, dtype=torch.float64)
    z = torch.tensor([[20.0, 0.0]], dtype=torch.float64, requires_grad=True)
    loss(z, torch.tensor([0]))[0].backward()
    assert z.grad[0, 0].item() == pytest.approx(35 * (1 / 110**2 - 1 / 20**2), rel=1e-6)


def naive_adaface(cosines, norms, labels, mean, std, m=0.4, h=0.333):
    """(loss at s = 16) from the running statistics of this step."""
    quality = [max(-1.0, min(1.0, h * (a - mean) / (std + 1e-3))) for a in norms]

    def target(i, c):
        theta = min(max(math.acos(c) - m * quality[i], 1e-3), math.pi - 1e-3)
        return math.cos(theta) - m * (quality[i] + 1)

    return naive_softmax(cosines, labels, 16.0, target)


def test_adaface_equals_the_equations_written_with_loops_step_after_step():
    # Catches: signs of the two margins swapped, statistics of one step only, a biased deviation.
    loss, mean, std = AdaFace(5, 6, 16.0, rate=0.5).double(), 20.0, 100.0
    for seed in range(4):
        z, labels = example(seed)
        z = z * torch.linspace(1, 12, len(z), dtype=torch.float64)[:, None]
        norms = z.norm(dim=1).tolist()
        mean, std = 0.5 * (mean + np.mean(norms)), 0.5 * (std + np.std(norms, ddof=1))
        naive = naive_adaface(
            cosines_of(z, loss.weight.detach()), norms, labels.tolist(), mean, std
        )
        assert loss(z, labels)[0].item() == pytest.approx(naive)
        assert (loss.mean.item(), loss.std.item()) == pytest.approx((mean, std))


@pytest.mark.parametrize(("norm", "m_arc", "m_cos"), [(1.0, 0.4, 0.0), (99.0, -0.4, 0.8)])
def test_adaface_gives_poor_images_arcface_s_margin_and_good_ones_more(norm, m_arc, m_cos):
    # Catches: quality turned round. Extreme norms: q = −1 is ArcFace, q = 1 is θ − m and 2m.
    z, labels = example()
    z = torch.nn.functional.normalize(z) * norm
    loss = AdaFace(5, 6, 16.0, h=1e6).double().eval()
    loss.mean.fill_(50.0), loss.std.fill_(1.0)
    cosines = cosines_of(z, loss.weight.detach())
    bounded = lambda theta: min(max(theta, 1e-3), math.pi - 1e-3)  # noqa: E731
    target = lambda i, c: math.cos(bounded(math.acos(c) + m_arc)) - m_cos  # noqa: E731
    naive = naive_softmax(cosines, labels.tolist(), 16.0, target)
    assert loss(z, labels)[0].item() == pytest.approx(naive)


def test_adaface_at_h_zero_is_cosface_and_its_norm_carries_no_gradient():
    # Catches: a network that is taught to shrink norms because that lowers the margin.
    z, labels = example(1)
    loss, cosface = same_centres(AdaFace(5, 6, 16.0, h=0.0), CosFace(5, 6, 16.0, 0.4))
    assert loss(z, labels)[0].item() == pytest.approx(cosface(z, labels)[0].item())
    z.requires_grad_()
    AdaFace(5, 6, 16.0, h=0.333).double()(z, labels)[0].backward()
    assert torch.allclose((z * z.grad).sum(1), torch.zeros(len(z), dtype=torch.float64), atol=1e-12)


def test_elasticface_draws_a_margin_for_each_image_of_a_training_batch():
    # Catches: one draw for the whole batch, a spread of σ² instead of σ, draws in eval mode.
    loss = ElasticFace(2, 2, m=0.5, sigma=0.1).double()
    theta = torch.full((20_000,), 1.0, dtype=torch.float64)
    torch.manual_seed(0)
    margins = loss.margin(theta.cos()).acos() - theta
    assert margins.mean().item() == pytest.approx(0.5, abs=0.005)
    assert margins.std().item() == pytest.approx(0.1, rel=0.03)
    assert loss.eval().margin(theta.cos()).acos().std().item() < 1e-12


@pytest.mark.parametrize("branch", ["hard", "none", "easy"])
def test_elasticface_without_spread_is_arcface_on_every_branch(branch):
    # Catches: a branch that differs between one margin and a margin of each image.
    theta = torch.linspace(0.01, math.pi - 0.01, 500, dtype=torch.float64)
    elastic = ElasticFace(2, 2, m=0.5, sigma=0.0, branch=branch)
    arcface = ArcFace(2, 2, m=0.5, branch=branch)
    assert torch.allclose(elastic.margin(theta.cos()), arcface.margin(theta.cos()), atol=1e-12)
    assert ElasticFace(2, 2).branch == "none"


def test_settings_reach_the_losses():
    # Catches: the table building a loss with defaults instead of the config's values.
    def build(name, **changes):
        return build_loss(make_config(loss=name, s=20.0, dim=16, **changes), 9)

    assert build("curricularface").m == 0.5
    assert (build("mv_softmax", mv_t=1.3).t, build("mv_softmax").m) == (1.3, 0.35)
    mag = build("magface", magface_low=0.1, magface_high=0.2, magface_weight=3.0)
    assert (mag.low, mag.high, mag.norm_weight) == (0.1, 0.2, 3)
    assert (build("adaface", adaface_h=0.5).h, build("adaface").m) == (0.5, 0.4)
    assert (build("elasticface", elastic_sigma=0.05).sigma, build("elasticface").s) == (0.05, 20)
    assert (build("magface").branch, build("elasticface").branch) == ("easy", "none")
    assert build("elasticface", branch="hard").branch == build("arcface").branch == "hard"
