"""The classifier's softmax by blocks equals the whole matrix. Ranks: tests/test_distributed.py."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from facelib.errors import UserError
from facelib.losses import build_loss
from facelib.losses.arcface import ArcFace
from facelib.losses.scale.sharded import Shard, own_shard
from tests.losses.configs import WITH_SPLIT_CENTRES, config_of

CLASSES, DIM = 11, 6


def build(name, **changes):
    torch.manual_seed(0)
    start = {"coreface_warmup": 0.0, **changes}
    cfg = config_of(name, dim=DIM, s=8.0, m=0.3, **start)
    return build_loss(cfg, CLASSES).double()


def example(name):
    g = torch.Generator().manual_seed(1)
    z = torch.randn(16, DIM, generator=g, dtype=torch.float64)
    pairs = torch.randperm(CLASSES, generator=g)[:8]
    return z, pairs.repeat(2) if name == "coreface" else pairs.repeat_interleave(2)


def run(loss, z, labels):
    z = z.clone().requires_grad_()
    value, logs = loss(z, labels)
    value.backward()
    return value.detach(), logs, z.grad, {k: p.grad for k, p in loss.named_parameters()}


@pytest.mark.parametrize("changes", [{"centre_block": 1}, {"centre_block": 4}, {"sharded": True},
                                     {"centre_block": 4, "sampled_centres": 9}])  # fmt: skip
@pytest.mark.parametrize("name", WITH_SPLIT_CENTRES)
def test_blocks_equal_the_whole_matrix(name, changes):
    # Catches: the own centre in the sum of the others, a short last block, a margin left out,
    # weights whose gradient misses the target's column, another draw of centres.
    whole = build(name, sampled_centres=changes.get("sampled_centres", 0))
    split = build(name, **changes)
    z, labels = example(name)
    expected, logs, at_z, at_weights = run(whole, z, labels)
    value, found, gradient, weights = run(split, z, labels)
    assert abs(value - expected) < 1e-10 * max(1, abs(expected))
    assert (gradient - at_z).abs().max() < 1e-10
    for key, wanted in at_weights.items():
        assert (weights[key] - wanted).abs().max() < 1e-10, key
    assert found.keys() == logs.keys()
    for key, figure in logs.items():
        assert found[key].item() == pytest.approx(figure.item(), rel=1e-9, abs=1e-12), key


def test_gradient_of_the_blocks_passes_a_numeric_check():
    # Catches: an error that blocks and whole matrix share.
    loss = build("arcface", centre_block=4)
    z, labels = example("arcface")
    assert torch.autograd.gradcheck(lambda x: loss(x, labels)[0], z.requires_grad_())


def test_blocks_never_hold_the_logits():
    # Catches: a (B, N) tensor anywhere in forward or backward, by the largest tensor that is made.
    class Largest(TorchDispatchMode):
        seen = 0

        def __torch_dispatch__(self, function, types, arguments=(), named=None):
            found = function(*arguments, **(named or {}))
            if isinstance(found, torch.Tensor):
                self.seen = max(self.seen, found.numel())
            return found

    loss = ArcFace(2000, 8, block=64)
    z, labels = torch.randn(256, 8, requires_grad=True), torch.arange(256)
    with Largest() as largest:
        loss(z, labels)[0].backward()
    assert largest.seen <= max(32 * 2000, 2000 * 8, 64 * 64)  # 32 rows: the effective number


def test_blocks_are_fp32_for_half_precision_embeddings():
    # Catches: sums of exponentials in half precision.
    value, logs = ArcFace(5, 6, block=2)(torch.randn(8, 6).bfloat16(), torch.arange(8) % 5)
    assert value.dtype == torch.float32 and value.isfinite()
    assert all(v.dtype == torch.float32 for v in logs.values())


@pytest.mark.parametrize(("total", "dim", "ranks"), [(50_001, 12, 3), (11, 6, 4), (40_000, 16, 1)])
def test_shards_together_are_the_draw_of_one_process(total, dim, ranks):
    # Catches: weights that depend on the number of processes, a random state that goes on apart.
    torch.manual_seed(3)
    expected = torch.nn.init.normal_(torch.empty(total, dim), std=0.01)
    after = torch.rand(1)
    parts = []
    for rank in range(ranks):
        torch.manual_seed(3)
        shard = Shard(total * rank // ranks, total * (rank + 1) // ranks, total)
        parts.append(shard.normal(dim, 0.01))
        assert torch.rand(1).equal(after)
    assert torch.cat(parts).equal(expected)


def test_fewer_identities_than_processes_are_refused(monkeypatch):
    # Catches: an empty shard, which fails at its first image with an index error.
    monkeypatch.setattr("facelib.losses.scale.sharded.world_size", lambda: 4)
    with pytest.raises(UserError, match="3 identities do not fill 4 processes"):
        own_shard(3)
