"""Layers on disk: `images/layers/<sha256 of the uncompressed tar>/` is the tree itself. Blocking; call it in a thread.

Files have the ids of the archive and folders above are 0700, so nobody on the host gets at them; the launcher idmaps
them into each job's block. A layer appears by rename, whole or not at all.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress

from runtime import syscalls
from runtime.images.imagefile import Unpacked

_RESOLVE = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS


class Layers:
    def __init__(self, folder: str) -> None:
        self.folder = folder

    def path(self, diff_id: str) -> str:
        return os.path.join(self.folder, diff_id.removeprefix("sha256:"))

    def present(self) -> list[str]:
        return sorted(f"sha256:{name}" for name in os.listdir(self.folder) if len(name) == 64)

    def missing(self, diff_ids: Iterable[str]) -> list[str]:
        return [diff_id for diff_id in diff_ids if not os.path.isdir(self.path(diff_id))]

    def adopt(self, tree: str, layer: Unpacked) -> None:
        """Moves an unpacked tree to its place. One that came first with the same digest stays."""
        mark_opaque(tree, layer.opaque)
        try:
            os.rename(tree, self.path(layer.diff_id))
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
        sync_folder(self.folder)

    def remove(self, diff_id: str) -> None:
        """Renamed first: a half removed tree never has a layer's name."""
        going = os.path.join(self.folder, f"gone-{diff_id.removeprefix('sha256:')[:16]}")
        with suppress(FileNotFoundError):
            os.rename(self.path(diff_id), going)
        remove_tree(going)

    def sweep(self) -> list[str]:
        """Removes what an interrupted removal left, and names it."""
        stray = [os.path.join(self.folder, name) for name in os.listdir(self.folder) if len(name) != 64]
        return [path for path in stray if remove_tree(path)]


def mark_opaque(tree: str, folders: Iterable[str]) -> None:
    """`trusted.*` is for the host's root only, so the jail names the folders and we set the mark, following nothing."""
    root = os.open(tree, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for path in folders:
            folder = syscalls.openat2(root, path or ".", os.O_RDONLY | os.O_DIRECTORY, resolve=_RESOLVE)
            try:
                os.setxattr(folder, "trusted.overlay.opaque", b"y")
            finally:
                os.close(folder)
    finally:
        os.close(root)


def remove_tree(path: str) -> bool:
    """Whether it is gone. `shutil.rmtree` walks by descriptors and follows no link; a level costs one descriptor.

    An unpacker whose daemon was killed may still be writing there: then the rest stays until the next sweep.
    """
    shutil.rmtree(path, ignore_errors=True)
    return not os.path.lexists(path)


def sync_folder(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_whole(path: str, data: bytes) -> None:
    """The file has all of `data` or does not exist, also after a power cut."""
    new = f"{path}.new"
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(new, path)
    sync_folder(os.path.dirname(path))
