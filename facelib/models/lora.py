"""LoRA: low-rank adapters on the linear layers of a frozen foundation model (arXiv 2106.09685).

A frozen layer y = Wx becomes y = Wx + (alpha/rank)·B·A·x with A (rank, in) random and B (out, rank)
zero, so that the adapted model starts as the frozen one; only A and B train. Source A: rank 8,
alpha 8, the two FFN layers of every block. The arithmetic is peft's; its layers are put into the
model in place, so that an adapted `Foundation` still is one.

    FOLDER/adapter_model.safetensors   A and B under peft's names; the header names the base weights
    FOLDER/adapter_config.json         peft's settings: `PeftModel.from_pretrained(encoder, FOLDER)`
"""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from facelib.errors import BadData, UserError
from facelib.models.foundation import Foundation, build_full_size, weights_digest
from facelib.paths import atomic_file
from facelib.safety.archive import check_digest, tensors_digest
from facelib.safety.readers import check_fields, read_object, reading

ADAPTER = "default"  # peft's name of the only adapter
WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"
AGAIN = "save the adapters again"
PREFIX = "base_model.model."  # of every key in a peft file
REAL_MODELS = ("clip-vit-b32", "dinov2-vit-b14", "ijepa-vit-h14")


def add_adapters(
    model: Foundation,
    rank: int = 8,
    alpha: float = 8.0,
    targets: str = "ffn",
    seed: int = 0,
    spread: float = 1.0,
) -> Foundation:
    """Freeze a foundation model and put adapters into it, in place; returns it.

    All its weights and statistics stay as they are, and `model.base_digest` names them.

    Args:
        targets: "ffn", "attention" or "all" linear layers.
        seed: of the matrices A; the global random state is left as it was.
        spread: A's standard deviation over peft's 1/√(3·in); √6 in source A; scales B's steps.

    Raises:
        UserError: the model has adapters already.
    """
    _refuse_adapters(model)
    base = weights_digest(model)
    _inject(model, rank, alpha, model.linear_names(targets), seed)
    with torch.no_grad():
        for name, parameter in model.encoder.named_parameters():
            if ".lora_A." in name:
                parameter.mul_(spread)
    model.base_digest = base
    return model


def _refuse_adapters(model: nn.Module) -> None:
    if has_adapters(model):
        raise UserError("this model has adapters already: load the foundation model anew")


def _inject(model: Foundation, rank: int, alpha: float, names: list[str], seed: int) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    settings = LoraConfig(
        r=rank, lora_alpha=alpha, target_modules=names, lora_dropout=0.0, bias="none"
    )
    model.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(settings, model.encoder, ADAPTER)


def has_adapters(model: nn.Module) -> bool:
    """Whether `add_adapters` or `load_adapters` made this model."""
    return hasattr(model, "base_digest")


def is_adapter(name: str) -> bool:
    """Whether a parameter of this name is one of an adapter's matrices."""
    return ".lora_A." in name or ".lora_B." in name


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """(parameters that train, all parameters), the adapters counted in both."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, trains in sizes if trains), sum(n for n, _ in sizes)


def trainable_fractions() -> dict[str, tuple[int, int]]:
    """`count_parameters` of the three real models at full size under source A's adapters."""
    counts = {}
    for name in REAL_MODELS:
        model = build_full_size(name)
        with torch.device("meta"):
            _inject(model, 8, 8.0, model.linear_names("ffn"), seed=0)
        counts[name] = count_parameters(model)
    return counts


def save_adapters(model: Foundation, folder: str | Path) -> Path:
    """Write the adapters alone, in peft's files, and return their folder."""
    from safetensors.torch import save_file

    if not has_adapters(model):
        raise UserError("this model has no adapters to save: train with lora_rank above 0")
    tensors = {_file_key(k): v.detach().cpu().contiguous() for k, v in _adapter_state(model)}
    settings = model.encoder.peft_config[ADAPTER].to_dict()
    settings |= {"base_model_name_or_path": model.name, "inference_mode": True}
    plain = {k: sorted(v) if isinstance(v, set) else v for k, v in settings.items()}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / WEIGHTS) as temporary:
        header = {"format": "pt", "base": model.name, "base_digest": model.base_digest}
        header["digest"] = tensors_digest(tensors, model.base_digest)
        save_file(tensors, temporary, metadata=header)
    with atomic_file(folder / SETTINGS) as temporary:
        temporary.write_text(json.dumps(plain, indent=1, sort_keys=True) + "\n")
    return folder


def _adapter_state(model: Foundation) -> Iterator[tuple[str, torch.Tensor]]:
    return ((k, v) for k, v in model.encoder.state_dict().items() if is_adapter(k))


def _file_key(key: str) -> str:
    return PREFIX + key.replace(f".{ADAPTER}.", ".")


def load_adapters(model: Foundation, folder: str | Path) -> Foundation:
    """Put saved adapters into a fresh foundation model, in place; returns it.

    Raises:
        UserError: the model has adapters already.
        BadData: no or unreadable files, other base weights than those that the adapters were
            trained on, a missing or unknown key, or another rank than the settings say.
    """
    _refuse_adapters(model)
    folder = Path(folder)
    settings, tensors, header = _read(folder)
    digest = tensors_digest(tensors, header.get("base_digest", ""))
    check_digest(folder / WEIGHTS, header, digest, AGAIN)
    ranks = {tensor.shape[0] for key, tensor in tensors.items() if ".lora_A." in key}
    if ranks - {settings["r"]}:
        raise BadData(
            f"{folder / SETTINGS}: r is {settings['r']}, {WEIGHTS} beside it has rank "
            f"{sorted(ranks)}: another rank; {AGAIN}"
        )
    found = weights_digest(model)
    if header.get("base_digest") != found:
        raise BadData(
            f"{folder / WEIGHTS}: trained on {header.get('base', 'unknown')} weights "
            f"{header.get('base_digest', 'unknown')}, this model holds {found}: "
            "load the base weights that the adapters were trained on"
        )
    with reading(folder / SETTINGS, "settings of adapters on this model", AGAIN):
        _inject(model, settings["r"], settings["lora_alpha"], settings["target_modules"], seed=0)
    own = {_file_key(key): tensor for key, tensor in _adapter_state(model)}
    _check_tensors(tensors, own, folder / WEIGHTS)
    with torch.no_grad():
        for key, tensor in own.items():
            tensor.copy_(tensors[key])
    model.base_digest = found
    return model


def _read(folder: Path) -> tuple[dict, dict[str, torch.Tensor], dict[str, str]]:
    from safetensors import safe_open

    for name in (SETTINGS, WEIGHTS):
        if not (folder / name).is_file():
            raise BadData(f"{folder}: no {name}; a finished LoRA run has both files in adapters/")
    kinds = {"r": int, "lora_alpha": (int, float), "target_modules": (list, str)}
    settings = read_object(folder / SETTINGS, AGAIN)
    settings = {name: settings.get(name) for name in kinds}
    check_fields(settings, kinds, str(folder / SETTINGS), AGAIN)
    with (
        reading(folder / WEIGHTS, "a safetensors file", AGAIN),
        safe_open(folder / WEIGHTS, framework="pt") as file,
    ):
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return settings, tensors, file.metadata() or {}


def _check_tensors(found: dict, wanted: dict, path: Path) -> None:
    for key, tensor in wanted.items():
        if key not in found:
            raise BadData(f"{path}: key {key!r} is missing; save the adapters again")
        if found[key].shape != tensor.shape:
            raise BadData(
                f"{path}: {key!r} has shape {tuple(found[key].shape)}, {SETTINGS} beside it and "
                f"the model want {tuple(tensor.shape)}: another rank or model"
            )
    extra = sorted(set(found) - set(wanted))
    if extra:
        raise BadData(f"{path}: unknown key {extra[0]!r}; {SETTINGS} beside it names other layers")


def layer_shifts(model: Foundation) -> list[dict]:
    """How far each adapted layer moved: ‖(alpha/rank)·B·A‖ over ‖W‖, Frobenius norms.

    Returns:
        One dict a layer: block (its number in the network), layer (last part of its name),
        shift, weight, relative.
    """
    from peft.tuners.lora import LoraLayer

    rows = []
    for name, module in model.encoder.named_modules():
        if not isinstance(module, LoraLayer):
            continue
        shift, weight = module.get_delta_weight(ADAPTER).norm().item(), module.weight.norm().item()
        parts = name.split(".")
        block = next(int(part) for part in parts if part.isdigit())
        rows.append({"block": block, "layer": parts[-1], "shift": shift,
                     "weight": weight, "relative": shift / weight})  # fmt: skip
    return rows
