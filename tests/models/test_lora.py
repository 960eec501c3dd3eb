"""LoRA on tiny foundation models, loaded by the code that loads the real ones. No downloads."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from facelib.config import make_config
from facelib.errors import BadData, UserError
from facelib.models import build_backbone
from facelib.models.foundation import build_full_size, load_foundation
from facelib.models.lora import (
    REAL_MODELS,
    add_adapters,
    count_parameters,
    has_adapters,
    is_adapter,
    layer_shifts,
    load_adapters,
    save_adapters,
    trainable_fractions,
)
from facelib.training.checkpoint import load_trained_state, trained_state
from facelib.training.learner import build_learner


def images() -> torch.Tensor:
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


def stir(model) -> None:
    """Give the adapters values as training would: B is no longer zero."""
    torch.manual_seed(2)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.2)


@pytest.mark.parametrize("name", REAL_MODELS)
def test_the_adapted_model_starts_as_the_frozen_one_and_only_adapters_train(folders, name):
    # Catches: a random B, dropout on the adapters, a base weight left trainable.
    model = load_foundation(name, str(folders[name]))
    frozen = model(images())
    assert add_adapters(model, rank=4) is model
    # Not bit for bit: where no weight wants a gradient, torch takes another path through attention.
    assert torch.allclose(model(images()), frozen, atol=1e-6)
    trained = [key for key, p in model.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 2 * 2  # blocks × layers × (A, B)
    assert all(is_adapter(key) for key in trained)
    model(images()).sum().backward()
    assert all(p.grad is None or p.requires_grad for p in model.parameters())
    stir(model)
    assert not torch.allclose(model(images()), frozen, atol=1e-3)


def test_adapters_depend_on_their_seed_alone(folders):
    # Catches: weights that differ between ranks or runs, and a disturbed global random state.
    name = "dinov2-vit-b14"
    before = torch.get_rng_state()
    one, two, three = (
        add_adapters(load_foundation(name, str(folders[name])), rank=4, seed=seed)
        for seed in (5, 5, 6)
    )
    assert torch.equal(torch.get_rng_state(), before)
    key = "encoder.encoder.layer.0.mlp.fc1.lora_A.default.weight"
    assert torch.equal(one.state_dict()[key], two.state_dict()[key])
    assert not torch.equal(one.state_dict()[key], three.state_dict()[key])


def test_the_spread_of_a_is_peft_s_or_source_a_s(folders):
    # Catches: a spread that is not applied, squared, or put on B; another draw at spread 1.
    # 0.249802 is the mean over 20 seeds of A's standard deviation, its largest value 0.432952, in
    # LoRALinear(nn.Linear(32, 16), 256, 8.0): enazari/ArcFace-vs-InfoNCE 0499ac3,
    # src/backbones/lora.py; peft's are √6 times smaller.
    cfg = make_config("ms1m-lora-dinov2", init=str(folders["dinov2-vit-b14"]), lora_rank=256)
    found = {}
    for spread in (1.0, cfg.lora_spread):
        model = build_backbone(cfg.replace(lora_spread=spread))
        layer = model.encoder.encoder.layer[0].mlp.fc1
        assert layer.lora_B["default"].weight.abs().max() == 0
        found[spread] = layer.lora_A["default"].weight.detach()
    theirs, own = found[cfg.lora_spread], found[1.0]
    assert theirs.std().item() == pytest.approx(0.249802, rel=0.02)
    assert theirs.abs().max().item() == pytest.approx(0.432952, rel=0.01)
    assert torch.allclose(theirs, own * 6**0.5)
    plain = load_foundation(cfg.backbone, cfg.init)
    add_adapters(plain, cfg.lora_rank, cfg.lora_alpha, cfg.lora_targets, cfg.seed)
    assert torch.equal(plain.encoder.encoder.layer[0].mlp.fc1.lora_A["default"].weight, own)


def test_an_adapter_adds_alpha_over_rank_times_ba(folders):
    # Catches: a missing or squared scale; the definition of the layers' shifts.
    name = "dinov2-vit-b14"
    model = add_adapters(load_foundation(name, str(folders[name])), rank=4, alpha=8.0)
    stir(model)
    layer = model.encoder.encoder.layer[1].mlp.fc1
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    x = torch.randn(2, 32)
    expected = layer.base_layer(x) + 8 / 4 * x @ a.T @ b.T
    assert torch.allclose(layer(x), expected, atol=1e-5)
    row = next(r for r in layer_shifts(model) if (r["block"], r["layer"]) == (1, "fc1"))
    assert row["shift"] == pytest.approx((2 * b @ a).norm().item(), rel=1e-4)
    assert row["relative"] == pytest.approx(row["shift"] / layer.base_layer.weight.norm().item())
    assert len(layer_shifts(model)) == 4


@pytest.mark.parametrize(("targets", "layers"), [("ffn", 2), ("attention", 4), ("all", 6)])
def test_targets_name_the_layers_of_each_block(folders, targets, layers):
    # Catches: names that fit no layer, or more layers than asked for.
    for name in ("dinov2-vit-b14", "ijepa-vit-h14"):
        model = add_adapters(load_foundation(name, str(folders[name])), rank=2, targets=targets)
        assert sum(p.requires_grad for p in model.parameters()) == 2 * 2 * layers


@pytest.mark.parametrize("name", REAL_MODELS)
def test_adapters_are_saved_and_loaded_on_their_own(folders, name, tmp_path):
    # Catches: base weights in the file, a lost scale, tensors under the wrong layer.
    model = add_adapters(load_foundation(name, str(folders[name])), rank=4, alpha=6.0)
    stir(model)
    folder = save_adapters(model, tmp_path / "adapters")
    saved = load_file(folder / "adapter_model.safetensors")
    assert sum(t.numel() for t in saved.values()) == count_parameters(model)[0]
    fresh = load_adapters(load_foundation(name, str(folders[name])), folder)
    assert has_adapters(fresh)
    assert torch.equal(fresh(images()), model(images()))


def test_peft_itself_loads_the_files(folders, tmp_path):
    # Catches: keys or settings that only this project understands.
    from peft import PeftModel
    from transformers import Dinov2Model

    name = "dinov2-vit-b14"
    model = add_adapters(load_foundation(name, str(folders[name])), rank=4, alpha=6.0)
    stir(model)
    save_adapters(model, tmp_path)
    plain = PeftModel.from_pretrained(Dinov2Model.from_pretrained(folders[name]), tmp_path).eval()
    x = torch.randn(2, 3, 28, 28)
    expected = model.encoder(pixel_values=x).last_hidden_state
    assert torch.allclose(plain(pixel_values=x).last_hidden_state, expected, atol=1e-6)


def test_adapters_that_do_not_fit_say_why(folders, tmp_path):
    # Catches: adapters silently put on other weights, or only in part.
    name = "dinov2-vit-b14"

    def fresh():
        return load_foundation(name, str(folders[name]))

    folder = save_adapters(add_adapters(fresh(), rank=4), tmp_path / "adapters")
    other = fresh()
    torch.nn.init.ones_(other.encoder.layernorm.bias)
    with pytest.raises(BadData, match="trained on dinov2-vit-b14 weights .*, this model holds"):
        load_adapters(other, folder)
    with pytest.raises(UserError, match="has adapters already"):
        load_adapters(add_adapters(fresh(), rank=4), folder)
    with pytest.raises(BadData, match=r"no adapter_config\.json; a finished LoRA run"):
        load_adapters(fresh(), tmp_path)

    weights, settings = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    said = settings.read_text()
    settings.write_text(said.replace('"r": 4', '"r": 2'))
    with pytest.raises(BadData, match=r"r is 2, .* beside it has rank \[4\]: another rank"):
        load_adapters(fresh(), folder)
    settings.write_text(said)
    tensors = load_file(weights)
    header = {"base": name, "base_digest": load_adapters(fresh(), folder).base_digest}
    lost = sorted(tensors)[0]
    save_file({k: v for k, v in tensors.items() if k != lost}, weights, metadata=header)
    with pytest.raises(BadData, match=f"key '{lost}' is missing"):
        load_adapters(fresh(), folder)
    save_file({**tensors, "more": torch.zeros(1)}, weights, metadata=header)
    with pytest.raises(BadData, match="unknown key 'more'"):
        load_adapters(fresh(), folder)
    weights.write_bytes(b"none")
    with pytest.raises(BadData, match="cannot be read as a safetensors file"):
        load_adapters(fresh(), folder)


@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("name", REAL_MODELS)
def test_recomputed_activations_change_neither_loss_nor_gradients(folders, name, rank):
    # Catches: checkpoints through which frozen inputs carry no gradient, or that never engage,
    # with adapters or without.
    changes = {"backbone": name, "init": str(folders[name]), "lora_rank": rank, "image_size": 16}
    found, passes = {}, {False: [], True: []}
    for recompute in (False, True):
        model = build_backbone(make_config(recompute=recompute, **changes)).train()
        stir(model)
        block = next(m for key, m in model.named_modules() if key.endswith(".mlp"))
        block.register_forward_pre_hook(lambda *_, count=passes[recompute]: count.append(1))
        loss = model(images()).square().sum()
        loss.backward()
        gradients = {k: p.grad for k, p in model.named_parameters() if p.requires_grad}
        found[recompute] = {"loss": loss, **gradients}
    for key, value in found[False].items():
        assert torch.allclose(found[True][key], value, rtol=1e-5, atol=1e-7), key
    assert (len(passes[False]), len(passes[True])) == (1, 2)


@pytest.mark.parametrize(
    ("name", "percent"), [("clip-vit-b32", 0.83), ("dinov2-vit-b14", 0.84), ("ijepa-vit-h14", 0.52)]
)
def test_less_than_one_percent_trains_at_full_size(name, percent):
    # Catches: adapters on too many layers, the text tower counted, another rank.
    trained, total = trainable_fractions()[name]
    assert 100 * trained / total == pytest.approx(percent, abs=0.005)
    assert total - trained == sum(p.numel() for p in build_full_size(name).parameters())


def test_settings_that_make_no_sense_are_refused():
    # Catches: adapters on a network without pretrained weights, which would train nearly nothing.
    with pytest.raises(UserError, match="lora_rank=8: backbone='iresnet10' has no such setting"):
        make_config(lora_rank=8)
    with pytest.raises(UserError, match="init='scratch' has none: use init=pretrained"):
        make_config(lora_rank=8, backbone="generic-vit")


def test_a_momentum_encoder_of_adapters_keeps_no_base_in_the_checkpoint(folders):
    # Catches: a second copy of the frozen weights in each checkpoint of cluster-guided LoRA.
    init = str(folders["dinov2-vit-b14"])
    settings = {"backbone": "dinov2-vit-b14", "init": init, "lora_rank": 2}
    learner = build_learner(make_config(loss="cluster", **settings), classes=5)
    saved = trained_state(learner)
    networks = [key for key in saved if key.startswith(("backbone.", "encoder."))]
    assert len(networks) == 2 * 2 * 2 * 2  # networks × blocks × layers × (A, B)
    assert all(is_adapter(key) for key in networks)
    assert "criterion.store.bank" in saved
    load_trained_state(learner, {"learner": saved, "base": learner.backbone.base_digest}, "run")
