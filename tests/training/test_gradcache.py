"""A batch in chunks is the step of the whole batch. Ranks and resume: tests/test_train.py."""

import contextlib
import math
import re

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from facelib.config import make_config, parse_settings
from facelib.errors import UserError
from facelib.training.gradcache import backward_in_chunks, embed_in_chunks
from facelib.training.learner import build_learner

SETTINGS = {"width": 4, "image_size": 16, "dim": 8, "global_batch": 12}


@pytest.fixture
def accelerator():
    """Makes the accelerator of this process, which remembers its precision until it is reset."""
    AcceleratorState._reset_state(True)
    yield lambda precision="no": Accelerator(cpu=precision != "fp16", mixed_precision=precision)
    AcceleratorState._reset_state(True)


def learner(loss="infonce", train_batchnorm=False, **changes):
    """A small network with unequal running statistics; BatchNorm in eval mode unless asked."""
    size = {"images_per_identity": 2} if loss == "supcon" else {}
    built = build_learner(make_config(loss=loss, **SETTINGS, **size, **changes), 6).train()
    for module in built.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train(train_batchnorm)
            module.running_mean.normal_(0, 0.1)
    return built


def in_fp64(module):
    """The same learner in fp64, its last layers too (the network keeps them in fp32)."""
    for network in (module.backbone, *([module.encoder.network] if module.encoder else [])):
        network.embed = lambda h, n=network: n.features(n.fc(n.dropout(h)))
    return module.double()


def batch(dtype=torch.float32):
    g = torch.Generator().manual_seed(1)
    images = torch.randn(12, 3, 16, 16, generator=g, dtype=torch.float64)
    return images.to(dtype), torch.arange(6).repeat_interleave(2)


def gradients(module):
    return {k: p.grad for k, p in module.named_parameters() if p.grad is not None}


def compare(found, wanted, near):
    assert found.keys() == wanted.keys()
    for key, gradient in wanted.items():
        assert (found[key] - gradient).norm() <= near * gradient.norm() + 1e-12, key


CASES = ["infonce", "hybrid", "supcon", "arcface", "cluster", "center"]


@pytest.mark.parametrize("chunk", [2, 4, 12])
@pytest.mark.parametrize("loss", CASES)
def test_chunks_give_the_gradient_of_the_whole_batch(loss, chunk, accelerator):
    # Catches: negatives of a chunk only, a chunk left out or counted twice, centres, learned
    # temperatures or a memory that miss the batch, or see it more than once.
    whole, parts = in_fp64(learner(loss)), in_fp64(learner(loss))
    images, labels = batch(torch.float64)
    expected, logs = whole(images, labels)
    (expected / 2).backward()
    value, found = backward_in_chunks(accelerator(), parts, images, labels, chunk, 1 / 2)
    assert value.item() == pytest.approx(expected.item())
    assert {k: v.item() for k, v in found.items()} == pytest.approx(
        {k: v.item() for k, v in logs.items()}
    )
    compare(gradients(parts), gradients(whole), 1e-10)
    for key, tensor in whole.state_dict().items():
        assert torch.allclose(parts.state_dict()[key], tensor), key


@pytest.mark.parametrize(("loss", "live"), [("infonce", True), ("coreface", False)])
def test_dropout_and_batch_statistics_are_those_of_chunks_with_their_graph(loss, live, accelerator):
    # Catches: other masks in the replay, views mixed up between chunks, running statistics that
    # move in the first pass too, random numbers of the next step that repeat this one's.
    same = {"dropout": 0.4}
    if loss == "coreface":
        same |= {"coreface_warmup": 0.0, "coreface_weight": 1.0}
    kept, parts = (in_fp64(learner(loss, train_batchnorm=live, **same)) for _ in range(2))
    images, labels = batch(torch.float64)
    torch.manual_seed(5)
    z = torch.cat([kept.embed(p).unflatten(0, (kept.views, -1)) for p in images.split(4)], 1)
    kept.loss(z.flatten(0, 1), labels)[0].backward()
    after = torch.get_rng_state()
    torch.manual_seed(5)
    backward_in_chunks(accelerator(), parts, images, labels, 4)
    assert torch.equal(torch.get_rng_state(), after)
    compare(gradients(parts), gradients(kept), 1e-10)
    for key, tensor in kept.state_dict().items():
        assert torch.allclose(parts.state_dict()[key], tensor, atol=1e-12), key


def test_a_step_in_chunks_leaves_the_random_numbers_of_the_loss_behind_it(accelerator):
    # Catches: draws of the loss (ElasticFace's margins) that the next step's dropout repeats.
    parts = learner("elasticface", dropout=0.4)
    images, labels = batch()
    torch.manual_seed(0)
    z, _, states = embed_in_chunks(parts, images, 4)
    parts.loss(z, labels)
    after = torch.get_rng_state()
    assert len(states) == 3
    torch.manual_seed(0)
    backward_in_chunks(accelerator(), parts, images, labels, 4)
    assert torch.equal(torch.get_rng_state(), after)


def test_live_batch_statistics_of_chunks_are_another_step(accelerator):
    # Shows why freeze_batchnorm is needed for exactness: the gradient is off by a third and more.
    whole, parts = learner(train_batchnorm=True), learner(train_batchnorm=True)
    whole(*batch())[0].backward()
    backward_in_chunks(accelerator(), parts, *batch(), 4)
    a, b = (m.backbone.fc.weight.grad for m in (whole, parts))
    assert (a - b).norm() > 0.3 * a.norm()


def test_gradients_are_reduced_in_the_last_replay_alone():
    # Catches: an all-reduce a chunk, or none; a micro-batch that is not the last one and reduces.
    class Counting:
        def __init__(self):
            self.skipped, self.backwards = 0, 0

        unwrap_model, autocast = staticmethod(lambda m: m), staticmethod(contextlib.nullcontext)

        @contextlib.contextmanager
        def no_sync(self, module):
            self.skipped += 1
            yield

        def backward(self, value):
            self.backwards += 1
            value.backward()

    for sync, skipped in ((True, 2), (False, 3)):
        counting = Counting()
        backward_in_chunks(counting, learner(), *batch(), 4, sync=sync)
        assert (counting.backwards, counting.skipped) == (3, skipped)
    counting = Counting()
    backward_in_chunks(counting, learner(anchors=8, chunk=4), *batch(), 4, anchors=8)
    assert (counting.backwards, counting.skipped) == (2, 1)


def test_anchors_get_the_gradient_of_their_own_rows_and_the_others_none(accelerator):
    # Catches: rows of the others in the loss, a gradient through a negative, chunks that are
    # replayed for nothing, running statistics of the others.
    parts, kept = (in_fp64(learner(anchors=4, chunk=4)) for _ in range(2))
    images, labels = batch(torch.float64)
    z = F.normalize(kept.embed(images))
    columns = torch.cat([z[:4], z[4:].detach()])
    logits = (z[:4] @ columns.T / 0.07).masked_fill(torch.eye(4, 12, dtype=torch.bool), -math.inf)
    expected = F.cross_entropy(logits, torch.tensor([1, 0, 3, 2]))
    expected.backward()
    value, logs = backward_in_chunks(accelerator(), parts, images, labels, 4, anchors=4)
    assert value.item() == pytest.approx(expected.item()) and logs["negatives"] == 10
    compare(gradients(parts), gradients(kept), 1e-10)


@pytest.mark.parametrize("block", [0, 4])
def test_anchors_are_the_same_with_and_without_chunks_and_blocks(block, accelerator):
    whole, parts = (in_fp64(learner(anchors=8, chunk=4, loss_block=b)) for b in (0, block))
    images, labels = batch(torch.float64)
    expected = whole(images, labels)[0]
    expected.backward()
    value, _ = backward_in_chunks(accelerator(), parts, images, labels, 4, anchors=8)
    assert value.item() == pytest.approx(expected.item())
    compare(gradients(parts), gradients(whole), 1e-9)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_gives_the_gradient_of_the_whole_batch(precision, accelerator):
    # Catches: half-precision weights cached without a graph in the first pass (no gradient at all),
    # a loss in half precision, gradients that the scaler never scaled.
    if precision == "fp16" and not torch.cuda.is_available():
        pytest.skip("fp16 needs CUDA")
    made, found = accelerator(precision), []
    for chunk in (0, 4):
        module = made.prepare(learner("hybrid"))
        images, labels = (x.to(made.device) for x in batch())
        if chunk:
            loss, _ = backward_in_chunks(made, module, images, labels, chunk)
        else:
            loss, _ = module(images, labels)
            made.backward(loss)
        found.append((loss.item(), gradients(module)))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-2)
    compare(found[1][1], found[0][1], 5e-2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chunk": 5}, "a process embeds 64 images.*of two or more: use 2, 4, 8"),
        ({"chunk": 48, "processes": 2}, "a process embeds 32 images .*: use 8, 16, 32"),
        ({"chunk": 128}, "use 16, 32, 64, or 0 for all at once"),
        ({"chunk": 2, "loss": "supcon"}, "whole groups of 4: use 4, 8, 16"),
        ({"chunk": 2, "global_batch": 2, "processes": 2}, "use 0, or 0 for all at once"),
        ({"chunk": -1}, "chunk=-1: must be at least 0"),
        ({"loss_block": 64}, "loss='arcface' has no such setting"),
        ({"anchors": 16, "chunk": 16}, "anchors=16: loss='arcface' has no such setting"),
        ({"anchors": 16, "loss": "infonce"}, "use anchors=16 chunk=16, or anchors=0"),
        ({"anchors": 24, "chunk": 16, "loss": "infonce"}, "use anchors=16 chunk=16"),
        ({"anchors": 64, "chunk": 16, "loss": "infonce"}, "fewer than the 64 images of a process"),
    ],
)
def test_a_chunk_that_does_not_fit_is_one_clear_error(changes, message):
    # Catches: unequal chunks, a pair cut in two, a setting that would silently do nothing.
    with pytest.raises(UserError, match=message):
        make_config(**changes)


@pytest.mark.parametrize("given", [{"anchors": 3}, {"anchors": 64, "chunk": 32}, {"anchors": 200},
                                   {"anchors": 40, "chunk": 16, "processes": 2}])  # fmt: skip
def test_advised_anchors_are_taken(given):
    # Catches: advice that is refused in turn, as chunks of three images.
    with pytest.raises(UserError, match="use anchors=") as refused:
        make_config(loss="infonce", **given)
    advice = re.search(r"use (anchors=\d+ chunk=\d+)", str(refused.value))[1]
    assert make_config(loss="infonce", **given | parse_settings(advice.split())).anchors > 1


def test_runs_without_chunks_and_blocks_keep_their_folders():
    # Catches: two new settings that move every earlier run to another folder.
    base = make_config(loss="infonce")
    assert base.replace(chunk=0, loss_block=0).digest() == base.digest()
    assert len({base.replace(**{k: 32}).digest() for k in ("chunk", "loss_block")}) == 2
