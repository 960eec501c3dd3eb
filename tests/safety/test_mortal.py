"""Processes that we start: they leave the script that asked for them alone."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from facelib.paths import REPO

DRAWS = """
from facelib.rendered.dataset import RenderedSpec, rendered_dataset
spec = RenderedSpec(identities=2, images=2, test_identities=20, size=32)
found = (rendered_dataset(spec, folder, workers=2) / "train.rec").is_file()
"""
LOADS = """
import numpy as np
from facelib.data.datasets import FaceRecords
from facelib.data.loader import load_batches
from facelib.formats.decode import encode_jpeg
from facelib.formats.recordio import write_face_records
write_face_records(folder, [(i, encode_jpeg(np.zeros((24, 24, 3), np.uint8))) for i in range(4)])
batches = load_batches(FaceRecords(folder, size=24), iter([np.arange(4)]), 4, workers=2)
found = sum(map(len, batches)) == 4
"""


@pytest.mark.slow
@pytest.mark.parametrize("script", [DRAWS, LOADS], ids=["draws", "loads"])
def test_a_script_without_a_main_guard_ends_and_runs_once(script: str, tmp_path: Path):
    # Catches: workers that run the script again and wait for the lock that its first run holds.
    path = tmp_path / "mine.py"
    head = "import sys, pathlib\nprint('runs')\nfolder = pathlib.Path(sys.argv[1])\n"
    path.write_text(f"{head}{script}print(found)\n")
    done = subprocess.run([sys.executable, str(path), str(tmp_path)], capture_output=True,
                          text=True, timeout=600, cwd=REPO)  # fmt: skip
    assert done.stdout.split() == ["runs", "True"], done.stderr[-2000:]


def test_every_file_that_starts_workers_keeps_the_script_out_of_them():
    # Catches: another pool or loader that starts its processes in the usual way.
    starts = re.compile(r"\b(ProcessPoolExecutor|DataLoader|Pool|Process)\(")
    texts = {path.name: path.read_text() for path in (REPO / "facelib").rglob("*.py")}
    found = {name for name, text in texts.items() if starts.search(text.replace("psutil.", "x"))}
    assert {name for name in found if "with without_script():" not in texts[name]} == set()
    assert {"synthetic.py", "loader.py"} <= found
