"""Points at which a test ends processes, to prove that what is left is brought together again. Launcher side.

JOBS_FAULT=name, JOBS_FAULT_KILL=file: whoever reaches `name` first removes the file and kills the pids in it (SIGKILL),
itself last if it is among them. Without the variable a point costs one comparison. Used by tests/e2e/test_crash.py.
"""

from __future__ import annotations

import os
import signal

_CHOSEN = os.environ.get("JOBS_FAULT", "")


def reach(name: str) -> None:
    """Does not return when this process is among those to die at `name`."""
    if name != _CHOSEN:
        return
    try:
        with open(os.environ["JOBS_FAULT_KILL"]) as file:
            pids = [int(pid) for pid in file.read().split()]
        os.unlink(os.environ["JOBS_FAULT_KILL"])
    except FileNotFoundError:
        return  # it has happened
    for pid in sorted(pids, key=lambda pid: pid == os.getpid()):
        os.kill(pid, signal.SIGKILL)
