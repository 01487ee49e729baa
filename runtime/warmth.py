"""Keeps the kernel's lock for moving tasks between cgroups in its fast state while jobs are started. Launcher side.

The lock is a percpu_rw_semaphore: the first writer after a pause waits for an RCU grace period (7–15 ms measured), the
next ones do not. A child of the launcher moves itself to where it already is, every PERIOD_S, until LINGER_S after the
last start: what the mount option `favordynmods` would do for good and for the whole host. docs/design/warm-lock.md.
"""

from __future__ import annotations

import os
import select
import time
from contextlib import suppress

from runtime import process

PERIOD_S = 0.004  # shorter than a grace period: 30 moves of other processes took 0.1 ms each
LINGER_S = 2.0


def start() -> tuple[int, int]:
    """Write end of a pipe for `touch`, and the child's pidfd; the child ends when the pipe is closed."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    child = process.spawn("jobs:warmth", lambda: _keep_warm(reader), (reader,))
    os.close(reader)
    return writer, child.pidfd


def stop(writer: int, pidfd: int) -> None:
    os.close(writer)
    process.reap(pidfd)


def touch(writer: int) -> None:
    """A start is coming. Never blocks; without the child nothing but time is lost."""
    with suppress(OSError):
        os.write(writer, b"!")


def _keep_warm(reader: int) -> int:
    group = os.open(own_group(_text("/proc/self/cgroup"), _text("/proc/self/mountinfo")), os.O_WRONLY)
    until = 0.0
    while True:
        wait_s = PERIOD_S if time.monotonic() < until else None
        ready, _, _ = select.select([reader], [], [], wait_s)
        if ready:
            if not os.read(reader, 4096):
                return 0
            until = time.monotonic() + LINGER_S
        os.pwrite(group, b"0", 0)


def own_group(cgroup: str, mountinfo: str) -> str:
    """The cgroup.procs file of the group that this process is in: v2 if mounted, else any v1 hierarchy. Pure.

    Raises FileNotFoundError where no hierarchy is mounted.
    """
    paths = {names: path for _, names, path in (line.split(":", 2) for line in cgroup.splitlines())}
    found: dict[int, str] = {}
    for line in mountinfo.splitlines():
        head, _, tail = line.partition(" - ")
        kind, _, options = tail.split(" ", 2)
        root, point = head.split()[3:5]
        names = next(
            (n for n in paths if n and set(n.removeprefix("name=").split(",")) <= set(options.split(","))), None
        )
        here = paths.get("") if kind == "cgroup2" else paths[names] if kind == "cgroup" and names else None
        if here is not None and (here + "/").startswith(root.rstrip("/") + "/"):
            found.setdefault(2 if kind == "cgroup2" else 1, f"{point}/{here[len(root.rstrip('/')) :].strip('/')}")
    if not found:
        raise FileNotFoundError("no cgroup hierarchy is mounted")
    return found[max(found)].rstrip("/") + "/cgroup.procs"


def _text(path: str) -> str:
    with open(path) as file:
        return file.read()
