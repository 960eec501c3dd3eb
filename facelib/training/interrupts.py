"""How a training process stops: on a signal, with a checkpoint; or when nobody is left to wait."""

import os
import signal
import threading
import time

from facelib import distributed
from facelib.safety.mortal import FIRST_PARENT

PATIENCE = 30  # seconds between a signal and the agreement to stop, where that can hang
_signalled = False


class Stop(Exception):
    """Ctrl-C or SIGTERM: leave with a checkpoint."""


def signalled() -> bool:
    """Has this process been asked to stop?"""
    return _signalled


def listen() -> None:
    """Take SIGINT and SIGTERM as requests, and die after the parent. For the main thread."""
    threading.Thread(target=watch_parent, daemon=True).start()
    signal.signal(signal.SIGINT, _on_signal)
    signal.signal(signal.SIGTERM, _on_signal)


def _on_signal(number: int, frame: object) -> None:
    """Stop with a checkpoint as soon as all processes have seen it, at the end of a step.

    Where that can hang (a peer died) or nobody waits for it (the parent died), die after `PATIENCE`
    seconds, unless `take_time` says that the end is near.
    """
    global _signalled
    _signalled = True
    if distributed.world_size() > 1 or os.getppid() != FIRST_PARENT:
        signal.alarm(PATIENCE)


def take_time() -> None:
    """All processes have agreed to stop: writing the checkpoint may take as long as it takes."""
    signal.alarm(0)


def watch_parent(patience: float = PATIENCE + 10) -> None:
    """End a process whose parent died and that no signal reaches (it hangs inside a collective).

    `patience` in seconds is longer than what a signal allows.
    """
    while os.getppid() == FIRST_PARENT:
        time.sleep(2)
    time.sleep(patience)
    os._exit(1)
