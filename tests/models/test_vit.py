"""The face ViT: names, sizes and arithmetic of InsightFace's `vit.py`."""

import math

import pytest
import torch
import torch.nn.functional as F

from facelib.config import make_config
from facelib.errors import BadData, UserError
from facelib.limits import FACE_VITS
from facelib.models import build_backbone
from facelib.models.initial import load_backbone
from facelib.models.vit import SIZES, FaceViT
from facelib.rows import LOSS_ROWS
from facelib.training.learner import build_learner

MINI = {"backbone": "vit_mini", "data_size": 32, "dim": 16}


def expected_shapes(width: int, depth: int, tokens: int = 144, patch: int = 9, dim: int = 512):
    """Parameter names and shapes of arcface_torch's `VisionTransformer`, written out by hand."""
    shapes = {
        "pos_embed": (1, tokens, width), "mask_token": (1, 1, width),
        "patch_embed.proj.weight": (width, 3, patch, patch), "patch_embed.proj.bias": (width,),
        "norm.weight": (width,), "norm.bias": (width,),
        "feature.0.weight": (width, width * tokens), "feature.2.weight": (dim, width),
    }  # fmt: skip
    for place, channels in ((1, width), (3, dim)):
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"feature.{place}.{part}"] = (channels,)
        shapes[f"feature.{place}.num_batches_tracked"] = ()
    for i in range(depth):
        for name, out, into in (("attn.proj", width, width), ("mlp.fc1", 4 * width, width),
                                ("mlp.fc2", width, 4 * width)):  # fmt: skip
            shapes[f"blocks.{i}.{name}.weight"] = (out, into)
            shapes[f"blocks.{i}.{name}.bias"] = (out,)
        shapes[f"blocks.{i}.attn.qkv.weight"] = (3 * width, width)
        for norm in ("norm1", "norm2"):
            shapes |= {f"blocks.{i}.{norm}.{part}": (width,) for part in ("weight", "bias")}
    return shapes


@pytest.mark.parametrize(
    ("name", "width", "depth"), [("vit_t", 256, 12), ("vit_s", 512, 12), ("vit_b", 512, 24)]
)
def test_names_and_shapes_are_insightface_s(name, width, depth):
    # Catches: a class token, a bias of qkv, another patch: published weights would not load.
    with torch.device("meta"):
        state = FaceViT(SIZES[name]).state_dict()
    assert {k: tuple(v.shape) for k, v in state.items()} == expected_shapes(width, depth)
    assert set(FACE_VITS) == set(SIZES)


def restated(w: dict[str, torch.Tensor], x: torch.Tensor, heads: int) -> torch.Tensor:
    """InsightFace's forward in eval mode, from the weights alone, image by image."""
    width, patch = w["patch_embed.proj.weight"].shape[0], w["patch_embed.proj.weight"].shape[2]
    rows = []
    for image in x:
        side = image.shape[1] // patch
        cuts = [image[:, patch * i : patch * (i + 1), patch * j : patch * (j + 1)].flatten()
                for i in range(side) for j in range(side)]  # fmt: skip
        t = torch.stack(cuts) @ w["patch_embed.proj.weight"].flatten(1).T
        t = t + w["patch_embed.proj.bias"] + w["pos_embed"][0]
        for i in range(1 + max(int(k.split(".")[1]) for k in w if k.startswith("blocks."))):
            b = {k.removeprefix(f"blocks.{i}."): v for k, v in w.items()}
            h = F.layer_norm(t, (width,), b["norm1.weight"], b["norm1.bias"])
            q, k, v = (h @ b["attn.qkv.weight"].T).split(width, 1)
            out = []
            for own in range(heads):
                part = slice(own * width // heads, (own + 1) * width // heads)
                a = q[:, part] @ k[:, part].T / math.sqrt(width // heads)
                out.append(a.softmax(1) @ v[:, part])
            t = t + torch.cat(out, 1) @ b["attn.proj.weight"].T + b["attn.proj.bias"]
            h = F.layer_norm(t, (width,), b["norm2.weight"], b["norm2.bias"])
            h = (h @ b["mlp.fc1.weight"].T + b["mlp.fc1.bias"]).clamp(0, 6)
            t = t + h @ b["mlp.fc2.weight"].T + b["mlp.fc2.bias"]
        rows.append(F.layer_norm(t, (width,), w["norm.weight"], w["norm.bias"]).flatten())
    z = torch.stack(rows)
    for i in (0, 2):
        z, n = z @ w[f"feature.{i}.weight"].T, f"feature.{i + 1}"
        z = (z - w[f"{n}.running_mean"]) / (w[f"{n}.running_var"] + 2e-5).sqrt()
        z = z * w[f"{n}.weight"] + w[f"{n}.bias"]
    return z


@pytest.mark.parametrize(("name", "pixels"), [("vit_mini", 36), ("vit_t", 112)])
def test_the_forward_is_a_restatement_of_the_original_s(name, pixels):
    # Catches: post-norm, GELU for ReLU6, heads cut wrongly, another eps, tokens column by column.
    torch.manual_seed(0)
    model = FaceViT(SIZES[name], pixels, 32).double().eval()
    with torch.no_grad():
        for tensor in model.state_dict().values():  # none at its start, where many are 0 or 1
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.rand_like(tensor))
        x = torch.rand(2, 3, pixels, pixels, dtype=torch.float64) * 2 - 1
        wanted = restated(model.state_dict(), x, SIZES[name].heads)
        # Attention, norm and head are computed in fp32.
        assert torch.allclose(model.float()(x.float()).double(), wanted, atol=2e-4, rtol=2e-4)


def test_masked_tokens_are_replaced_where_they_were():
    # Catches: mask tokens at the end, kept tokens in their shuffled order, masking in eval mode.
    torch.manual_seed(0)
    model = FaceViT(SIZES["vit_mini"], 32, 8, mask_ratio=0.5, drop_path=0)
    seen = []
    model.feature = torch.nn.Identity()
    model.blocks = torch.nn.ModuleList([torch.nn.Identity()])
    model.blocks[0].register_forward_hook(lambda _, args, out: seen.append(out.shape[1]))
    x = torch.rand(3, 3, 32, 32)
    whole = model.eval()(x).view(3, 16, -1)
    part = model.train()(x).view(3, 16, -1)
    kept = (part - whole).abs().amax(2) < 1e-5
    assert seen == [16, 8] and (kept.sum(1) == 8).all()
    assert torch.equal(part[~kept], model.mask_token[0].expand(24, -1))


def test_dropped_blocks_leave_the_mean_as_it_is():
    # Catches: a share that is kept without its factor, drops per token, drops in eval mode.
    block = FaceViT(SIZES["vit_mini"], 32, 8, drop_path=0.4).blocks[-1]
    x = torch.ones(20_000, 1, 1)
    torch.manual_seed(0)
    kept = block.train()._kept(x)
    assert kept.unique().tolist() == pytest.approx([0, 1 / 0.6])
    assert kept.mean().item() == pytest.approx(1, abs=0.02)
    assert torch.equal(block.eval()._kept(x), x)


@pytest.mark.parametrize("loss", [name for name, row in LOSS_ROWS.items() if row.views == 1])
def test_every_loss_trains_it(loss):
    # Catches: a criterion that takes its size from an IResNet; weights without a gradient.
    published = {"images_per_identity": 4} if LOSS_ROWS[loss].layout == "groups" else {}
    try:
        cfg = make_config(loss=loss, **MINI)
    except UserError:
        cfg = make_config(loss=loss, **MINI, **published)
    learner = build_learner(cfg, 16)
    labels = torch.arange(16).repeat_interleave(4)
    total, _ = learner(torch.rand(64, 3, 32, 32) * 2 - 1, labels)
    total.backward()
    missing = [n for n, p in learner.backbone.named_parameters() if p.grad is None]
    assert torch.isfinite(total) and missing == []


def test_recomputing_gives_the_same_gradients():
    # Catches: other masks or drops in the second pass.
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(1)
        model = build_backbone(make_config(**MINI, recompute=recompute)).train()
        torch.manual_seed(2)
        model(torch.rand(4, 3, 32, 32)).pow(2).sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients))


def test_a_checkpoint_loads_and_another_architecture_is_refused(tmp_path):
    # Catches: `init` that only an IResNet reads; weights of another size taken in part.
    source = build_backbone(make_config(**MINI))
    torch.save(source.state_dict(), tmp_path / "vit.pt")
    loaded = build_backbone(make_config(**MINI, init=str(tmp_path / "vit.pt"), seed=1))
    assert torch.equal(loaded.pos_embed, source.pos_embed)
    with pytest.raises(BadData, match="another architecture"):
        load_backbone(FaceViT(SIZES["vit_t"], 32, 16), str(tmp_path / "vit.pt"))
    with pytest.raises(UserError, match="mask_ratio=0.2: backbone='iresnet10' has no such"):
        make_config(mask_ratio=0.2)
    with pytest.raises(UserError, match="has no dropout layer"):
        make_config(loss="coreface", backbone="vit_t")
