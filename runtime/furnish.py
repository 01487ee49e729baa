"""Steps by which the container fills its root: moves what was prepared, mounts what is its own. Launcher side.

Done as root of the job's user namespace, in its new mount namespace, before the pivot; every path is looked up inside
the job's root. Nothing here may touch a file of the host.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import Any

from runtime import steps as s
from runtime import syscalls as sc
from runtime.context import Context, create_file, ensure_folder, ensure_like, look_up, split
from runtime.detach import fresh

MOUNTED_ROOT = "/root"  # folder of the seed namespace


def become_root(step: s.BecomeRoot, context: Context) -> None:
    """The root is attached here too: from now on its mounts are found by walking it."""
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    sc.prctl(sc.PR_SET_DUMPABLE, 0)
    os.umask(0)  # modes are given exactly
    sc.move_mount(context.root, sc.AT_FDCWD, MOUNTED_ROOT)


def hostname(step: s.Hostname, context: Context) -> None:
    sc.sethostname(step.name)


def fresh_mount(step: s.Fresh, context: Context) -> None:
    attributes = sc.MOUNT_ATTR_NOSUID
    attributes |= 0 if step.fstype == "devpts" else sc.MOUNT_ATTR_NODEV  # the terminals are device nodes
    attributes |= 0 if step.executable else sc.MOUNT_ATTR_NOEXEC
    attributes |= sc.MOUNT_ATTR_RDONLY if step.read_only else 0
    _attach(fresh(step.fstype, step.options, attributes), look_up(context.root, step.target, plain=step.plain))


def place(step: s.Place, context: Context) -> None:
    tree = context.detached.pop(step.name, -1)
    if tree < 0:
        return  # an optional source that was not there
    _attach(tree, ensure_like(context.root, step.target, tree))


def _attach(tree: int, target: int) -> None:
    sc.move_mount(tree, target, "")
    os.close(tree)
    os.close(target)


def folder(step: s.Folder, context: Context) -> None:
    fd = ensure_folder(context.root, step.path)
    if step != s.Folder(step.path):  # made as 0755 of root
        own = f"/proc/self/fd/{fd}"  # of the seed: the pivot is yet to come
        os.chmod(own, step.mode)
        os.chown(own, step.uid, step.gid)
    os.close(fd)


def link(step: s.Link, context: Context) -> None:
    parent, name = split(step.path)
    parent_fd = look_up(context.root, parent, os.O_DIRECTORY)
    os.symlink(step.to, name, dir_fd=parent_fd)
    os.close(parent_fd)


def file(step: s.File, context: Context) -> None:
    fd = create_file(context.root, step.path, step.mode)
    with open(fd, "wb", buffering=0) as out:
        out.write(step.text.encode())


def cover(step: s.Cover, context: Context) -> None:
    """/dev/null is the one that we bound ourselves, never the image's (CVE-2025-31133)."""
    try:
        target = look_up(context.root, step.path)
    except (FileNotFoundError, NotADirectoryError):
        return
    if not stat.S_ISDIR(os.fstat(target).st_mode):
        null = look_up(context.root, "/dev/null", plain=True)
        _attach(sc.open_tree(null, ""), target)
        os.close(null)
    elif context.empty >= 0:
        _attach(sc.open_tree(context.empty, ""), target)
    else:
        attributes = sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NODEV | sc.MOUNT_ATTR_NOEXEC | sc.MOUNT_ATTR_RDONLY
        context.empty = fresh("tmpfs", (("mode", "555"), ("size", "4k")), attributes)
        sc.move_mount(context.empty, target, "")
        os.close(target)


def read_only(step: s.ReadOnly, context: Context) -> None:
    """A mount as a whole is changed in place; a part of one is bound over itself."""
    try:
        target = look_up(context.root, step.path)
    except FileNotFoundError:
        return
    try:
        sc.mount_setattr(target, "", sc.MOUNT_ATTR_RDONLY)
        os.close(target)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        tree = sc.open_tree(target, "")
        sc.mount_setattr(tree, "", sc.MOUNT_ATTR_RDONLY)
        _attach(tree, target)


def pivot(step: s.Pivot, context: Context) -> None:
    """pivot_root(2), "pivot_root(".", ".")": the old root lies over the new one and is let go at once."""
    os.fchdir(context.root)
    sc.pivot_root(".", ".")
    sc.umount2(".", sc.MNT_DETACH)
    os.chdir("/")


STEPS: dict[type, Callable[[Any, Context], None]] = {
    s.BecomeRoot: become_root,
    s.Hostname: hostname,
    s.Fresh: fresh_mount,
    s.Place: place,
    s.Folder: folder,
    s.Link: link,
    s.File: file,
    s.Cover: cover,
    s.ReadOnly: read_only,
    s.Pivot: pivot,
}
