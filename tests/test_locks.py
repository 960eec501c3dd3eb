"""Locks and imports on systems without Unix's modules."""

import ctypes
import subprocess
import sys

import pytest

from facelib.locks import Locked, cores, is_locked, locked, peak_memory
from facelib.paths import REPO

# Other packages may use them here: what they do elsewhere is theirs.
WITHOUT = """
import builtins, importlib, pkgutil
real = builtins.__import__
UNIX = {"fcntl", "resource", "pwd", "grp", "termios", "posix"}
def importing(name, globals=None, *rest, **more):
    if name.partition(".")[0] in UNIX and (globals or {}).get("__name__", "").startswith("facelib"):
        raise ImportError(name)
    return real(name, globals, *rest, **more)
builtins.__import__ = importing
import facelib
names = [m.name for m in pkgutil.walk_packages(facelib.__path__, "facelib.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(names))
"""
HOLD = """
import sys, time
from facelib.locks import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_every_module_imports_where_fcntl_resource_and_pwd_are_absent():
    # Catches: `import fcntl` at the top of a module, which ends the import on Windows.
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-600:]
    assert int(done.stdout) > 100


def test_a_lock_is_seen_by_others_and_freed_by_a_kill(tmp_path):
    # Catches: a lock that outlives its holder, a look that takes the lock for good.
    path = tmp_path / ".lock"
    assert not is_locked(path) and not path.exists()
    holder = subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE)
    try:
        holder.stdout.readline()
        assert is_locked(path)
        with pytest.raises(Locked), locked(path, wait=False):
            raise AssertionError("two hold it")
    finally:
        holder.kill()
        holder.wait()
    assert not is_locked(path)
    with locked(path, wait=False):
        assert is_locked(path)
    assert not is_locked(path)


def test_a_process_has_cores_and_memory():
    # Catches: kilobytes taken for bytes (this process has far more than 10 MB).
    assert cores() >= 1 and peak_memory() > 10e6


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"),
    reason="another C library than glibc",
)
def test_freed_memory_is_kept_on_request_alone():
    # Catches: each training step that gets its activations as new pages of the system.
    code = (
        "import resource, numpy; from facelib.locks import keep_freed_memory; {}\n"
        "def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "numpy.ones(1 << 23); before = faults()\n"
        "for _ in range(20): numpy.ones(1 << 23)\n"
        "print(faults() - before)"
    )
    given_back, kept = (
        int(subprocess.check_output([sys.executable, "-c", code.format(call)], cwd=REPO))
        for call in ("", "keep_freed_memory()")
    )
    assert kept < given_back / 5
