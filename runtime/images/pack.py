"""Packs a folder as a tar stream *with the submitter's rights*: what they cannot read is not read for them.

    python -I -X utf8 -c BOOT ROOT UID GID GROUPS    3 folder · 4 output. Exit 1: the reason is on stderr.

Started by the launcher's `helper` verb as the host's root, which it gives up before it looks at the folder. The stream
goes to the jailed unpacker like any other archive.
"""

from __future__ import annotations

import os
import stat
import sys
import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from runtime import syscalls

FOLDER, OUTPUT = 3, 4
BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from runtime.images.pack import main; main()"
_DEPTH = 128  # as Limits.depth; each level costs one descriptor


class CannotPack(Exception):
    """Told to the user."""


def main() -> None:
    uid, gid, groups = int(sys.argv[2]), int(sys.argv[3]), [int(x) for x in sys.argv[4].split(",") if x]
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    try:
        with open(OUTPUT, "wb", buffering=1 << 18) as output:
            pack(FOLDER, output)
    except BrokenPipeError:
        os._exit(0)  # the unpacker stopped reading and says why
    except CannotPack as error:
        os.write(2, str(error).encode(errors="backslashreplace"))
        os._exit(1)


def pack(folder: int, output: BinaryIO) -> None:
    """Sorted, so that the same folder is the same layer. Raises CannotPack."""
    root = os.fstat(folder)
    with tarfile.open(fileobj=output, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        links: dict[tuple[int, int], str] = {}
        for path, parent, name, found in _walk(folder, root):
            _add(tar, path, parent, name, found, root, links)


def _walk(folder: int, root: os.stat_result) -> Iterator[tuple[str, int, str, os.stat_result]]:
    """(path, parent's descriptor, name, lstat), folders before their content; links are not followed.

    Other filesystems mounted below (proc, a volume) show as empty folders.
    """
    yield ".", folder, ".", root
    stack = [(folder, "", iter(_names(folder, ".")))]
    try:
        while stack:
            parent, above, names = stack[-1]
            name = next(names, "")
            if not name:
                stack.pop()
                if above:
                    os.close(parent)
                continue
            path = f"{above}/{name}".lstrip("/")
            found = _lstat(parent, name, path)
            yield path, parent, name, found
            if stat.S_ISDIR(found.st_mode) and found.st_dev == root.st_dev:
                if len(stack) > _DEPTH:
                    raise CannotPack(f"{path}: deeper than {_DEPTH} folders")
                child = _open(parent, name, path, os.O_DIRECTORY)
                stack.append((child, path, iter(_names(child, path))))
    finally:
        for parent, above, _ in stack:
            if above:
                os.close(parent)


def _names(folder: int, path: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise CannotPack(_told(path, error)) from error


def _lstat(parent: int, name: str, path: str) -> os.stat_result:
    try:
        return os.lstat(name, dir_fd=parent)
    except OSError as error:
        raise CannotPack(_told(path, error)) from error


def _open(parent: int, name: str, path: str, flags: int = 0) -> int:
    try:
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | flags, dir_fd=parent)
    except OSError as error:
        raise CannotPack(_told(path, error)) from error


def _told(path: str, error: OSError) -> str:
    return f"{path}: {error.strerror or error} (read with the rights of uid {os.getuid()})"


def _add(
    tar: tarfile.TarFile,
    path: str,
    parent: int,
    name: str,
    found: os.stat_result,
    root: os.stat_result,
    links: dict[tuple[int, int], str],
) -> None:
    if name.startswith(".wh."):
        raise CannotPack(f"{path}: in a layer a name that begins with .wh. means a deletion")
    member = tarfile.TarInfo(path)
    member.mode, member.mtime = stat.S_IMODE(found.st_mode), max(int(found.st_mtime), 0)
    member.uid, member.gid = _inside(found.st_uid, root.st_uid), _inside(found.st_gid, root.st_gid)
    key = (found.st_dev, found.st_ino)
    if key in links:
        member.type, member.linkname = tarfile.LNKTYPE, links[key]
        tar.addfile(member)
        return
    if stat.S_ISREG(found.st_mode):
        _add_file(tar, member, parent, name)
    elif stat.S_ISDIR(found.st_mode):
        member.type = tarfile.DIRTYPE
        tar.addfile(member)
    elif stat.S_ISLNK(found.st_mode):
        member.type, member.linkname = tarfile.SYMTYPE, os.readlink(name, dir_fd=parent)
        tar.addfile(member)
    elif stat.S_ISSOCK(found.st_mode):
        return  # a socket means nothing without its server
    else:
        member.type = tarfile.FIFOTYPE if stat.S_ISFIFO(found.st_mode) else tarfile.CHRTYPE
        tar.addfile(member)  # the unpacker leaves them out and counts them
    if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
        links[key] = path
    tar.getmembers().clear()  # tarfile would remember every member


def _inside(disk: int, owner: int) -> int:
    """The folder's owner becomes the image's root; other ids stay."""
    return 0 if disk == owner else disk


def _add_file(tar: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str) -> None:
    file = _open(parent, name, member.name)
    with open(file, "rb") as source:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise CannotPack(f"{member.name}: changed while it was read")
        member.size = found.st_size
        try:
            tar.addfile(member, source)
        except BrokenPipeError:
            raise
        except OSError as error:  # shrank meanwhile, or cannot be read
            raise CannotPack(_told(member.name, error)) from error
