"""A seccomp filter that kills for unshare(2) and allows the rest: what a strict container does to a call it forbids."""

from __future__ import annotations

import os
import struct

UNSHARE = {"x86_64": 272, "aarch64": 97}.get(os.uname().machine, -1)  # asm/unistd_64.h, asm-generic/unistd.h
KILL_UNSHARE = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (0x20, 0, 0, 0),  # load the number of the call
        (0x15, 0, 1, UNSHARE & 0xFFFFFFFF),  # that one?
        (0x06, 0, 0, 0x80000000),  # SECCOMP_RET_KILL_PROCESS
        (0x06, 0, 0, 0x7FFF0000),  # SECCOMP_RET_ALLOW
    )
)
