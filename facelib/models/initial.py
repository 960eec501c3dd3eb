"""`init=` of an IResNet: the weights of others, however they were wrapped.

A file is loaded as data only. Its dicts are flattened to dotted names, and the backbone is the
prefix under which all of its names are found: `state_dict_backbone.` (InsightFace's
checkpoint_gpu_0.pt), `module.` (DDP), `_orig_mod.` (torch.compile), `state_dict.model.`
(Lightning), `state_dict.features.module.` (MagFace), `learner.backbone.` (a run), or none.
A name that ends with .safetensors is read as such.
"""

import logging
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from facelib.config import Config
from facelib.errors import BadData
from facelib.runs.weights import AGAIN, check_names, init_file
from facelib.safety.archive import load_archive
from facelib.safety.outline import MOST, flat
from facelib.safety.readers import reading

log = logging.getLogger(__name__)
OTHER = ("optim", "momentum", "exp_avg", "ema", "encoder")  # no weights of the network itself
LABELS = ("data", "data_seed", "data_identities", "data_images", "exclude", "split",
          "val_fraction", "seed")  # fmt: skip


def read_weights(path: Path) -> tuple[dict, dict[str, torch.Tensor]]:
    """A weights file as it is, and its tensors by dotted name."""
    if path.suffix == ".safetensors":
        with reading(path, "a safetensors file", AGAIN):
            state = load_file(path)
    else:
        state = load_archive(path, AGAIN)
    check_names(state, torch.Tensor, path)
    found = islice(flat(state, torch.Tensor), MOST)
    return state, {name: value for name, value in found if value.layout == torch.strided}


def load_backbone(model: nn.Module, path: str | Path) -> None:
    """Load a backbone's weights from a file of InsightFace's, of a run or of another project.

    Raises:
        BadData: no such file, not a weights file, or weights of another architecture; the message
            names keys or shapes found and wanted.
    """
    path = Path(path)
    tensors, wanted = read_weights(path)[1], model.state_dict()
    prefix = find_prefix(tensors, wanted, path)
    state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    for key, tensor in wanted.items():
        if key in state and state[key].shape != tensor.shape:
            raise BadData(
                f"{path}: {prefix + key!r} has shape {tuple(state[key].shape)}, the model wants "
                f"{tuple(tensor.shape)}; check backbone, width, image_size and dim"
            )
    parts = {name for name, _ in model.named_children()}
    extra = sorted(k for k in set(state) - set(wanted) if k.partition(".")[0] in parts)
    if extra:
        raise BadData(f"{path}: unknown key {prefix + extra[0]!r}; is it a deeper architecture?")
    log.info("init: the backbone of %s (keys %s…)", path, prefix or next(iter(wanted)))
    model.load_state_dict({k: v for k, v in state.items() if k in wanted}, strict=False)


def find_prefix(tensors: dict, wanted: dict, path: Path) -> str:
    """What stands before a backbone's names in a file: the first where all are found."""
    needed = [key for key in wanted if not key.endswith("num_batches_tracked")]
    first = needed[0]
    prefixes = [k.removesuffix(first) for k in tensors if k.endswith(first)]
    prefixes = [p for p in prefixes if p == "" or p.endswith(".")]
    prefixes.sort(key=lambda p: any(word in p for word in OTHER))  # stable: in the file's order
    lacks = {p: [key for key in needed if p + key not in tensors] for p in prefixes}
    best = min(prefixes, key=lambda p: len(lacks[p]), default=None)
    if best is not None and not lacks[best]:
        return best
    missing = first if best is None else lacks[best][0]
    raise BadData(
        f"{path}: key {missing!r} is missing; is it another architecture? found "
        f"{', '.join(list(tensors)[:3]) or 'no tensors'}, … ({len(tensors)}), wanted "
        f"{', '.join(needed[:3])}, … ({len(needed)})"
    )


def take_centres(cfg: Config, learner: nn.Module, classes: int) -> dict[str, torch.Tensor]:
    """Class centres of the file that `init=` names, for those of a learner: name -> (N, d).

    A run's are taken where its labels are these: same data, exclusions and split. Of a file of
    others the number of classes must agree.
    """
    path = init_file(cfg.init)
    state, tensors = read_weights(path)
    own = state.get("config") if isinstance(state.get("config"), dict) else {}
    differ = [key for key in LABELS if key in own and own[key] != getattr(cfg, key)]
    backbone = learner.backbone.state_dict()
    prefix = find_prefix(tensors, backbone, path)
    heads = {k: v for k, v in tensors.items() if v.ndim == 2 and v.is_floating_point()
             and not (k.startswith(prefix) and k.removeprefix(prefix) in backbone)
             and k.rpartition(".")[2] in ("weight", "kernel")
             and not any(word in k for word in OTHER)}  # fmt: skip
    taken = {}
    for name, weight in learner.criterion.named_parameters():
        if name.rpartition(".")[2] != "weight" or weight.ndim != 2:
            continue
        rows = (classes, weight.shape[1])  # of all processes
        fits = [v if v.shape == rows else v.T for v in heads.values()
                if rows in (tuple(v.shape), tuple(v.T.shape))]  # fmt: skip
        if len(fits) == 1 and not differ:
            taken[f"criterion.{name}"] = fits[0]
    why = f"another {', '.join(differ)}" if differ else f"no single one of {classes} classes"
    log.info("init: class centres of %s: %s", path, "taken over" if taken else f"new ({why})")
    return taken
