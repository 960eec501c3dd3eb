"""Training on the card: precisions, compiled, fused, memory formats, chunks, one rank, resume."""

import copy
import os

import pytest
import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from facelib.config import make_config
from facelib.data.feed import Feed
from facelib.distributed import gather_with_grad
from facelib.runs.launch import free_port, launch
from facelib.training.gradcache import backward_in_chunks
from facelib.training.learner import compile_backbone
from facelib.training.schedule import build_optimizer
from facelib.training.train import load_model, make_accelerator
from tests.gpu.conftest import SIZE, apart, gradients
from tests.losses.test_training import trained
from tests.training.test_train import tiny

HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}
NEAR = {"fp16": 2e-2, "bf16": 1e-1}  # 11 and 8 bits of mantissa through ten layers


def step(module, images, labels, dtype=None):
    """(loss, gradients) of one forward and backward pass."""
    with torch.autocast(images.device.type, dtype=dtype, enabled=dtype is not None):
        loss, _ = module(images, labels)
    loss.backward()
    return loss.item(), gradients(module)


@pytest.mark.parametrize("loss", ["arcface", "infonce", "hybrid"])
@pytest.mark.parametrize("precision", HALF)
def test_half_precision_gives_nearly_the_gradient_of_fp32(precision, loss, learner, batch):
    # Catches: a loss in half precision, a layer that overflows. Below 1e-5: half was not in use.
    wanted = step(learner(loss=loss), *batch)
    found = step(learner(loss=loss), *batch, HALF[precision])
    assert found[0] == pytest.approx(wanted[0], rel=NEAR[precision])
    assert 1e-5 < apart(found[1], wanted[1]) < 3 * NEAR[precision]


@pytest.mark.parametrize("precision", [None, torch.bfloat16], ids=["fp32", "bf16"])
def test_a_compiled_backbone_equals_an_eager_one(precision, card, learner, batch):
    # Catches: a graph break that drops an update, another memory format's kernel.
    wanted = step(learner(), *batch, precision)
    compiled = learner()
    assert compile_backbone(make_config(compile="cuda"), compiled, card)
    found = step(compiled, *batch, precision)
    near = 5e-2 if precision else 1e-3
    assert found[0] == pytest.approx(wanted[0], rel=near) and apart(found[1], wanted[1]) < 2 * near


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_a_fused_optimiser_makes_the_same_steps(optimizer, learner, batch):
    # Catches: a rate, decay or momentum that the fused kernels read in another way.
    weights = []
    for fused in (False, True):
        module, cfg = learner(), make_config(optimizer=optimizer, lr=0.01, fused=fused)
        step(module, *batch)
        made = build_optimizer(cfg, [p for p in module.parameters() if p.requires_grad])
        assert bool(made.defaults["fused"]) is fused
        for _ in range(4):
            made.step()
        weights.append({k: v.float().cpu() for k, v in module.named_parameters()})
    assert apart(weights[1], weights[0]) < 1e-5


def test_tf32_is_on_where_it_is_asked_for(card):
    # Catches: fp32 products in TF32 without being asked, or never.
    if torch.cuda.get_device_capability(card) < (8, 0):
        pytest.skip("TF32 came with Ampere")
    a, distances = torch.randn(512, 512, device=card), []
    exact = a.double() @ a.double()
    for tf32 in (False, True):
        make_accelerator(make_config(tf32=tf32))
        assert torch.backends.cudnn.allow_tf32 is tf32
        distances.append(((a @ a - exact).norm() / exact.norm()).item())
    assert distances[0] < 1e-5 < distances[1] < 1e-2


def test_channels_last_changes_no_gradient(learner, batch):
    # Catches: a layer that reads the other order. Convolutions are summed in another order.
    images, labels = batch
    wanted = step(learner(channels_last=False), images, labels)
    module = learner(channels_last=True)
    assert module.backbone.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    found = step(module, images.contiguous(memory_format=torch.channels_last), labels)
    assert found[0] == pytest.approx(wanted[0], rel=1e-4) and apart(found[1], wanted[1]) < 1e-3


@pytest.mark.parametrize("loss", ["infonce", "arcface"])
@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_chunks_give_the_gradient_of_the_whole_batch(precision, loss, learner, batch):
    # Catches: gradients that the scaler never scaled, weights cached without a graph.
    made, found = Accelerator(mixed_precision=precision), []
    for chunk in (0, 6):
        module = made.prepare(learner(loss=loss))
        module.backbone.eval() if hasattr(module, "backbone") else module.module.backbone.eval()
        if chunk:
            value, _ = backward_in_chunks(made, module, *batch, chunk)
        else:
            value, _ = module(*batch)
            made.backward(value)
        found.append((value.item(), gradients(module)))
    near = 1e-4 if precision == "no" else 5e-2
    assert found[1][0] == pytest.approx(found[0][0], rel=near)
    assert apart(found[1][1], found[0][1]) < near


def test_a_replay_draws_the_dropout_of_the_first_pass(learner, batch):
    # Catches: the card's random state not kept; the gradient is then that of other masks.
    made, images, labels = Accelerator(), *batch
    chunks, by_hand = learner(dropout=0.4), learner(dropout=0.4)
    for module in (chunks, by_hand):
        module.backbone.eval(), module.backbone.dropout.train()
    torch.manual_seed(5)
    backward_in_chunks(made, chunks, images, labels, 6)
    torch.manual_seed(5)
    z = torch.cat([by_hand.embed(part) for part in images.split(6)])
    by_hand.loss(z, labels)[0].backward()
    assert apart(gradients(chunks), gradients(by_hand)) < 1e-4


@pytest.fixture
def one_rank(card):
    """A process group of this process alone, over NCCL."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    dist.init_process_group("nccl", rank=0, world_size=1, device_id=torch.device("cuda", 0))
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("changes", [{"loss": "infonce"}, {"loss": "arcface", "sharded": True}],
                         ids=["gathered", "sharded"])  # fmt: skip
def test_one_rank_over_nccl_equals_no_group(changes, one_rank, learner, batch):
    # Catches: collectives on tensors of the CPU, which gloo takes and NCCL does not.
    images, labels = batch
    module = learner(**changes)
    wanted = step(copy.deepcopy(module), images, labels)
    found = step(DistributedDataParallel(module), images, labels)
    assert found[0] == pytest.approx(wanted[0], rel=1e-5)
    assert apart({k.removeprefix("module."): v for k, v in found[1].items()}, wanted[1]) < 1e-4
    total = labels.float()
    dist.all_reduce(total)
    assert torch.equal(total, labels.float()) and torch.equal(gather_with_grad(images), images)


def test_batchnorm_over_one_rank_is_batchnorm(one_rank, learner, batch):
    # Catches: statistics of another set of images, a layer that conversion leaves out.
    wanted = step(learner(loss="arcface"), *batch)
    module = nn.SyncBatchNorm.convert_sync_batchnorm(learner(loss="arcface"))
    assert not any(type(m) in (nn.BatchNorm1d, nn.BatchNorm2d) for m in module.modules())
    found = step(DistributedDataParallel(module), *batch)
    assert found[0] == pytest.approx(wanted[0], rel=1e-4)
    assert apart({k.removeprefix("module."): v for k, v in found[1].items()}, wanted[1]) < 1e-3


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_six_steps_and_six_more_are_twelve(precision, tiny_records, runs_folder):
    # Catches: the scaler's scale, momentum or the card's random numbers missing in the checkpoint.
    # Kernels may sum in any order, so that the two are near each other and not equal.
    same = {"dropout": 0.3, "save_every": 6, "val_fraction": 0.0, "compile": "never", **SIZE,
            "images_seen": 12 * SIZE["global_batch"], "precision": precision}  # fmt: skip
    whole = trained(tiny(tiny_records, name="whole", **same), 12)
    first = trained(tiny(tiny_records, name="parts", **same), 6)
    half = {k: v.float().cpu() for k, v in first.plain_learner.named_parameters()}
    second = trained(tiny(tiny_records, name="parts", **same), 12)
    ends = [{k: v.detach().float().cpu() for k, v in t.plain_learner.named_parameters()}
            for t in (whole, second)]  # fmt: skip
    way = apart(half, ends[0])
    assert (first.step, second.step) == (6, 12) and way > 0
    assert apart(ends[1], ends[0]) < 2e-2 * way


def test_batches_on_the_card_are_those_of_the_cpu(card, tiny_records):
    # Catches: a slot of the loader refilled before its copy has arrived.
    cfg = tiny(tiny_records, workers=2, images_seen=320)
    sides = [Feed(cfg, device).batches(0, 12) for device in (card, torch.device("cpu"))]
    for (images, labels), (wanted, names) in zip(*sides):
        assert images.device.type == card.type and labels.tolist() == names.tolist()
        assert torch.allclose(images.cpu(), wanted, atol=1e-6)


def test_a_run_on_the_card_learns_and_its_model_is_the_same_on_a_cpu(
    card, tiny_records, runs_folder
):
    # Catches: the launcher's process on the CPU, peak memory that is not the card's, a checkpoint
    # that only a GPU can read.
    fast = {"precision": "bf16", "compile": "never"}
    run = launch(tiny(tiny_records, loss="infonce", images_seen=1600, **fast))
    losses = run.metrics()["loss"].dropna()
    assert losses.iloc[-10:].mean() < losses.iloc[:10].mean() - 0.3
    assert run.metrics()["peak_memory_mb"].dropna().iloc[-1] > 0
    model, _ = load_model(run.path)
    images = torch.randn(4, 3, 16, 16)
    with torch.inference_mode():
        wanted, found = model(images), copy.deepcopy(model).to(card)(images.to(card)).cpu()
    assert torch.allclose(found, wanted, atol=1e-3 * wanted.abs().max().item())
