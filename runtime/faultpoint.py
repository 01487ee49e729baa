"""Points at which a test ends this very process, to prove that what is left is brought together again. Launcher side.

JOBS_FAULT=name: the process that reaches `name` gets SIGKILL. JOBS_FAULT_ALSO=file: first the pids in that file.
Without the variable a point costs one comparison. The names: tests/e2e/test_crash.py.
"""

from __future__ import annotations

import os
import signal

_CHOSEN = os.environ.get("JOBS_FAULT", "")


def reach(name: str) -> None:
    """Does not return when `name` is the chosen point."""
    if name != _CHOSEN:
        return
    also = os.environ.get("JOBS_FAULT_ALSO", "")
    if also:
        with open(also) as file:
            for pid in file.read().split():
                os.kill(int(pid), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
