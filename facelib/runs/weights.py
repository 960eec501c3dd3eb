"""The weights files that a command will load, looked at before torch is imported.

A damaged or hostile one is refused in the first second of a command, by the rule by which it would
be refused when it is loaded (`facelib.safety.archive`); nothing of it is kept.
"""

from pathlib import Path
from typing import Any

from facelib.config import Config
from facelib.errors import BadData, UserError
from facelib.limits import FOUNDATION_MODELS, IRESNETS
from facelib.paths import runs_root
from facelib.runs.folder import Run, load_run
from facelib.safety.archive import check_archive
from facelib.safety.outline import Tensor, flat
from facelib.safety.readers import read_object, reading

AGAIN = "give init= an existing backbone file"
WEIGHTS_FOLDER = "weights"  # of a run that trained a foundation model
MOVE = "move it away and run again"
FIRST = "conv1.weight"  # the first name in every IResNet
# What every checkpoint holds; `scaler`, `best`, `losses` and `base` may be absent or None.
KINDS = {"learner": dict, "optimizer": dict, "rng": list, "step": int, "digest": str}


def init_file(init: str) -> Path:
    """The weights file that `init=` names: a file, a run's folder, or a run by name.

    Raises:
        UserError: nothing of that name.
    """
    path = Path(init).expanduser()
    if path.is_file():
        return path
    try:
        run = load_run(path)
    except BadData:
        raise
    except UserError:
        if path.is_dir():
            inside = sorted(file.name for file in path.iterdir() if file.is_file())
            raise UserError(
                f"init={init!r}: a folder without a run's config.json; name a weights file in it "
                f"({', '.join(inside[:3]) or 'it holds no file'})"
            ) from None
        raise UserError(
            f"init={init!r}: no such file, and no run in {runs_root()} of that name; give a "
            "weights file, a run's folder or its name; list runs: python -m facelib runs"
        ) from None
    if not run.checkpoint.is_file():
        raise UserError(f"init={init!r}: no checkpoint; python -m facelib train --run {run.ref}")
    return run.checkpoint


def check_init(cfg: Config) -> None:
    """Look at the weights that `init=` names: whole, data only, with tensors by name.

    Raises:
        UserError, BadData: as when they are loaded.
    """
    if cfg.init in ("scratch", "pretrained"):
        return
    folder = Path(cfg.init).expanduser()
    if cfg.backbone in FOUNDATION_MODELS:
        for place in (folder, folder / WEIGHTS_FOLDER):  # the latter of a run
            _check_folder(place)
        return
    path = init_file(cfg.init)
    if path.suffix == ".safetensors":
        state = check_safetensors(path, AGAIN)
    else:
        state = check_archive(path, AGAIN)
    check_names(state, Tensor, path)
    names = [name for name, _ in flat(state, Tensor)]
    if cfg.backbone in IRESNETS and not any(name.endswith(FIRST) for name in names):
        raise BadData(
            f"{path}: key {FIRST!r} is missing; is it another architecture? found "
            f"{', '.join(names[:3])}, … ({len(names)}); {AGAIN}"
        )


def check_names(state: Any, kind: type, path: Path) -> None:
    """BadData where a weights file, or its outline, holds no tensor by name."""
    if not isinstance(state, dict):
        raise BadData(f"{path}: holds a {type(state).__name__}, wanted a dict of tensors by name")
    if next(flat(state, kind), None) is None:
        raise BadData(f"{path}: no tensors by name, wanted those of a backbone; {AGAIN}")


def check_run(run: Run, checkpoint: Path | None = None) -> Run:
    """A run whose checkpoint, if it is there, is whole and one: by default that for evaluation."""
    path = checkpoint or run.checkpoint
    if path.is_file():
        check_kinds(check_archive(path, MOVE), path)
    if run.config.backbone in FOUNDATION_MODELS:
        check_init(run.config)
    return run


def check_kinds(state: Any, path: Path) -> None:
    """BadData where the content of a checkpoint, or its outline, is of another kind."""
    found = "" if isinstance(state, dict) else f"holds a {type(state).__name__}, wanted a dict"
    for name, kind in KINDS.items():
        if not found and not isinstance(state.get(name), kind):
            found = f"{name!r} is a {type(state.get(name)).__name__}, wanted {kind.__name__}"
    if found:
        raise BadData(f"{path}: cannot be read as a checkpoint: {found}; {MOVE}")


def _check_folder(folder: Path) -> None:
    """The files of a published model, as far as they can be looked at without building it."""
    again = "fetch it again"
    for name in ("config.json", "open_clip_config.json", "model.safetensors.index.json"):
        read_object(folder / name, again, default=None)
    for path in sorted(folder.glob("*model*.safetensors")):
        check_safetensors(path, again)
    if (path := folder / "open_clip_pytorch_model.bin").is_file():
        check_names(check_archive(path, again), Tensor, path)


def check_safetensors(path: Path, again: str) -> dict[str, Tensor]:
    """Its tensors by name; BadData where its header is not that of tensors over all its bytes."""
    from safetensors import safe_open

    with reading(path, "a safetensors file", again), safe_open(path, framework="np") as file:
        found = dict.fromkeys(file.keys(), Tensor())
        check_names(found, Tensor, path)
    return found
