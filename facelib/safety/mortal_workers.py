"""Imported by a fork server as its first module: it and its workers die with their parents."""

import os
import signal

from facelib.safety.mortal import die_with_parent

die_with_parent(number=signal.SIGKILL)
os.register_at_fork(after_in_child=lambda: die_with_parent(number=signal.SIGKILL))
