"""Processes that we start: they leave the script of their parent alone, and end with it at once."""

import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
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
END = """import atexit, sys
from facelib.safety.mortal import end_at_once
class Module:
    def __del__(self): print("taken apart")
sys.modules["slow"] = Module()
atexit.register(print, "at the end")
print("said", end=" ")
end_at_once(3)"""
KERNEL = """import asyncio, os
from facelib.runner.execute import _kernel_class
kernel = _kernel_class([])()
asyncio.run(kernel.start_kernel())
print(kernel.provisioner.pid, flush=True)
os.kill(os.getpid(), 9)"""


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


def test_an_end_at_once_says_all_and_takes_nothing_apart():
    # Mutation: sys.exit, which takes torch apart for 0.7 s; or os._exit alone, which loses output.
    done = subprocess.run([sys.executable, "-c", END], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "said at the end\n"), done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
def test_a_kernel_whose_notebook_is_killed_ends_before_it_has_imported_anything(tmp_path):
    # Mutation: a kernel that looks for its parent only once it runs, seconds after it was started.
    done = subprocess.run([sys.executable, "-c", KERNEL], capture_output=True, text=True,
                          cwd=tmp_path)  # fmt: skip
    pid, end = int(done.stdout), time.monotonic() + 1
    while psutil.pid_exists(pid) and time.monotonic() < end:
        time.sleep(0.01)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
