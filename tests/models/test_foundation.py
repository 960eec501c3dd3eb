"""Foundation models: one interface, the real loading code on tiny models, and every refusal."""

import json
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from facelib.config import make_config
from facelib.errors import BadData, UserError
from facelib.limits import FOUNDATION_MODELS
from facelib.models.foundation import build_full_size, load_foundation, weights_digest
from facelib.models.registry import FOUNDATIONS
from facelib.runs.folder import create_run
from facelib.training.learner import build_learner
from facelib.training.train import train
from facelib.training.trained import load_model
from tests.models.tiny_foundations import DIMS, save_tiny


def rewrite(path, change):
    """Change a safetensors file in place."""
    state = load_file(path)
    change(state)
    save_file(state, path, metadata={"format": "pt"})


def test_the_configuration_knows_the_same_models():
    # Catches: a model that the table has and `backbone=` refuses.
    assert tuple(FOUNDATIONS) == FOUNDATION_MODELS


@pytest.mark.parametrize("name", DIMS)
def test_a_folder_gives_embeddings_of_any_input_size(name, folders):
    model = load_foundation(name, str(folders[name]))
    torch.manual_seed(0)
    for size in (16, 112):
        z = model.features(torch.rand(3, 3, size, size) * 2 - 1)
        assert z.shape == (3, DIMS[name]) == (3, model.dim)
        assert z.isfinite().all() and not torch.allclose(z[0], z[1])


def test_loaded_weights_are_those_of_the_file(folders):
    # Mutation: a loader that leaves its random initialisation differs from run to run.
    for name in DIMS:
        torch.manual_seed(2)
        one = load_foundation(name, str(folders[name]))
        torch.manual_seed(3)
        two = load_foundation(name, str(folders[name]))
        assert weights_digest(one) == weights_digest(two)
        assert weights_digest(one) != weights_digest(_changed(two))


def _changed(model):
    with torch.no_grad():
        next(p for p in model.parameters() if p.requires_grad).add_(1e-3)
    return model


def test_poolings_are_projection_cls_and_mean_of_patches(folders):
    x = torch.rand(2, 3, 28, 28) * 2 - 1
    dino = load_foundation("dinov2-vit-b14", str(folders["dinov2-vit-b14"]))
    y = ((x + 1) / 2 - dino.mean) / dino.std
    tokens = dino.encoder(pixel_values=y).last_hidden_state
    assert tokens.shape[1] == 1 + 4 and torch.allclose(dino(x), tokens[:, 0])
    jepa = load_foundation("ijepa-vit-h14", str(folders["ijepa-vit-h14"]))
    tokens = jepa.encoder(pixel_values=y).last_hidden_state
    # Mutation: dropping "the CLS token" of a model that has none loses a patch.
    assert tokens.shape[1] == 4 and torch.allclose(jepa(x), tokens.mean(1))


def test_each_model_normalises_with_its_own_mean(folders):
    # A grey image of CLIP's mean colour becomes 0 at its encoder, whatever the range of the input.
    model = load_foundation("clip-vit-b32", str(folders["clip-vit-b32"]))
    seen = []
    model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model((model.mean * 2 - 1).expand(1, 3, 32, 32))
    assert seen[0].abs().max() < 1e-6
    assert model.std.flatten().tolist() == pytest.approx([0.2686, 0.2613, 0.2758], abs=1e-4)


def test_clip_reads_the_activation_of_its_config(folders, tmp_path):
    # OpenAI's weights want QuickGELU; with plain GELU the embeddings are quietly wrong.
    folder = save_tiny("clip-vit-b32", tmp_path)
    quick = load_foundation("clip-vit-b32", str(folder))
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["quick_gelu"] = False
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    plain = load_foundation("clip-vit-b32", str(folder))
    x = torch.ones(1, 3, 32, 32)
    assert not torch.allclose(quick(x), plain(x), atol=1e-5)


def test_published_files_use_older_names_of_the_attention_layers(folders, tmp_path):
    # facebook/dinov2-base was written before transformers renamed them; the loader must translate.
    folder = save_tiny("dinov2-vit-b14", tmp_path)
    names = {"q_proj": "attention.query", "k_proj": "attention.key", "v_proj": "attention.value",
             "o_proj": "output.dense"}  # fmt: skip

    def rename(state):
        for key in list(state):
            for new, old in names.items():
                if f"attention.{new}." in key:
                    state[key.replace(f"attention.{new}", f"attention.{old}")] = state.pop(key)

    rewrite(folder / "model.safetensors", rename)
    old = load_foundation("dinov2-vit-b14", str(folder))
    new = load_foundation("dinov2-vit-b14", str(folders["dinov2-vit-b14"]))
    assert weights_digest(old) == weights_digest(new)


@pytest.mark.parametrize("name", ["dinov2-vit-b14", "clip-vit-b32"])
def test_a_missing_key_is_refused_not_filled_with_noise(name, tmp_path):
    folder = save_tiny(name, tmp_path)
    path = next(folder.glob("*.safetensors"))
    image = [k for k in load_file(path) if "mlp" in k and not k.startswith("transformer")]
    rewrite(path, lambda state: state.pop(image[0]))
    with pytest.raises(BadData, match="is missing"):
        load_foundation(name, str(folder))


@pytest.mark.parametrize("name", DIMS)
def test_wrong_folders_are_refused_in_one_line(name, folders, tmp_path):
    other = folders["ijepa-vit-h14" if name != "ijepa-vit-h14" else "dinov2-vit-b14"]
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder in (tmp_path / "nowhere", empty, other):
        with pytest.raises(BadData) as caught:
            load_foundation(name, str(folder))
        assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_weights_in_several_files_are_read_and_a_lost_one_is_named(folders, tmp_path):
    # Catches: only model.safetensors accepted; a lost shard filled with noise.
    whole = load_foundation("dinov2-vit-b14", str(folders["dinov2-vit-b14"]))
    whole.encoder.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    state = load_foundation("dinov2-vit-b14", str(tmp_path)).state_dict()
    assert all(torch.equal(v, state[k]) for k, v in whole.state_dict().items())
    lost = sorted(tmp_path.glob("model-*.safetensors"))[0]
    lost.unlink()
    with pytest.raises(BadData, match=f"index.json: names '{lost.name}': not there"):
        load_foundation("dinov2-vit-b14", str(tmp_path))


def test_weights_of_another_size_and_cut_files_are_refused(tmp_path):
    folder = save_tiny("dinov2-vit-b14", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": 64}))
    with pytest.raises(BadData, match="has shape"):
        load_foundation("dinov2-vit-b14", str(folder))
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BadData, match="model.safetensors"):
        load_foundation("dinov2-vit-b14", str(folder))


@pytest.mark.parametrize("name", DIMS)
def test_without_weights_the_line_says_what_to_fetch_at_once(name, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    start = time.monotonic()
    with pytest.raises(UserError) as caught:
        load_foundation(name)
    line, entry = str(caught.value), FOUNDATIONS[name]
    assert f"hf download {entry.repo} {' '.join(entry.files)}" in line and "--weights DIR" in line
    assert "\n" not in line and time.monotonic() - start < 10
    assert not list(tmp_path.iterdir())  # nothing half-written


def test_the_hub_cache_is_read_like_a_folder(folders, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repo = tmp_path / "models--facebook--dinov2-base"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("0" * 40)
    save_tiny("dinov2-vit-b14", repo / "snapshots" / ("0" * 40))
    cached = load_foundation("dinov2-vit-b14", "pretrained")
    local = load_foundation("dinov2-vit-b14", str(folders["dinov2-vit-b14"]))
    assert weights_digest(cached) == weights_digest(local)


@pytest.mark.parametrize(
    ("name", "dim", "millions", "share"),
    [
        ("clip-vit-b32", 512, 87.85, 0.0083),
        ("dinov2-vit-b14", 768, 86.58, 0.0084),
        ("ijepa-vit-h14", 1280, 630.76, 0.0052),
    ],
)
def test_full_size_counts_are_the_published_ones(name, dim, millions, share):
    model = build_full_size(name)
    weights = sum(p.numel() for p in model.parameters())
    assert model.dim == dim and model.input_size == 224
    assert weights / 1e6 == pytest.approx(millions, abs=0.01)
    linear = [
        m for k, m in model.named_modules()
        if isinstance(m, torch.nn.Linear) and k.split(".")[-1] in model.linear_names("ffn")
    ]  # fmt: skip
    rank8 = sum(8 * (m.in_features + m.out_features) for m in linear)
    assert rank8 / (weights + rank8) == pytest.approx(share, abs=5e-5)


def test_attention_of_clip_cannot_be_adapted():
    clip, dino = build_full_size("clip-vit-b32"), build_full_size("dinov2-vit-b14")
    assert dino.linear_names("all") == ["fc1", "fc2", "q_proj", "k_proj", "v_proj", "o_proj"]
    for targets in ("attention", "all"):
        with pytest.raises(UserError, match="MultiheadAttention"):
            clip.linear_names(targets)


def test_a_config_builds_a_foundation_and_the_loss_takes_its_dim():
    cfg = make_config(backbone="generic-vit", loss="arcface", image_size=32, seed=3)
    learner = build_learner(cfg, classes=5)
    assert learner.criterion.weight.shape == (5, learner.backbone.dim)
    again = build_learner(cfg, classes=5)
    assert weights_digest(learner.backbone) == weights_digest(again.backbone)
    loss, _ = learner(torch.randn(4, 3, 32, 32), torch.arange(4))
    loss.backward()
    # Mutation: a trainable weight that the forward pass does not use stops DDP.
    assert all(p.grad is not None for p in learner.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"backbone": "generic-vit", "dropout": 0.4}, "dropout"),
        ({"backbone": "generic-vit", "loss": "coreface"}, "coreface"),
        ({"recompute": True}, "recompute"),
        ({"init": "pretrained"}, "pretrained"),
    ],
)
def test_settings_that_cannot_apply_are_refused(settings, word):
    with pytest.raises(UserError, match=word) as caught:
        make_config(**settings)
    assert "\n" not in str(caught.value)


def test_a_run_trains_a_foundation_and_is_loaded_as_one(tiny_records, runs_folder, capsys):
    # The stand-in's way: an ordinary run, then weights for `init` and for frozen evaluation.
    cfg = make_config(
        "generic-vit", data=str(tiny_records), global_batch=16, images_seen=64, image_size=32,
        val_fraction=0.25, threads=1,
    )  # fmt: skip
    with pytest.raises(UserError, match="train --preset generic-vit"):
        load_foundation("generic-vit")
    run = create_run(cfg)
    with pytest.raises(UserError, match="is not done"):
        load_foundation("generic-vit", run.name)
    train(run)
    trained, again = load_model(run.path)[0], load_foundation("generic-vit", run.name)
    assert weights_digest(trained) == weights_digest(again)
    torch.manual_seed(cfg.seed)
    assert weights_digest(trained) != weights_digest(load_foundation("generic-vit", "scratch"))
    assert not again.training and again.weights == run.name
    started = build_learner(make_config(backbone="generic-vit", init=run.name), classes=3)
    assert weights_digest(started.backbone) == weights_digest(trained)


def test_a_run_from_a_folder_is_loaded_in_the_folder_s_architecture(folders, tiny_records,
                                                                    runs_folder):  # fmt: skip
    # Mutation: rebuilding at full size, into which a small checkpoint does not fit.
    cfg = make_config(
        backbone="dinov2-vit-b14", init=str(folders["dinov2-vit-b14"]), data=str(tiny_records),
        global_batch=8, images_seen=16, image_size=28, loss="infonce", val_fraction=0.25, threads=1,
    )  # fmt: skip
    run = create_run(cfg)
    train(run)
    model, _ = load_model(run.path)
    assert model.dim == DIMS["dinov2-vit-b14"]
    frozen = load_foundation("dinov2-vit-b14", str(folders["dinov2-vit-b14"]))
    assert weights_digest(model) != weights_digest(frozen)
