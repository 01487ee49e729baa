"""Landlock: what a process may still do with files, sockets and signals after it has entered its root. Launcher side.

landlock(7); kernel Documentation/userspace-api/landlock.rst. A kernel without it is an answer (ABI 0), not an error.
"""

from __future__ import annotations

import os
import struct

from runtime import syscalls

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE = 1 << 4, 1 << 5
MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM = (1 << bit for bit in range(6, 13))
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_FS_BITS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # rights known per ABI; 16 from ABI 5 on
_NET_ALL = 0b11  # bind and connect of TCP, ABI 4
_SCOPE_ALL = 0b11  # abstract Unix sockets and signals, ABI 6
_VERSION = 1  # LANDLOCK_CREATE_RULESET_VERSION
_PATH_BENEATH = 1  # LANDLOCK_RULE_PATH_BENEATH


def abi() -> int:
    """0 when the kernel has no Landlock or it is switched off."""
    try:
        return syscalls.landlock_create_ruleset(b"", _VERSION)
    except OSError:
        return 0


def restrict(root: str, allowed: int) -> int:
    """From now on only `allowed` beneath `root`, no TCP, no signals to outsiders. Returns the ABI used, 0 for none.

    Needs no_new_privs. ABI 1 cannot allow REFER (hard links between folders): there Landlock is left out.
    """
    version = abi()
    if version == 0 or (version == 1 and allowed & REFER):
        return 0
    known = (1 << _FS_BITS.get(version, 16)) - 1
    attributes = struct.pack("<Q", known)
    if version >= 4:
        attributes += struct.pack("<Q", _NET_ALL)
    if version >= 6:
        attributes += struct.pack("<Q", _SCOPE_ALL)
    ruleset = syscalls.landlock_create_ruleset(attributes)
    folder = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syscalls.landlock_add_rule(ruleset, _PATH_BENEATH, struct.pack("<Qi", allowed & known, folder))
        syscalls.landlock_restrict_self(ruleset)
    finally:
        os.close(folder)
        os.close(ruleset)
    return version
