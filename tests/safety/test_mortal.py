"""Processes end with their parents, and at once."""

import subprocess
import sys
import time

import psutil
import pytest

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
