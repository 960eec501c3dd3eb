"""IResNet: names, sizes and arithmetic of InsightFace's PyTorch backbones."""

import pytest
import torch
import torch.nn.functional as F

from facelib.errors import BadData, UserError
from facelib.models.initial import load_backbone
from facelib.models.iresnet import DEPTHS, iresnet


def expected_shapes(depths, width=64, dim=512, side=7):
    """Parameter names and shapes of arcface_torch's iresnet, written out independently."""
    shapes = {"conv1.weight": (width, 3, 3, 3), "prelu.weight": (width,)}

    def norm(name, channels):
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = (channels,)
        shapes[f"{name}.num_batches_tracked"] = ()

    norm("bn1", width)
    before = width
    for stage, blocks in enumerate(depths):
        channels = width * 2**stage
        for block in range(blocks):
            name, inside = f"layer{stage + 1}.{block}", before if block == 0 else channels
            norm(f"{name}.bn1", inside)
            shapes[f"{name}.conv1.weight"] = (channels, inside, 3, 3)
            norm(f"{name}.bn2", channels)
            shapes[f"{name}.prelu.weight"] = (channels,)
            shapes[f"{name}.conv2.weight"] = (channels, channels, 3, 3)
            norm(f"{name}.bn3", channels)
            if block == 0:
                shapes[f"{name}.downsample.0.weight"] = (channels, inside, 1, 1)
                norm(f"{name}.downsample.1", channels)
        before = channels
    norm("bn2", before)
    shapes["fc.weight"], shapes["fc.bias"] = (dim, before * side * side), (dim,)
    norm("features", dim)
    return shapes


@pytest.mark.parametrize("name", ["iresnet18", "iresnet34", "iresnet50", "iresnet100"])
def test_names_and_shapes_are_insightface_s(name):
    # Catches: a renamed module, another block count, a bias too many: published weights would fail.
    with torch.device("meta"):
        state = iresnet(name).state_dict()
    assert {k: tuple(v.shape) for k, v in state.items()} == expected_shapes(DEPTHS[name])


@pytest.mark.parametrize(
    ("name", "millions"),
    [("iresnet18", 24.03), ("iresnet34", 34.14), ("iresnet50", 43.59), ("iresnet100", 65.16)],
)
def test_parameter_counts_are_the_published_ones(name, millions):
    # Catches: another width, dim or block count.
    with torch.device("meta"):
        model = iresnet(name)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)


def restated_forward(state, x, depths):
    """The network as a list of functional calls on a state dict."""

    def norm(name, h):
        parts = [state[f"{name}.{p}"] for p in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(h, *parts)

    h = F.prelu(norm("bn1", F.conv2d(x, state["conv1.weight"], padding=1)), state["prelu.weight"])
    for stage, blocks in enumerate(depths):
        for block in range(blocks):
            name, stride = f"layer{stage + 1}.{block}", 2 if block == 0 else 1
            short = h
            if block == 0:
                short = F.conv2d(h, state[f"{name}.downsample.0.weight"], stride=2)
                short = norm(f"{name}.downsample.1", short)
            h = F.conv2d(norm(f"{name}.bn1", h), state[f"{name}.conv1.weight"], padding=1)
            h = F.prelu(norm(f"{name}.bn2", h), state[f"{name}.prelu.weight"])
            h = F.conv2d(h, state[f"{name}.conv2.weight"], stride=stride, padding=1)
            h = norm(f"{name}.bn3", h) + short
    h = F.linear(norm("bn2", h).flatten(1), state["fc.weight"], state["fc.bias"])
    return norm("features", h)


def test_forward_equals_the_network_written_as_functions():
    # Catches: stride on the wrong convolution, a missing shortcut, an activation after the sum.
    torch.manual_seed(0)
    model = iresnet("iresnet18", width=8, image_size=32, dim=16)
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    model.eval()
    x = torch.randn(3, 3, 32, 32)
    expected = restated_forward(model.state_dict(), x, DEPTHS["iresnet18"])
    assert torch.allclose(model(x), expected, atol=1e-4)


@pytest.mark.parametrize("size", [16, 32, 47, 48, 112])
def test_any_input_size_works(size):
    # Catches: a linear layer sized for 112 pixels only.
    model = iresnet("iresnet10", width=4, image_size=size, dim=8).eval()
    assert model(torch.zeros(2, 3, size, size)).shape == (2, 8)


def test_the_scale_of_the_embedding_s_batchnorm_does_not_train():
    # Catches: a trainable scale, which source A and InsightFace freeze at 1.
    model = iresnet("iresnet10", width=4, image_size=16, dim=8)
    assert not model.features.weight.requires_grad
    assert (model.features.weight == 1).all()


def test_published_backbone_files_load_and_wrong_ones_say_why(tmp_path):
    # Catches: silent partial loading (strict=False) of another architecture.
    source = iresnet("iresnet10", width=4, image_size=32, dim=8)
    torch.save(source.state_dict(), tmp_path / "backbone.pth")
    target = iresnet("iresnet10", width=4, image_size=32, dim=8)
    load_backbone(target, str(tmp_path / "backbone.pth"))
    assert torch.equal(target.fc.weight, source.fc.weight)
    deeper = iresnet("iresnet18", width=4, image_size=32, dim=8)
    with pytest.raises(BadData, match=r"layer1\.1\.bn1\.weight.*missing"):
        load_backbone(deeper, str(tmp_path / "backbone.pth"))
    wider = iresnet("iresnet10", width=8, image_size=32, dim=8)
    with pytest.raises(BadData, match=r"has shape \(4, 3, 3, 3\), the model wants \(8, 3, 3, 3\)"):
        load_backbone(wider, str(tmp_path / "backbone.pth"))
    (tmp_path / "broken.pth").write_bytes(b"not weights")
    with pytest.raises(BadData, match="not a PyTorch weights file"):
        load_backbone(target, str(tmp_path / "broken.pth"))


def test_an_unknown_name_lists_the_known_ones():
    # Catches: a bare KeyError.
    with pytest.raises(UserError, match="iresnet10, iresnet18"):
        iresnet("resnet50")
