"""Processes in a v2 group keep it from passing controllers on. Where the group was given to us, they move to a leaf.

That is so in a container: its first process, its shells and the daemon all start in the root that the container sees,
which is an inner node of the host's tree; and in a systemd unit with Delegate=yes. Nobody else's processes are ours to
move (https://systemd.io/CGROUP_DELEGATION).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from runtime.cgroups.files import exists, read, write

LEAF = "besides-jobs"
_ROUNDS = 100  # each takes whom the others forked meanwhile
_MARKS = ("user.delegate", "trusted.delegate")  # extended attributes that systemd sets to "1"; user. since 251


def may_vacate(group: str, mount_point: str) -> bool:
    """Whether `group` was given to us: as the root that a container sees, or by systemd."""
    if group == mount_point:
        return exists(f"{group}/cgroup.events")  # the host's own root has none, and passes on with processes in it
    return any(_mark(group, name) == b"1" for name in _MARKS)


def vacate(group: str, then: Callable[[], None]) -> None:
    """Moves all processes of `group` itself into its leaf, until `then` is no more refused with EBUSY.

    They stay there: the group has children with controllers from now on.
    """
    leaf = f"{group}/{LEAF}"
    os.makedirs(leaf, mode=0o755, exist_ok=True)
    for _ in range(_ROUNDS):
        for pid in read(f"{group}/cgroup.procs").split():
            _move(pid, leaf)
        try:
            then()
            return
        except OSError as refused:
            if refused.errno != errno.EBUSY:
                raise
    then()


def _move(pid: str, leaf: str) -> None:
    """0 stands for a process outside our pid namespace: it can't be named, and `then` will say so."""
    if pid == "0":
        return
    try:
        write(f"{leaf}/cgroup.procs", pid)
    except OSError as refused:
        if refused.errno != errno.ESRCH:  # gone meanwhile
            raise


def _mark(group: str, name: str) -> bytes:
    try:
        return os.getxattr(group, name)
    except OSError:
        return b""
