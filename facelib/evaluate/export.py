"""A run's network as ONNX, for programs without torch; checked against torch before it is kept."""

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from facelib.errors import UserError
from facelib.evaluate.embed import unit_rows
from facelib.paths import atomic_file
from facelib.runs.folder import Run, load_run
from facelib.training.trained import load_model

OPSET = 17
TOLERANCE = 1e-5  # of unit embeddings
BATCHES = (1, 3)  # that are compared


def preprocessing(run: Run) -> dict[str, str]:
    """What a program must do to a picture before the network, and with what comes out."""
    cfg, size = run.config, run.config.image_size
    filled = cfg.fill_border != "none"
    border = " after its black border is filled with the nearest pixels" if filled else ""
    return {
        "color": "RGB",
        "alignment": "ArcFace's five-point template, 112 x 112, as the images of the training",
        "resize": f"to {size} x {size}{border}: area averaging to shrink, bilinear to grow",
        "normalization": "pixel / 127.5 - 1, from 0..255 to [-1, 1]",
        "layout": f"float32 (batch, 3, {size}, {size})",
        "output": "embeddings (batch, d), not normalised: compare them by their cosine",
        "run": run.name,
        "loss": cfg.loss,
    }


def export_onnx(run: str | Path, out: Path) -> dict:
    """Write the run's network and compare it with torch on noise, for two sizes of a batch.

    Raises:
        UserError: an operation that ONNX lacks, or embeddings that differ by more than
            `TOLERANCE`; nothing is written then.
    """
    import onnx

    run, out = load_run(run), Path(out)
    if out.suffix != ".onnx":
        raise UserError(f"--onnx {out}: wanted a name that ends in .onnx")
    model, checkpoint = load_model(run)
    # Images in the usual order of memory: `channels_last` is a matter of speed in torch.
    model = model.float().cpu().to(memory_format=torch.contiguous_format).eval()
    facts = {**preprocessing(run), "checkpoint": checkpoint}
    with atomic_file(out) as temporary:
        _write(model, run.config.image_size, temporary)
        content = onnx.load(temporary)
        onnx.helper.set_model_props(content, facts)
        onnx.checker.check_model(content)
        onnx.save(content, temporary)
        difference = compare_with_torch(model, temporary, run.config.image_size)
        if difference > TOLERANCE:
            raise UserError(
                f"{out}: not written: its embeddings differ from torch's by {difference:.1e}, "
                f"allowed are {TOLERANCE:.0e}"
            )
    size = out.stat().st_size
    return {"out": str(out), "bytes": size, "largest_difference": difference, **facts}


def _write(model: nn.Module, size: int, path: Path) -> None:
    example = torch.zeros(2, 3, size, size)
    axes = {"images": {0: "batch"}, "embeddings": {0: "batch"}}
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # this exporter is the old one: it needs torch alone
            torch.onnx.export(
                model, (example,), str(path), dynamo=False, opset_version=OPSET,
                input_names=["images"], output_names=["embeddings"], dynamic_axes=axes,
            )  # fmt: skip
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"this network cannot be written as ONNX: {reason}") from error


def compare_with_torch(model: nn.Module, path: Path, size: int) -> float:
    """Largest difference of a number of the unit embeddings, on noise."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    worst = 0.0
    for batch in BATCHES:
        images = rng.uniform(-1, 1, (batch, 3, size, size)).astype(np.float32)
        (found,) = session.run(None, {"images": images})
        with torch.inference_mode():
            wanted = model(torch.from_numpy(images)).numpy()
        worst = max(worst, float(np.abs(unit_rows(found) - unit_rows(wanted)).max()))
    return worst
