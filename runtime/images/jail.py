"""The jail of the unpacker: entered before one byte of the source is read, and for ever. docs/design/image-jail.md.

The process starts as the host's root and ends as root of a user namespace whose ids own nothing on the host but the
new, idmapped tree, which is also its whole file system. A step that fails ends the process.
"""

from __future__ import annotations

import os
import resource

from runtime import landlock, syscalls
from runtime.images.limits import Limits

_KEPT = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4  # CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID
_ALLOWED = (
    landlock.WRITE_FILE | landlock.READ_FILE | landlock.READ_DIR | landlock.REMOVE_FILE | landlock.MAKE_DIR
    | landlock.MAKE_REG | landlock.MAKE_SYM | landlock.MAKE_CHAR | landlock.REFER | landlock.TRUNCATE
)  # fmt: skip
# MAKE_CHAR is for whiteouts; every other device number needs CAP_MKNOD in the initial namespace (mknod(2)).


def enter(tree: int, userns: int, limits: Limits, keep: tuple[int, ...]) -> str:
    """`tree`: detached idmapped mount, the new root. Only 0–2 and `keep` stay open. Returns what holds, for the report.

    Raises OSError; then nothing has been read yet.
    """
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    _enter_namespaces(tree)
    _become_nobody(userns, proc)
    _cap_resources(limits)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    _close_all_but(keep)
    version = landlock.restrict("/", _ALLOWED)
    for capability in range(syscalls.CAP_LAST_CAP + 1):
        if not _KEPT >> capability & 1 and not _drop_bound(capability):
            break
    syscalls.capset(_KEPT)
    return f"user namespace, own root, no capability outside, Landlock ABI {version or 'absent'}"


def _enter_namespaces(tree: int) -> None:
    """`/proc` is only a place that surely exists to attach the new root to, in a mount namespace of our own."""
    syscalls.unshare(
        syscalls.CLONE_NEWNS
        | syscalls.CLONE_NEWNET
        | syscalls.CLONE_NEWIPC
        | syscalls.CLONE_NEWUTS
        | syscalls.CLONE_NEWCGROUP
    )
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.move_mount(tree, syscalls.AT_FDCWD, "/proc")
    os.chdir("/proc")
    syscalls.pivot_root(".", ".")  # pivot_root(2), "pivot_root(".", ".")": the old root is stacked on top
    syscalls.umount2(".", syscalls.MNT_DETACH)
    os.chdir("/")


def _become_nobody(userns: int, proc: int) -> None:
    """The mount namespace stays the host's: with every capability of this user namespace nothing can be mounted."""
    os.setgroups([])
    syscalls.setns(userns, syscalls.CLONE_NEWUSER)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    limit = os.open("sys/user/max_user_namespaces", os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc)
    try:
        os.write(limit, b"0")
    finally:
        os.close(limit)


def _cap_resources(limits: Limits) -> None:
    """One process for ever: what the launcher kills at the time limit is everything there is."""
    for kind, most in (
        (resource.RLIMIT_NPROC, 1),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_CPU, limits.cpu_s),
        (resource.RLIMIT_FSIZE, limits.bytes_out),
    ):
        resource.setrlimit(kind, (most, most))


def _close_all_but(keep: tuple[int, ...]) -> None:
    first = 3
    for fd in sorted(keep):
        if fd > first:
            syscalls.close_range(first, fd - 1)
        first = fd + 1
    syscalls.close_range(first)


def _drop_bound(capability: int) -> bool:
    try:
        syscalls.prctl(syscalls.PR_CAPBSET_DROP, capability)
    except OSError:  # EINVAL: beyond the last capability of this kernel
        return False
    return True
