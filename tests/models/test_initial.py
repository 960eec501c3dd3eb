"""`init=`: weights as other projects wrap them, runs by name, class centres of the same classes."""

import logging
import zipfile
from argparse import Namespace

import pytest
import torch
from safetensors.torch import save_file

from facelib.config import make_config
from facelib.errors import BadData, UserError
from facelib.models.initial import load_backbone
from facelib.models.iresnet import iresnet
from facelib.runs.folder import create_run
from facelib.runs.weights import init_file
from facelib.training.learner import build_learner
from facelib.training.train import train

SMALL = {"width": 4, "image_size": 16, "dim": 8}
WRAPS = {
    "checkpoint_gpu_0": ("state_dict_backbone", "", "state_dict_softmax_fc", "weight"),
    "compiled": ("", "_orig_mod.", "", "head"),
    "ddp of compiled": ("", "module._orig_mod.", "", "head"),
    "magface": ("state_dict", "module.features.module.", "state_dict", "module.fc.weight"),
    "lightning": ("state_dict", "model.", "state_dict", "head.kernel"),
    "wrapped twice": ("checkpoint", "net.", "model", "head"),
    "ema first": ("model", "ema.", "model", "net"),
}


def wrap(kind, state, centres, path):
    outer, prefix, place, head = WRAPS[kind]
    if kind == "ema first":
        noise = {f"ema.{k}": torch.zeros_like(v) for k, v in state.items()}
        content = {"model": noise | {f"net.{k}": v for k, v in state.items()}}
    else:
        named = {f"{prefix}{k}": v for k, v in state.items()}
        content = {"epoch": 3, outer: dict(named)} if outer else dict(named)
        (content.setdefault(place, {}) if place else content)[head] = (
            centres.T.clone() if head in ("module.fc.weight", "head.kernel") else centres
        )
    torch.save(content, path)
    return path


@pytest.mark.parametrize("kind", WRAPS)
def test_a_backbone_loads_however_it_was_wrapped(kind, tmp_path):
    # Catches: a wrapper that is unknown; the head's fc.weight taken for the backbone's; an average.
    source, target = iresnet("iresnet18", **SMALL), iresnet("iresnet18", **SMALL)
    path = wrap(kind, source.state_dict(), torch.randn(5, 8), tmp_path / "w.pt")
    load_backbone(target, path)
    own = target.state_dict()
    assert all(torch.equal(v, own[k]) for k, v in source.state_dict().items())


@pytest.mark.parametrize("kind", ["checkpoint_gpu_0", "magface", "lightning"])
def test_class_centres_are_taken_over_where_the_number_of_classes_agrees(kind, tmp_path):
    # Catches: centres left random; a (d, N) kernel not turned; centres of other classes.
    centres = torch.randn(5, 8)
    path = wrap(kind, iresnet("iresnet18", **SMALL).state_dict(), centres, tmp_path / "w.pt")
    cfg = make_config(backbone="iresnet18", init=str(path), **SMALL)
    assert torch.equal(build_learner(cfg, 5).criterion.weight, centres)
    assert build_learner(cfg, 6).criterion.weight.std() < 0.02


def test_safetensors_load_and_a_file_with_other_objects_is_named(tmp_path):
    # Catches: safetensors read as a pickle; torch's advice to switch its protection off.
    source, target = iresnet("iresnet18", **SMALL), iresnet("iresnet18", **SMALL)
    save_file({f"net.{k}": v for k, v in source.state_dict().items()}, tmp_path / "a.safetensors")
    load_backbone(target, tmp_path / "a.safetensors")
    assert torch.equal(source.fc.weight, target.fc.weight)
    (tmp_path / "b.safetensors").write_bytes(b"no tensors")
    with pytest.raises(BadData, match="b.safetensors: .*safetensors"):
        load_backbone(target, tmp_path / "b.safetensors")
    torch.save({"state_dict": source.state_dict(), "args": Namespace(a=1)}, tmp_path / "c.pt")
    with pytest.raises(BadData, match=r"holds argparse\.Namespace, .* state_dict\(\) alone"):
        load_backbone(target, tmp_path / "c.pt")


def test_what_is_no_weights_file_is_called_by_its_name(tmp_path):
    # Catches: "damaged" of a TorchScript program, "no such file" of a folder that is there.
    with zipfile.ZipFile(tmp_path / "net.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/code/__torch__/nn.py", "class Net(Module):\n")
    with pytest.raises(BadData, match=r"a TorchScript program, .* state_dict"):
        load_backbone(iresnet("iresnet18", **SMALL), tmp_path / "net.pt")
    with pytest.raises(UserError, match=r"a folder without a run's config\.json.*\(net\.pt\)"):
        init_file(str(tmp_path))


def test_another_architecture_is_refused_with_the_keys_found_and_wanted(tmp_path):
    # Catches: AdaFace's own network (input_layer, body) read as if it were this one, or unnamed.
    torch.save({"state_dict": {"model.input_layer.0.weight": torch.zeros(4)}}, tmp_path / "a.ckpt")
    found = (
        r"'conv1\.weight' is missing.*found state_dict\.model\.input_layer.*wanted conv1\.weight"
    )
    with pytest.raises(BadData, match=found):
        load_backbone(iresnet("iresnet18", **SMALL), tmp_path / "a.ckpt")


def test_init_takes_a_run_by_folder_or_name_and_its_centres(
    tiny_records, runs_folder, monkeypatch, caplog
):
    # Catches: only full paths of last.pt read; centres of another split's identities taken.
    cfg = make_config(data=str(tiny_records), benchmarks="", val_fraction=0.25, global_batch=16,
                      images_seen=32, **SMALL)  # fmt: skip
    run = create_run(cfg)
    train(run)
    monkeypatch.setenv("HOME", str(runs_folder.parent))
    for name in (run.name, str(run.path), f"~/runs/{run.name}", str(run.checkpoint)):
        assert init_file(name).samefile(run.checkpoint)
    trained = torch.load(run.checkpoint, weights_only=True)["learner"]["criterion.weight"]
    again = cfg.replace(init=run.name)
    assert torch.equal(build_learner(again, 18).criterion.weight, trained)
    caplog.set_level(logging.INFO)
    assert not torch.equal(build_learner(again.replace(seed=1), 18).criterion.weight, trained)
    assert "another seed" in caplog.text
    with pytest.raises(UserError, match="init='/no/such': no such file, and no run"):
        init_file("/no/such")
