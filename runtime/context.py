"""What the steps of one start share: descriptors, and how a path of the job's root is looked up. Launcher side."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from runtime import syscalls
from runtime.syscalls import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS


class Context:
    """`root` is the job's root mount, detached at first. Nothing here is closed: the process ends in execve or exit."""

    def __init__(self, fds: Sequence[int], seed: int) -> None:
        self.fds = tuple(fds)  # what travelled with the plan
        self.seed = seed  # the launcher's seed mount namespace
        self.detached: dict[str, int] = {}
        self.root = -1
        self.empty = -1  # an empty read-only folder that is mounted already, to be copied
        self.program = ""  # found by FindProgram


def look_up(root: int, path: str, flags: int = 0, *, plain: bool = False) -> int:
    """O_PATH descriptor of `path` inside `root`: `..`, absolute and magic links cannot lead out of it.

    `plain` refuses every symbolic link (ELOOP).
    """
    resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | (RESOLVE_NO_SYMLINKS if plain else 0)
    return syscalls.openat2(root, path, os.O_PATH | flags, resolve=resolve)


def ensure_folder(root: int, path: str, owner: int = -1) -> int:
    """Descriptor of the folder, made with its missing parents inside `root`. A link that leads nowhere is an error."""
    try:
        return look_up(root, path, os.O_DIRECTORY)
    except FileNotFoundError:
        parent, name = split(path)
        parent_fd = ensure_folder(root, parent, owner)
        try:
            os.mkdir(name, 0o755, dir_fd=parent_fd)
            if owner >= 0:
                os.chown(name, owner, owner, dir_fd=parent_fd, follow_symlinks=False)
            return syscalls.openat2(parent_fd, name, os.O_PATH | os.O_DIRECTORY, resolve=RESOLVE_NO_SYMLINKS)
        finally:
            os.close(parent_fd)


def ensure_like(root: int, path: str, like_fd: int, owner: int = -1) -> int:
    """Descriptor of a mount point for what `like_fd` is: a folder, else an empty file."""
    if stat.S_ISDIR(os.fstat(like_fd).st_mode):
        return ensure_folder(root, path, owner)
    try:
        return look_up(root, path)
    except FileNotFoundError:
        os.close(ensure_folder(root, split(path)[0], owner))
        os.close(create_file(root, path, 0o644, owner))
        return look_up(root, path)


def create_file(root: int, path: str, mode: int, owner: int = -1) -> int:
    """A new file, open for writing. Raises FileExistsError for anything that is there, a link included."""
    parent, name = split(path)
    parent_fd = look_up(root, parent, os.O_DIRECTORY)
    try:
        fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode, dir_fd=parent_fd)
        if owner >= 0:
            os.fchown(fd, owner, owner)
        return fd
    finally:
        os.close(parent_fd)


def split(path: str) -> tuple[str, str]:
    parent, _, name = path.rstrip("/").rpartition("/")
    return parent or "/", name
