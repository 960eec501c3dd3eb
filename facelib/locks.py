"""Locks between processes, and the memory of one, on Linux, macOS and Windows.

The only place that knows what a system offers: nothing else here imports `fcntl`, `resource` and
their like. The system frees a lock at any death of its holder.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
PATIENCE = 0.5  # seconds: `is_locked` of another process holds a lock for an instant


class Locked(Exception):
    """Another process holds the lock."""


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[None]:
    """Hold the lock file `path`; its folder must be there.

    Raises:
        Locked: it is held, and `wait` is False.
    """
    from filelock import FileLock, Timeout  # late: help and errors come without any package

    lock = FileLock(path, timeout=-1 if wait else PATIENCE)
    try:
        lock.acquire()
    except Timeout:
        raise Locked(str(path)) from None
    try:
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Does a process hold the lock? A file that this process may not write tells nothing: False."""
    if not os.access(path, os.W_OK):
        return False
    try:
        with locked(path, wait=False):
            return False
    except Locked:
        return True


def cores() -> int:
    """Processor cores that this process may use."""
    known = hasattr(os, "sched_getaffinity")  # Linux
    return len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1


def bf16_units(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """The processor's units for products in bf16, by Linux's names; elsewhere none is known."""
    try:
        flags = cpuinfo.read_text().split("flags", 1)[-1].split("\n", 1)[0].split()
    except OSError:
        return []
    return [name for name in ("amx_bf16", "avx512_bf16") if name in flags]


def keep_freed_memory() -> None:
    """Let glibc keep what is freed, for the next step, instead of giving it back to the system.

    Else each step gets its activations as new pages (`tests/bench/bench_step.py`). Numbers stay
    the same, and the peak of the memory nearly so.
    """
    known = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if known:  # not in musl
        for parameter in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
            known(parameter, 1 << 30)


def peak_memory() -> float:
    """Most memory that this process has had, in bytes."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return psutil.Process().memory_info().peak_wset
    unit = 1 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
