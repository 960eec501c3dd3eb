"""What a person sees while a training runs, and what a program that executes a notebook keeps."""

import base64
import io
import json

import pytest
from jupyter_client.manager import start_new_kernel
from PIL import Image

from facelib.config import make_config
from facelib.runs.folder import create_run

WATCH = """
from types import SimpleNamespace
from facelib.runs.folder import load_run
from facelib.runs.progress import show_progress
show_progress(load_run({path!r}), SimpleNamespace(poll=lambda: 0))
"""


@pytest.fixture
def begun(runs_folder):
    run = create_run(make_config())
    speed = {"images_per_s": 800.0, "eta_s": 90.0, "peak_memory_mb": 500.0}
    rows = [{"step": step, "loss": 9 / step, **speed} for step in (10, 20, 30)]
    lines = [json.dumps(row) for row in (*rows, {"step": 30, "val_auc": 0.8})]
    (run.path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    run.set_status(state="running", steps=60)
    return run


@pytest.mark.slow
@pytest.mark.parametrize("person", [True, False])
def test_a_person_sees_curves_and_a_program_keeps_one_line_of_text(begun, person):
    # Catches: pictures in outputs that papermill saves or nbval compares; none in JupyterLab.
    manager, client = start_new_kernel()
    shown = []
    try:
        client.execute_interactive(
            WATCH.format(path=str(begun.path)), allow_stdin=person, timeout=60,
            output_hook=lambda m: shown.append(m["content"]) if m["msg_type"] != "status" else 0,
        )  # fmt: skip
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    last = shown[-1]["data"]
    assert "step 30/60 (50 %), loss 0.300, 800 images/s" in last["text/plain"]
    assert "1.5 min left" in last["text/plain"]
    assert ("image/png" in last) == person
    if person:
        picture = base64.b64decode(last["image/png"])
        assert Image.open(io.BytesIO(picture)).width == 640 and len(picture) < 40_000
