"""Whole small files: read at once, replaced by rename, so that a reader sees the old text or the new one.

What they say of the kernel is void after a reboot, so each carries the boot id.
"""

from __future__ import annotations

import os

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def read_text(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def replace_file(path: str, text: str, *, mode: int) -> None:
    """Not synced to disk: after a power cut the network that it describes is gone anyway. Raises OSError."""
    fresh = f"{path}.new"
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        os.fchmod(fd, mode)  # whatever the umask says
        os.write(fd, text.encode())
    finally:
        os.close(fd)
    os.rename(fresh, path)


def boot_id() -> str:
    """Of the running kernel."""
    return read_text(_BOOT_ID).strip()
