"""How a command ends: its exit code, and one line on standard error where it went wrong."""

import errno
import os
import sys
from collections.abc import Callable

from facelib.errors import UserError, printable

MEMORY = "not enough memory; close other programs, or ask for less (a smaller batch, fewer workers)"
MEMORY_SIGNS = ("can't allocate memory", "out of memory", "Unable to allocate")


def guarded(call: Callable[[], int | None]) -> int:
    """Run a command: 0 or its own code, 2 (one clear line), or 130 (interrupted)."""
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115 (for the rest of the process)
    if sys.stdout is None:
        sys.stderr.write("error: standard output is closed; send it to a file or to /dev/null\n")
        return 2
    try:
        code = call() or 0
        sys.stdout.flush()  # here, where a reader that went away can still be said
        return code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command continues\n")
        return 130
    except BrokenPipeError:
        message = "standard output was closed before all was written"
    except ModuleNotFoundError as error:
        if (error.name or "facelib").partition(".")[0] == "facelib":
            raise  # a fault of ours
        message = (
            f"{sys.executable} has no package {error.name!r}: make setup, or in conda: "
            "conda env update -f environment.yml"
        )
    except (UserError, OSError, MemoryError, RuntimeError) as error:
        message = explain(error)
        if message is None:
            raise
    _drop_output()
    sys.stderr.write(f"error: {message}\n")
    return 2


def explain(error: BaseException, place: object = "") -> str | None:
    """What to tell a person of an error of a kind that is theirs to mend; None of a bug.

    Args:
        place: what was being written, where the error does not say.
    """
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return MEMORY
    if isinstance(error, OSError):
        where = printable(error.filename or place or "a file, or standard output")
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return f"{where}: {error.strerror or error}" + ("; free space, run again" if full else "")
    return MEMORY if any(sign in str(error) for sign in MEMORY_SIGNS) else None


def _drop_output() -> None:
    """Send what is left in the buffer of standard output nowhere: nobody reads it."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
