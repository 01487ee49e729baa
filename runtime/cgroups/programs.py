"""Our BPF program on a v2 group: one per hook, kept alive by the group itself, gone with it.

A group outlives the daemon, and so does its program: nothing is pinned, no descriptor is kept.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from runtime import syscalls
from runtime.cgroups.files import NotKept


class Hook(NamedTuple):
    program_type: int
    attach_type: int


DEVICE = Hook(syscalls.BPF_PROG_TYPE_CGROUP_DEVICE, syscalls.BPF_CGROUP_DEVICE)
EGRESS = Hook(syscalls.BPF_PROG_TYPE_CGROUP_SKB, syscalls.BPF_CGROUP_INET_EGRESS)


def attach(group: str, hook: Hook, code: bytes) -> None:
    """Replaces our program in one step where there is one: neither a gap nor an overlap. Raises OSError with `group`.

    BPF_F_ALLOW_MULTI, so that the programs of groups above (systemd's DeviceAllow=) hold as well.
    """
    opened: list[int] = []
    try:
        opened.append(os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        opened.append(syscalls.bpf_load(hook.program_type, code))
        directory, new = opened
        old = -1
        if before := syscalls.bpf_attached(directory, hook.attach_type):
            old = syscalls.bpf_program_fd(before[0])
            opened.append(old)
        syscalls.bpf_attach(directory, hook.attach_type, new, replace=old)
        after = syscalls.bpf_attached(directory, hook.attach_type)
    except OSError as refused:
        raise OSError(refused.errno, os.strerror(refused.errno or 0), group) from None
    finally:
        for fd in opened:
            os.close(fd)
    if len(after) != 1 or after == before:
        raise NotKept(group, "one new program", f"programs {list(after)}, before {list(before)}")


def attached(group: str, hook: Hook) -> tuple[int, ...]:
    """Ids of the programs on this very group, as the kernel lists them."""
    directory = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return syscalls.bpf_attached(directory, hook.attach_type)
    finally:
        os.close(directory)


def loadable(hook: Hook, code: bytes) -> bool:
    """Whether this kernel takes such a program from us: tried, for no file tells."""
    try:
        os.close(syscalls.bpf_load(hook.program_type, code))
    except (OSError, KeyError):  # KeyError: an architecture whose number of bpf(2) is not known here
        return False
    return True
