"""Reading and writing files of the cgroup filesystems. Every write is one unbuffered os.write (docs/design/kernel.md).

`open(path, "w").write(x)` would report the kernel's refusal in a destructor, too late; so nothing here buffers.
"""

from __future__ import annotations

import errno
import os


class NotKept(OSError):
    """The kernel took a value without an error and shows another one."""

    def __init__(self, path: str, wrote: str, shows: str) -> None:
        super().__init__(errno.EPROTO, f"wrote {wrote!r}, the kernel shows {shows!r}", path)


def write(path: str, text: str) -> None:
    """One write(2). The OSError carries the path."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as refused:
        raise OSError(refused.errno, os.strerror(refused.errno or 0), path) from None
    finally:
        os.close(fd)


def read(path: str) -> str:
    """The whole file without trailing white space."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, 1 << 16):
            parts.append(part)
    except OSError as refused:
        raise OSError(refused.errno, os.strerror(refused.errno or 0), path) from None
    finally:
        os.close(fd)
    return b"".join(parts).decode().rstrip()


def exchange(path: str, text: str) -> str:
    """Writes, and returns what the file shows afterwards, read on the same descriptor."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
        return os.pread(fd, 1 << 16, 0).decode().rstrip()
    except OSError as refused:
        raise OSError(refused.errno, os.strerror(refused.errno or 0), path) from None
    finally:
        os.close(fd)


def put(path: str, text: str) -> None:
    """Writes and raises NotKept unless the file then shows `text`."""
    shown = exchange(path, text)
    confirm(path, text, shown, shown == text)


def confirm(path: str, wrote: str, shown: str, kept: bool) -> None:
    """For files that show something else than was written: raises NotKept unless `kept`."""
    if not kept:
        raise NotKept(path, wrote, shown)


def number(path: str, default: int = 0) -> int:
    """The file's one number; `default` where the file or the group is gone. "max" is `default` too."""
    try:
        return int(read(path))
    except (OSError, ValueError):
        return default


def table(path: str) -> dict[str, int]:
    """A file of `name number` lines, such as memory.stat; other lines are left out; empty where it is gone."""
    try:
        lines = read(path).splitlines()
    except OSError:
        return {}
    pairs = (line.split() for line in lines)
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].lstrip("-").isdigit()}


def exists(path: str) -> bool:
    return os.access(path, os.F_OK)
