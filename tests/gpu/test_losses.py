"""Losses on the card: as on the CPU, and by blocks as the whole matrix, in less memory."""

import pytest
import torch

from facelib.losses import build_loss
from facelib.rows import LOSS_ROWS
from tests.losses.configs import ON_GROUPS, WITH_BLOCKS, WITH_SPLIT_CENTRES, config_of

BATCH, DIM, CLASSES = 48, 32, 50


def build(name, **changes):
    """(loss, embeddings, labels) on the CPU."""
    torch.manual_seed(0)
    size = {"images_per_identity": 2} if name in ON_GROUPS else {}
    cfg = config_of(
        name, dim=DIM, s=16.0, coreface_warmup=0.0, elastic_sigma=0.0, **size, **changes
    )
    views = LOSS_ROWS[name].views
    z = torch.randn(BATCH * views, DIM)
    labels = torch.randperm(CLASSES)[: BATCH // 2].repeat_interleave(2).repeat(views)
    return build_loss(cfg, CLASSES), z, labels


def value_and_gradients(loss, z, labels):
    z = z.detach().clone().requires_grad_()
    value, logs = loss(z, labels)
    value.backward()
    assert all(figure.device.type == z.device.type for figure in logs.values())
    weights = [p.grad.flatten() for p in loss.parameters() if p.grad is not None]
    return value.detach().cpu().double(), torch.cat([z.grad.flatten(), *weights]).cpu().double()


def equal(found, wanted, near):
    assert found[0].item() == pytest.approx(wanted[0].item(), rel=near)
    assert (found[1] - wanted[1]).norm() <= near * wanted[1].norm()


@pytest.mark.parametrize("name", LOSS_ROWS)
def test_a_loss_in_fp32_on_the_card_is_that_of_fp64_on_the_cpu(name, card):
    # Catches: state or draws left on the CPU, a kernel that rounds to TF32, sums in another dtype.
    wanted = value_and_gradients(build(name)[0].double().eval(), *_double(build(name)))
    loss, z, labels = build(name)
    found = value_and_gradients(loss.to(card).eval(), z.to(card), labels.to(card))
    equal(found, wanted, 1e-4)


def _double(built):
    return built[1].double(), built[2]


@pytest.mark.parametrize("block", [7, 32])
@pytest.mark.parametrize("name", WITH_BLOCKS)
def test_contrast_by_blocks_equals_the_matrix_on_the_card(name, block, card):
    # Catches: blocks whose in-place products or masks differ between devices.
    sides = []
    for size in (0, block):
        loss, z, labels = build(name, loss_block=size)
        sides.append(value_and_gradients(loss.to(card), z.to(card), labels.to(card)))
    equal(sides[1], sides[0], 1e-5)


@pytest.mark.parametrize("changes", [{}, {"sampled_centres": 40}], ids=["all", "drawn"])
@pytest.mark.parametrize("name", WITH_SPLIT_CENTRES)
def test_centres_by_blocks_equal_the_matrix_on_the_card(name, changes, card):
    # Catches: ids, places or drawn centres on the CPU.
    sides = []
    for size in (0, 7):
        loss, z, labels = build(name, centre_block=size, **changes)
        torch.manual_seed(3)
        sides.append(value_and_gradients(loss.to(card), z.to(card), labels.to(card)))
    equal(sides[1], sides[0], 1e-5)


@pytest.mark.parametrize(
    ("name", "setting"), [("infonce", "loss_block"), ("arcface", "centre_block")]
)
def test_blocks_take_a_quarter_of_the_matrix_s_memory(name, setting, card):
    # Catches: a matrix that is held after all. 8,192 × 8,192 numbers are 256 MB.
    peaks, labels = [], torch.arange(4096, device=card).repeat_interleave(2)
    for size in (0, 512):
        loss = build_loss(config_of(name, dim=DIM, **{setting: size}), 8192).to(card)
        z = torch.randn(8192, DIM, device=card, requires_grad=True)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        loss(z, labels)[0].backward()
        peaks.append(torch.cuda.max_memory_allocated() - before)
    assert peaks[0] > 256 << 20 and 4 * peaks[1] < peaks[0]


def test_a_queue_of_negatives_lives_on_the_card(card):
    # Catches: a bank that is filled on the CPU, or whose negatives do not count.
    loss, z, labels = build("infonce", bank="queue", bank_slots=96)
    alone = build("infonce")[0].to(card)
    loss, z, labels = loss.to(card), z.to(card), labels.to(card)
    assert loss(z, labels)[0].item() == pytest.approx(alone(z, labels)[0].item(), rel=1e-5)
    loss.after_step(1.0)
    others = labels + CLASSES  # of the own identities none is a negative
    assert loss(z.flip(0), others)[0].item() > 1.01 * alone(z.flip(0), others)[0].item()
    assert all(state.device.type == card.type for state in loss.buffers())
