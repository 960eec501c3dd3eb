"""Every test of this folder is of the GPU: marked so, and skipped for one reason without CUDA."""

import pytest
import torch
from accelerate.state import AcceleratorState, PartialState

from facelib.config import make_config
from facelib.training.learner import build_learner

SIZE = {"width": 16, "image_size": 48, "dim": 32, "global_batch": 24}
CLASSES = 12


def pytest_itemcollected(item):
    """The marker of the folder."""
    item.add_marker(pytest.mark.gpu)


def pytest_runtest_setup(item):
    """Skipped here, at one place, they are one line of the summary."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine")


@pytest.fixture(scope="session")
def card() -> torch.device:
    """The device of all tests here."""
    return torch.device("cuda")


@pytest.fixture(autouse=True)
def exact_products(card):
    """fp32 means fp32 in a test that does not ask for less; every test has its own accelerator."""
    AcceleratorState._reset_state(True)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    yield
    PartialState._reset_state()
    AcceleratorState._reset_state(True)


@pytest.fixture
def learner(card):
    """Makes a small network with its loss on the card; settings as in a configuration."""
    return lambda **changes: build_learner(make_config(**{**SIZE, **changes}), CLASSES).to(card)


@pytest.fixture
def batch(card):
    """(images, labels) of pairs on the card."""
    g = torch.Generator().manual_seed(1)
    images = torch.randn(SIZE["global_batch"], 3, 48, 48, generator=g).to(card)
    return images, torch.arange(CLASSES, device=card).repeat_interleave(2)


def gradients(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Gradients by name, on the CPU."""
    return {k: p.grad.float().cpu() for k, p in module.named_parameters() if p.grad is not None}


def apart(found: dict, wanted: dict) -> float:
    """Distance of all gradients together, relative to the wanted ones."""
    assert found.keys() == wanted.keys()
    a, b = (torch.cat([side[k].flatten() for k in wanted]) for side in (found, wanted))
    return ((a - b).norm() / b.norm()).item()
