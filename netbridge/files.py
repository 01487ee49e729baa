"""Whole small files: read at once, replaced by rename, so that a reader sees the old text or the new one."""

from __future__ import annotations

import os


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
