"""Weights files of foundation models: read, checked against the architecture, or refused.

Transformers fills keys that a file lacks with random numbers and only warns; here that is an error.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import nn

from facelib.errors import BadData
from facelib.models.registry import FOUNDATIONS, download_hint
from facelib.safety.archive import load_archive
from facelib.safety.readers import read_object, reading

CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_NO_TEXT = {"context_length": 4, "vocab_size": 8, "width": 64, "heads": 1, "layers": 1}


def build_encoder(name: str, config: Mapping) -> nn.Module:
    """An image encoder with random weights in the architecture of a config."""
    if FOUNDATIONS[name].kind == "open_clip":
        import open_clip

        # Only the image tower is used; the text tower is as small as it can be.
        return open_clip.CLIP(
            config["embed_dim"],
            vision_cfg=dict(config["vision_cfg"]),
            text_cfg=_NO_TEXT,
            quick_gelu=config.get("quick_gelu", False),
        ).visual
    model_class, config_class = _classes(FOUNDATIONS[name].kind)
    return model_class(config_class(**config))


def _classes(kind: str) -> tuple[type, type]:
    import transformers

    stem = {"dinov2": "Dinov2", "ijepa": "IJepa"}[kind]
    return getattr(transformers, f"{stem}Model"), getattr(transformers, f"{stem}Config")


def load_encoder(name: str, folder: Path) -> nn.Module:
    """The image encoder of a model from a local folder.

    Raises:
        BadData: no folder, a file is missing, another architecture, a key missing or of another
            shape.
    """
    if not folder.is_dir():
        raise BadData(f"{folder}: no such folder; {download_hint(name)}")
    return (_load_clip if FOUNDATIONS[name].kind == "open_clip" else _load_transformers)(
        name, folder
    )


def _load_clip(name: str, folder: Path) -> nn.Module:
    config = _read_config(folder / "open_clip_config.json", name).get("model_cfg", {})
    path = next((folder / f for f in CLIP_WEIGHTS if (folder / f).is_file()), None)
    if path is None:
        raise BadData(f"{folder}: no {' or '.join(CLIP_WEIGHTS)}; {download_hint(name)}")
    from open_clip.transformer import VisionTransformer
    from safetensors.torch import load_file

    where = folder / "open_clip_config.json"
    with reading(where, "an open_clip model", download_hint(name)):
        sizes = {"embed_dim": config["embed_dim"], **config["vision_cfg"]}
        _check_sizes(sizes, [path], where, download_hint(name))
        encoder = build_encoder(name, config)
    if not isinstance(encoder, VisionTransformer):
        found = type(encoder).__name__
        raise BadData(f"{folder}: image tower {found}, {name} wants a VisionTransformer")
    prefix, again = "visual.", download_hint(name)
    with reading(path, "a weights file", again):
        safe = path.suffix == ".safetensors"
        state = load_file(path) if safe else load_archive(path, again)
        state = state.get("state_dict", state)
        state = {k[len(prefix) :]: v.float() for k, v in state.items() if k.startswith(prefix)}
    wanted = encoder.state_dict()
    missing = [f"{prefix}{k}" for k in wanted if k not in state]
    shapes = [
        (f"{prefix}{k}", tuple(state[k].shape), tuple(v.shape))
        for k, v in wanted.items()
        if k in state and state[k].shape != v.shape
    ]
    _refuse(path, missing, shapes)
    encoder.load_state_dict(state, strict=False)
    return encoder


def _load_transformers(name: str, folder: Path) -> nn.Module:
    kind = FOUNDATIONS[name].kind
    config = _read_config(folder / "config.json", name)
    found = config.get("model_type")
    if found != kind:
        raise BadData(
            f"{folder / 'config.json'}: model_type {found!r}, {name} wants {kind!r}: another "
            f"architecture; {download_hint(name)}"
        )
    path, parts = _transformers_weights(folder, download_hint(name))
    _check_sizes(config, parts, folder / "config.json", download_hint(name))
    wanted = "a weights file of transformers"
    with reading(path, wanted, download_hint(name)), _quiet_transformers():
        encoder, info = _classes(kind)[0].from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32,
            output_loading_info=True, ignore_mismatched_sizes=True,
        )  # fmt: skip
    # A masked-pretraining token is unused here, and I-JEPA's file has none.
    missing = sorted(k for k in info["missing_keys"] if not k.endswith("mask_token"))
    _refuse(path, missing, sorted(info["mismatched_keys"]))
    return encoder


def _transformers_weights(folder: Path, again: str) -> tuple[Path, list[Path]]:
    """The file that names a model's weights, and the files that hold them: itself, or shards."""
    path = folder / "model.safetensors"
    index = folder / f"{path.name}.index.json"
    if path.is_file():
        return path, [path]
    if not index.is_file():
        raise BadData(f"{folder}: no {path.name} nor {index.name}; {again}")
    names = read_object(index, again).get("weight_map")
    names = sorted(set(map(str, names.values()))) if isinstance(names, dict) else []
    lost = [name for name in names if Path(name).name != name or not (folder / name).is_file()]
    if lost or not names:
        raise BadData(f"{index}: names {lost[0] if lost else 'no file'!r}: not there; {again}")
    return index, [folder / name for name in names]


def _refuse(path: Path, missing: list[str], shapes: list[tuple]) -> None:
    """Transformers would fill such weights with random numbers and only warn."""
    if missing:
        raise BadData(
            f"{path}: key {missing[0]!r} is missing ({len(missing)} in all): another architecture, "
            "or an incomplete file; fetch it again"
        )
    if shapes:
        key, found, wanted = shapes[0]
        raise BadData(
            f"{path}: {key!r} has shape {tuple(found)}, its configuration wants {tuple(wanted)}"
        )


def _read_config(path: Path, name: str) -> dict:
    if not path.is_file():
        raise BadData(f"{path.parent}: no {path.name}; {download_hint(name)}")
    return read_object(path, download_hint(name))


def _check_sizes(config: Mapping, weights: list[Path], where: Path, again: str) -> None:
    """BadData where a configuration names a larger network than its weights file can hold.

    The network is built before its weights are compared. A layer from d to d numbers takes d²
    weights of two bytes or more, so no size in it is above the root of the file's bytes.
    """
    most = int(sum(path.stat().st_size for path in weights) ** 0.5)
    for name, value in config.items():
        if isinstance(value, Mapping):
            _check_sizes(value, weights, where, again)
        elif isinstance(value, int | float) and value > most > 0:
            raise BadData(f"{where}: {name} is {value}, more than {weights[0].name} holds; {again}")


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No loading report and no progress bar: what matters in it is an error here."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
