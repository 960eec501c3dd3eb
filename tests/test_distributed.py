"""Two processes of half a batch equal one process of the joint batch, loss by loss.

The workers are started once for the whole file (a process costs about four seconds).
"""

import math
import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

from facelib.distributed import gather, gather_with_grad, launched_ranks, mean_over_ranks
from facelib.losses import build_loss
from facelib.models.foundation import Foundation
from facelib.models.lora import add_adapters
from facelib.rows import LOSS_ROWS
from facelib.runs.launch import free_port
from facelib.training.learner import Learner
from tests.losses.configs import config_of

SETTINGS = {
    "arcface": {},
    "infonce": {},
    "hybrid": {},
    "coreface": {"coreface_warmup": 0.0},
    "coreface-clean": {"coreface_warmup": 0.0, "coreface_mask": "clean"},
    **{name: {} for name in ("cosface", "sphereface", "subcenter", "curricularface", "mv_softmax")},
    **{name: {} for name in ("magface", "adaface", "circle", "center")},
    "elasticface": {"elastic_sigma": 0.0},  # the draws of the margin differ between ranks
    **{name: {"images_per_identity": 2} for name in ("circle_pairs", "supcon", "dcl", "triplet")},
    "infonce-lora": {},
    # By blocks; 5 divides neither the 6 rows of a rank nor the 12 columns.
    **{f"{name}-blocks": {"loss_block": 5} for name in ("infonce", "hybrid")},
    **{f"{name}-blocks": {"loss_block": 5, "images_per_identity": 2} for name in ("supcon", "dcl")},
    "coreface-blocks": {"coreface_warmup": 0.0, "loss_block": 5},
    # Centres drawn, by blocks, or spread over the ranks: 4 on the first, 5 on the second.
    "arcface-drawn": {"sampled_centres": 8},
    "arcface-centre-blocks": {"centre_block": 4},
    **{f"{name}-sharded": {"sharded": True, "coreface_warmup": 0.0}
       for name in ("arcface", "cosface", "sphereface", "hybrid", "coreface", "center")},
    "arcface-drawn-sharded": {"sampled_centres": 8, "sharded": True, "centre_block": 3},
}  # fmt: skip
CLASSES = 9
# Losses with a memory: compared after some steps, with their state.
STATES = {
    "infonce-queue": {"bank": "queue", "bank_slots": 20, "bank_encoder": 0.9},
    "infonce-queue-blocks": {"bank": "queue", "bank_slots": 20, "loss_block": 5},
    "infonce-identity": {"bank": "identity", "bank_centre": 0.5},
    "hybrid-cross_batch": {"bank": "cross_batch", "bank_slots": 30},
    "cluster-queue": {"cluster_slots": 30, "cluster_classes": 15},
    "cluster-short-queue": {"cluster_slots": 5},
    "cluster-rings": {"cluster_ring": 2, "cluster_phi": "pcl", "cluster_lambda": "clipped"},
}
LABELS = torch.arange(6).repeat_interleave(2)  # 6 pairs; each rank gets 3


class Backbone(torch.nn.Linear):
    """A linear layer whose every second view is squashed: dropout that all ranks agree on."""

    views = 0

    def trunk(self, x: torch.Tensor) -> torch.Tensor:
        return self(x)

    def embed(self, h: torch.Tensor) -> torch.Tensor:
        self.views += 1
        return h if self.views % 2 else h.tanh()


class Adapted(torch.nn.Module):
    """A tiny frozen ViT under adapters; it sees each row of numbers as a plain colour."""

    def __init__(self):
        from transformers import Dinov2Config, Dinov2Model

        super().__init__()
        size = {"num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 16}
        encoder = Dinov2Model(Dinov2Config(hidden_size=16, patch_size=8, **size))
        self.model = add_adapters(Foundation("dinov2-vit-b14", encoder), rank=2)
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x[:, :3, None, None].expand(-1, -1, 16, 16))


def learner(name: str) -> Learner:
    torch.manual_seed(0)
    cfg = config_of(name.split("-")[0], dim=4, s=8.0, dropout=0.4, **SETTINGS[name])
    backbone = Adapted() if name.endswith("-lora") else Backbone(5, 4)
    views = LOSS_ROWS[cfg.loss].views
    return Learner(backbone, build_loss(cfg, CLASSES), views).double()


def batch() -> torch.Tensor:
    return torch.randn(12, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def gradients(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    trained = ((k, p) for k, p in module.named_parameters() if p.requires_grad)
    return {k.removeprefix("module."): p.grad.clone() for k, p in trained}


def plain_gather(block: torch.Tensor) -> torch.Tensor:
    """all_gather as many codes use it: no gradient to the other ranks' embeddings."""
    blocks = gather(block.detach()).chunk(2)
    return torch.cat([block if r == dist.get_rank() else b for r, b in enumerate(blocks)])


def detached_infonce_gradient(own: slice) -> dict[str, torch.Tensor]:
    from facelib.losses.parts import pairs

    kept, pairs.gather_with_grad = pairs.gather_with_grad, plain_gather
    wrapped = DistributedDataParallel(learner("infonce"))
    wrapped(batch()[own], LABELS[own])[0].backward()
    pairs.gather_with_grad = kept
    return gradients(wrapped)


def anchored(module: Learner) -> Learner:
    """The learner, which trains on the first two of its images."""
    module.criterion.anchors = 2
    return module


def train_with_state(name: str, own: slice, wrap=lambda module: module) -> dict:
    """Ten steps on this rank's part of the batches: last figures and gradients, and all state."""
    torch.manual_seed(0)
    loss = name.split("-")[0]
    cfg = config_of(loss, dim=4, s=8.0, cluster_encoder=0.9, **STATES[name])
    plain = Learner(Backbone(5, 4), build_loss(cfg, 20)).double()
    wrapped = wrap(plain)
    weights = [p for p in plain.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(weights, lr=0.1)
    for step in range(10):
        g = torch.Generator().manual_seed(step)
        labels = torch.randint(0, 18, (12,), generator=g)
        if loss != "cluster":
            labels = torch.randperm(18, generator=g)[:6].repeat_interleave(2)
        labels = labels[own]
        images = torch.randn(12, 5, generator=g, dtype=torch.float64)[own]
        optimizer.zero_grad()
        loss, logs = wrapped(images, labels)
        loss.backward()
        optimizer.step()
        plain.after_step(step / 10)
    logs = {key: value for key, value in logs.items() if not key.startswith("share_")}
    return {
        "means": mean_over_ranks({"loss": loss, **logs}),
        "gradients": {k: p.grad.clone() for k, p in plain.named_parameters() if p.requires_grad},
        "state": {k: v for k, v in plain.state_dict().items() if not k.endswith("shares")},
    }


def worker(rank: int, port: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    own, found = slice(6 * rank, 6 * rank + 6), {}
    for name in SETTINGS:
        wrapped = DistributedDataParallel(learner(name))
        loss, logs = wrapped(batch()[own], LABELS[own])
        loss.backward()
        means = mean_over_ranks({"loss": loss, **logs})
        state = {k: v.clone() for k, v in wrapped.module.criterion.named_buffers()}
        found[name] = {"means": means, "gradients": gradients(wrapped), "state": state}
    for name in STATES:
        found[name] = train_with_state(name, own, DistributedDataParallel)
    wrapped = DistributedDataParallel(anchored(learner("infonce")))
    wrapped(batch()[own], LABELS[own])[0].backward()
    found["anchored"] = gradients(wrapped)
    found["detached"] = detached_infonce_gradient(own)
    found["gathered"] = gather_with_grad(torch.full((2, 1), float(rank)))
    torch.save(found, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # all is saved; gloo's threads now and then abort the interpreter's own exit


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(worker, (free_port(), str(folder)), nprocs=2)
    return [torch.load(folder / f"{r}.pt", weights_only=False) for r in (0, 1)]


@pytest.mark.parametrize("name", SETTINGS)
def test_two_ranks_equal_one_process(two_ranks, name):
    # Catches: negatives of one rank only, a wrong own column, gradients summed instead of averaged,
    # CoReFace's margin or its labels from one rank only, centres moved by one rank's images,
    # frozen weights that DDP waits for.
    alone = learner(name)
    loss, logs = alone(batch(), LABELS)
    loss.backward()
    for found in two_ranks:
        for key, value in {"loss": loss, **logs}.items():
            assert found[name]["means"][key] == pytest.approx(value.item(), rel=1e-6, abs=1e-6), key
        for key, gradient in gradients(alone).items():
            theirs = found[name]["gradients"][key]
            if len(theirs) < len(gradient):  # a shard
                gradient = gradient[:4] if found is two_ranks[0] else gradient[4:]
            assert torch.allclose(theirs, gradient, atol=1e-8), key
        for key, value in alone.criterion.named_buffers():
            assert torch.allclose(found[name]["state"][key], value, atol=1e-8), key


@pytest.mark.parametrize("name", STATES)
def test_two_ranks_hold_the_memory_of_one_process(two_ranks, name):
    # Catches: features or classes of one rank only, another order of the queue, classes drawn apart
    # on the ranks, an encoder that follows before the step, state that a broadcast makes equal.
    alone = train_with_state(name, slice(0, 12))
    for found in two_ranks:
        for key, value in alone["means"].items():
            assert found[name]["means"][key] == pytest.approx(value, rel=1e-6, abs=1e-6), key
        for key, gradient in alone["gradients"].items():
            assert torch.allclose(found[name]["gradients"][key], gradient, atol=1e-8), key
        for key, tensor in alone["state"].items():
            assert torch.allclose(found[name]["state"][key], tensor, atol=1e-8), key
    first, second = (found[name]["state"] for found in two_ranks)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_centres_are_spread_over_the_ranks(two_ranks):
    # Catches: shards that are whole on each rank, so that the test above compares nothing.
    name = "arcface-drawn-sharded"
    assert [len(r[name]["gradients"]["criterion.weight"]) for r in two_ranks] == [4, 5]


def test_a_gather_without_gradient_would_be_wrong(two_ranks):
    # Shows why facelib owns its gather: the usual all_gather loses what other ranks' losses say.
    alone = learner("infonce")
    alone(batch(), LABELS)[0].backward()
    right = gradients(alone)["backbone.weight"]
    wrong = two_ranks[0]["detached"]["backbone.weight"]
    assert (wrong - right).norm() / right.norm() > 0.01


def test_two_ranks_train_on_the_anchors_of_both(two_ranks):
    # Catches: anchors of one rank alone, another rank's anchors without gradient as columns, a
    # gradient through the other images.
    plain, rows = learner("infonce"), torch.tensor([0, 1, 6, 7])
    z = F.normalize(plain.embed(batch()))
    columns = z.detach().index_copy(0, rows, z[rows])
    logits = z[rows] @ columns.T / plain.criterion.tau
    logits = logits.scatter(1, rows[:, None], -math.inf)
    F.cross_entropy(logits, rows ^ 1).backward()
    for found in two_ranks:
        for key, wanted in gradients(plain).items():
            assert torch.allclose(found["anchored"][key], wanted, rtol=1e-9), key


def test_gather_keeps_rank_order(two_ranks):
    # Catches: blocks in another order on some rank, which would swap partners.
    for found in two_ranks:
        assert found["gathered"].flatten().tolist() == [0, 0, 1, 1]


def test_one_process_gathers_nothing():
    # Catches: a needless copy or a failing collective without a process group.
    block = torch.ones(2, 3, requires_grad=True)
    assert gather_with_grad(block) is block
    assert mean_over_ranks({"a": F.mse_loss(block, block)}) == {"a": 0.0}


def test_ranks_are_joined_only_where_a_launcher_started_them(monkeypatch):
    # Mutation: believing WORLD_SIZE alone, which a cluster job may set for a notebook: it hangs.
    monkeypatch.setenv("WORLD_SIZE", "2")
    with launched_ranks():
        assert not dist.is_initialized()
