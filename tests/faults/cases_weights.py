"""Cases of weights files: checkpoints, init=, adapters, foundation models, L-GCN."""

import json
import random
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

from tests.faults.cases import Case
from tests.faults.mutate import in_archive, in_json, in_safetensors


def tiny_trainer(folder: Path) -> SimpleNamespace:
    """As much of a trainer as checkpoints need, for a layer with random weights."""
    import torch

    from facelib.config import make_config

    learner = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(learner.parameters(), 0.1, momentum=0.9)
    learner(torch.rand(4, 3)).sum().backward()
    optimizer.step()
    alone = SimpleNamespace(scaler=None, device=SimpleNamespace(type="cpu"), is_main_process=True,
                            wait_for_everyone=lambda: None)  # fmt: skip
    return SimpleNamespace(
        run=SimpleNamespace(name="run", path=folder, config=make_config()),
        plain_learner=learner, optimizer=optimizer,
        accelerator=alone, metrics=SimpleNamespace(losses=[1.5, 2.5]), step=1, best=0.5,
        cfg=make_config(),
    )  # fmt: skip


def checkpoints(folder: Path) -> Iterator[Case]:
    """A sealed checkpoint as a resume reads it, and weights of others as `init=` does."""
    import torch

    from facelib.models.initial import load_backbone
    from facelib.safety.seal import COMMENT, seal_file
    from facelib.training.checkpoint import load_checkpoint, restore, save_checkpoint

    trainer = tiny_trainer(folder)
    save_checkpoint(trainer, "last.pt")
    whole = (folder / "checkpoints" / "last.pt").read_bytes()
    plain = whole[: -COMMENT.size] + b"\0\0"

    def resume(path: Path) -> None:
        restore(load_checkpoint(path), trainer)

    def sealed(content: bytes, rng: random.Random) -> bytes:
        path = folder / "sealed.pt"
        path.write_bytes(in_archive(plain, rng))
        seal_file(path)
        return path.read_bytes()

    yield Case("checkpoint", "checkpoints/last.pt", whole, resume, sealed)
    yield Case("checkpoint without digest", "plain/last.pt", plain, resume, in_archive)
    model = torch.nn.BatchNorm1d(3)
    torch.save(model.state_dict(), folder / "i.pth")
    yield Case("init", "i.pth", (folder / "i.pth").read_bytes(),
               lambda path: load_backbone(model, path), in_archive)  # fmt: skip
    torch.save(model.state_dict(), folder / "old.pth", _use_new_zipfile_serialization=False)
    keys: dict[bytes, bytes] = {}  # of tensors are addresses in memory: numbered here
    old = re.sub(
        rb"\d{12,}",
        lambda found: keys.setdefault(found[0], b"%0*d" % (len(found[0]), len(keys))),
        (folder / "old.pth").read_bytes(),
    )
    yield Case("init of PyTorch 1.5", "old.pth", old,
               lambda path: load_backbone(model, path))  # fmt: skip


def adapters(folder: Path) -> Iterator[Case]:
    """Adapters of LoRA: settings and weights."""
    from facelib.models.foundation import load_foundation
    from facelib.models.lora import add_adapters, load_adapters, save_adapters
    from tests.models.tiny_foundations import save_tiny

    name = "dinov2-vit-b14"
    save_tiny(name, folder / "base")
    model = add_adapters(load_foundation(name, str(folder / "base")), rank=2)
    save_adapters(model, folder / "adapters")
    fresh = load_foundation(name, str(folder / "base"))

    def read(path: Path) -> None:
        from copy import deepcopy

        load_adapters(deepcopy(fresh), path.parent)

    for file, inside in (("adapter_config.json", in_json),
                         ("adapter_model.safetensors", in_safetensors)):  # fmt: skip
        yield Case(f"adapters: {file}", f"adapters/{file}",
                   _in_order((folder / "adapters" / file).read_bytes()), read, inside,
                   0.2)  # fmt: skip


def _in_order(content: bytes) -> bytes:
    """A safetensors file with its header in one order; another file as it is."""
    if content.startswith(b"{"):
        return content
    (length,) = struct.unpack_from("<Q", content)
    header = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True).encode()
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


def foundations(folder: Path) -> Iterator[Case]:
    """Configuration and weights of foundation models, as the hub has them."""
    from facelib.config import make_config
    from facelib.models.foundation import load_foundation
    from facelib.runs.weights import check_init
    from tests.models.tiny_foundations import save_tiny

    def read(path: Path) -> None:
        name, place = path.parent.name, str(path.parent)
        check_init(make_config(backbone=name, init=place))
        load_foundation(name, place)

    for name in ("clip-vit-b32", "dinov2-vit-b14", "ijepa-vit-h14"):
        save_tiny(name, folder / name)
        for path in sorted((folder / name).iterdir()):
            inside = in_json if path.suffix == ".json" else in_safetensors
            yield Case(f"{name}: {path.name}", f"{name}/{path.name}", path.read_bytes(), read,
                       inside, 0.1)  # fmt: skip


def clip_pickle(folder: Path) -> Iterator[Case]:
    """The older of the two files that open_clip's weights come in."""
    import torch
    from safetensors.torch import load_file

    from facelib.models.foundation import load_foundation
    from tests.models.tiny_foundations import save_tiny

    base = save_tiny("clip-vit-b32", folder / "older")
    torch.save(load_file(base / "open_clip_model.safetensors"), folder / "clip.bin")
    (base / "open_clip_model.safetensors").unlink()
    yield Case("clip-vit-b32: open_clip_pytorch_model.bin", "older/open_clip_pytorch_model.bin",
               (folder / "clip.bin").read_bytes(),
               lambda path: load_foundation("clip-vit-b32", str(path.parent)), in_archive,
               0.1)  # fmt: skip


def links(folder: Path) -> Iterator[Case]:
    """A trained L-GCN."""
    from facelib.metrics.lgcn import LinkNetwork, LinkSettings, load_links, save_links
    from facelib.runs.weights import check_safetensors

    save_links(LinkNetwork(LinkSettings(4, (4, 4), (3, 2), 2)), folder / "l.safetensors")
    content = (folder / "l.safetensors").read_bytes()
    yield Case("l-gcn", "l.safetensors", content, load_links, in_safetensors)
    yield Case("l-gcn, before torch", "l.safetensors", content,
               lambda path: check_safetensors(path, "again"), in_safetensors)  # fmt: skip
