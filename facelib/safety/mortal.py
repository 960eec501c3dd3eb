"""Children that die with their parent (Linux), and that leave the script of their parent alone.

Asked for before anything heavy is imported, and by the fork server of the loader's workers too: it
and each worker that it forks then end when their parent does, a killed one included.
"""

import atexit
import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import NoReturn

PR_SET_PDEATHSIG = 1
FIRST_PARENT = os.getppid()  # when this module was imported


def die_with_parent(parent: int | None = None, number: int = signal.SIGTERM) -> None:
    """Get a signal when the parent dies; end at once if it is gone already.

    Args:
        parent: its process id, where that is known; else whoever is the parent now.
    """
    parent = os.getppid() if parent is None else parent
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(128 + number)


def end_at_once(code: int) -> NoReturn:
    """End this process as `sys.exit` does, but for taking apart its modules.

    Taking torch's apart takes longer than all else, and somebody waits for the end.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def make_workers_mortal() -> None:
    """Workers of a fork server that is not started yet end with the process that uses them."""
    from multiprocessing import get_all_start_methods, set_forkserver_preload

    if "forkserver" in get_all_start_methods():  # not on Windows
        set_forkserver_preload(["facelib.safety.mortal_workers", "facelib.data.loader"])


@contextmanager
def without_script() -> Iterator[None]:
    """Processes that multiprocessing starts in here do not import the caller's script.

    They need only facelib. A script without `if __name__ == "__main__"` would run again in each of
    them, and wait there for what its first run holds.
    """
    script, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script
