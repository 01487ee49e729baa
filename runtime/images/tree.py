"""Makes the members of one layer below a root descriptor. Runs in the jail; overlay whiteouts as overlayfs.rst says.

The kernel resolves every path with RESOLVE_BENEATH and without any symbolic link. Nothing is ever followed or
overwritten in place.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field

from runtime import syscalls
from runtime.images.limits import Budget, Refused
from runtime.images.tarstream import Member

_RESOLVE = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_HIGHEST_ID = 65535  # ids of a job's block; a file of any other would belong to nobody
_XATTR_BYTES = 64 << 10  # XATTR_SIZE_MAX


@dataclass(slots=True)
class Notes:
    """What was left out, by kind: how often, and the first names."""

    most: int
    counts: dict[str, int] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, path: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        named = self.names.setdefault(kind, [])
        if len(named) < self.most:
            named.append(path)


class Tree:
    """One layer. `add` each member, then `finish`. `opaque` lists folders that hide what lies below them."""

    def __init__(self, root: int, budget: Budget, notes: Notes) -> None:
        self._root, self._budget, self._notes = root, budget, notes
        self._parent: tuple[str, int] | None = None  # the last parent, kept open: members come folder by folder
        self._times: dict[str, int] = {}  # of folders; set at the end, because each new entry changes them
        self.opaque: dict[str, None] = {}
        os.fchown(root, 0, 0)
        os.fchmod(root, 0o755)

    def add(self, member: Member, data: Callable[[], bytes]) -> None:
        """`data` gives the next piece of a file, b"" at its end. Raises Refused naming the member."""
        try:
            self._add(member, data)
        except OSError as error:
            raise Refused(_reason(error), member=member.path) from error

    def finish(self) -> None:
        for path, mtime_ns in reversed(self._times.items()):
            folder = self._folder(path)
            os.utime(folder, ns=(mtime_ns, mtime_ns))
            os.close(folder)
        self.close()

    def close(self) -> None:
        if self._parent is not None:
            os.close(self._parent[1])
            self._parent = None

    def _add(self, member: Member, data: Callable[[], bytes]) -> None:
        parent_path, _, name = member.path.rpartition("/")
        if name.startswith(_WHITEOUT):
            self._hide(parent_path, name)
        elif member.kind in ("device", "fifo"):
            self._notes.add(member.kind, member.path)
        elif not member.path:
            self._root_folder(member)
        else:
            self._check_ids(member)
            make = {"file": self._file, "dir": self._dir, "symlink": self._symlink, "hardlink": self._hardlink}
            make[member.kind](member, self._open_parent(parent_path), name, data)

    def _root_folder(self, member: Member) -> None:
        if member.kind != "dir":
            raise Refused(f"the root is a {member.kind}", member=".")
        self._check_ids(member)
        self._dress(self._root, member)
        self._times[""] = member.mtime_ns

    def _check_ids(self, member: Member) -> None:
        if max(member.uid, member.gid) > _HIGHEST_ID:
            raise Refused(
                f"belongs to {member.uid}:{member.gid}; the ids of an image are 0 to {_HIGHEST_ID}",
                member=member.path,
                hint="pack it with --owner=0 --group=0",
            )

    # ── the kinds ────────────────────────────────────────────────────────────────────────────────────────────────

    def _dir(self, member: Member, parent: int, name: str, data: Callable[[], bytes]) -> None:
        if self._clear_whiteout(parent, name):
            self.opaque[member.path] = None
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
            self._budget.spend_inode()
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
                raise Refused("a folder where another member made something else", member=member.path) from None
        folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            self._dress(folder, member)
        finally:
            os.close(folder)
        self._times[member.path] = member.mtime_ns

    def _file(self, member: Member, parent: int, name: str, data: Callable[[], bytes]) -> None:
        self._make_room(member, parent, name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(name, flags, 0o600, dir_fd=parent)
        try:
            while piece := data():
                view = memoryview(piece)
                while view:
                    view = view[os.write(file, view) :]
            self._dress(file, member)
            os.utime(file, ns=(member.mtime_ns, member.mtime_ns))
        finally:
            os.close(file)

    def _symlink(self, member: Member, parent: int, name: str, data: Callable[[], bytes]) -> None:
        self._make_room(member, parent, name)
        os.symlink(member.link, name, dir_fd=parent)
        os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
        os.utime(name, ns=(member.mtime_ns, member.mtime_ns), dir_fd=parent, follow_symlinks=False)

    def _hardlink(self, member: Member, parent: int, name: str, data: Callable[[], bytes]) -> None:
        """Only to a regular file or symlink that this layer itself made; neither is followed."""
        source_path, _, source_name = member.link.rpartition("/")
        source = self._folder(source_path, make=False)
        try:
            found = os.lstat(source_name or ".", dir_fd=source)
            if not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
                raise Refused(f"a hard link to {member.link!r}, which is no file", member=member.path)
            if member.link == member.path:
                return
            self._make_room(member, parent, name)
            os.link(source_name, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            missing = f"a hard link to {member.link!r}, which this layer does not have"
            raise Refused(missing, member=member.path) from None
        finally:
            os.close(source)

    # ── whiteouts ────────────────────────────────────────────────────────────────────────────────────────────────

    def _hide(self, parent_path: str, name: str) -> None:
        """OCI image-spec, layer.md "Whiteouts": they hide what lower layers have, never members of this layer."""
        if name == _OPAQUE:
            self._open_parent(parent_path)
            self.opaque[parent_path] = None
            return
        if name.startswith(_WHITEOUT + _WHITEOUT):
            return  # aufs' own files (.wh..wh.plnk, .wh..wh.orph)
        hidden = name.removeprefix(_WHITEOUT)
        path = f"{parent_path}/{name}".lstrip("/")
        if hidden in ("", ".", ".."):
            raise Refused("a whiteout of nothing", member=path)
        parent = self._open_parent(parent_path)
        try:
            os.mknod(hidden, stat.S_IFCHR | 0o000, 0, dir_fd=parent)
            self._budget.spend_inode()
        except FileExistsError:
            if stat.S_ISDIR(os.lstat(hidden, dir_fd=parent).st_mode):
                self.opaque[f"{parent_path}/{hidden}".lstrip("/")] = None

    def _clear_whiteout(self, parent: int, name: str) -> bool:
        """A member of the same name comes after its whiteout: the member stays, and a folder becomes opaque."""
        try:
            found = os.lstat(name, dir_fd=parent)
        except FileNotFoundError:
            return False
        if not (stat.S_ISCHR(found.st_mode) and found.st_rdev == 0):
            return False
        os.unlink(name, dir_fd=parent)
        return True

    # ── shared ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _make_room(self, member: Member, parent: int, name: str) -> None:
        """A later member of the same name replaces an earlier one, unless that is a folder."""
        self._budget.spend_inode()
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            return
        except (IsADirectoryError, PermissionError):
            raise Refused(f"a {member.kind} where another member made a folder", member=member.path) from None

    def _dress(self, fd: int, member: Member) -> None:
        """Owner, mode, attributes. Set-id bits of files go: no job could use them (nosuid, no_new_privs)."""
        os.fchown(fd, member.uid, member.gid)
        if member.mode & 0o6000 and member.kind == "file":
            self._notes.add("set-id", member.path)
        os.fchmod(fd, member.mode & (0o3777 if member.kind == "dir" else 0o1777))
        for key, value in member.xattrs.items():
            kept = key.startswith("user.") and not key.startswith("user.overlay.") and len(value) <= _XATTR_BYTES
            if kept:
                os.setxattr(fd, key, value)
            else:  # security.capability, ACLs, trusted.overlay.*: useless in a job, or orders to the kernel
                self._notes.add("attribute", f"{member.path} ({key[:64]})")

    def _open_parent(self, path: str) -> int:
        if self._parent is None or self._parent[0] != path:
            folder = self._folder(path)
            self.close()
            self._parent = (path, folder)
        return self._parent[1]

    def _folder(self, path: str, *, make: bool = True) -> int:
        """A readable descriptor of a folder of this layer; missing ones are made, as other engines do."""
        flags = os.O_RDONLY | os.O_DIRECTORY
        try:
            return syscalls.openat2(self._root, path or ".", flags, resolve=_RESOLVE)
        except (FileNotFoundError, NotADirectoryError):  # the latter: perhaps through a whiteout of this layer
            if not make:
                raise
        self._make_folders(path)
        return syscalls.openat2(self._root, path, flags, resolve=_RESOLVE)

    def _make_folders(self, path: str) -> None:
        done = ""
        for part in path.split("/"):
            parent = syscalls.openat2(self._root, done or ".", os.O_PATH | os.O_DIRECTORY, resolve=_RESOLVE)
            done = f"{done}/{part}".lstrip("/")
            try:
                if self._clear_whiteout(parent, part):
                    self.opaque[done] = None
                os.mkdir(part, 0o755, dir_fd=parent)
                self._budget.spend_inode()
            except FileExistsError:
                pass
            finally:
                os.close(parent)


_REASONS = {
    errno.ELOOP: "its path leads through a symbolic link",
    errno.EXDEV: "its path leads outside of the image",
    errno.ENOTDIR: "its path leads through something that is no folder",
    errno.ENOSPC: "the state filesystem is full",
    errno.EDQUOT: "the state filesystem is full",
    errno.EMLINK: "too many hard links to one file",
    errno.EFBIG: "too large a file",
}


def _reason(error: OSError) -> str:
    return _REASONS.get(error.errno or 0, error.strerror or str(error))
