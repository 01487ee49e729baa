"""Steps that need the host's power: detached mounts, prepared for a container that could not make them. Launcher side.

Done by the monitor. mount_setattr(IDMAP) in the container is EPERM, and an overlay that it mounted could not copy up.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from runtime import steps as s
from runtime import syscalls as sc
from runtime.context import Context, ensure_folder, ensure_like, look_up, split

LAYERS = "/layers"  # folders of the seed namespace: /layers/0 …
UPPER = "/upper"


def join_groups(step: s.JoinGroups, context: Context) -> None:
    for path in step.procs:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, b"0")
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from error
        finally:
            os.close(fd)


def bind(step: s.Bind, context: Context) -> None:
    try:
        tree = sc.open_tree(context.fds[step.fd], "") if step.fd >= 0 else sc.open_tree(sc.AT_FDCWD, step.source)
    except FileNotFoundError:
        if step.optional:
            return
        raise
    attributes = sc.MOUNT_ATTR_NOSUID
    attributes |= 0 if step.device else sc.MOUNT_ATTR_NODEV
    attributes |= sc.MOUNT_ATTR_RDONLY if step.read_only else 0
    try:
        sc.mount_setattr(tree, "", attributes, userns_fd=context.fds[step.idmap_fd] if step.idmap_fd >= 0 else -1)
    except OSError as error:  # EINVAL: this filesystem cannot be idmapped
        path = step.source or os.readlink(f"/proc/self/fd/{context.fds[step.fd]}")
        raise OSError(error.errno, error.strerror, path) from error
    context.detached[step.name] = tree


def overlay(step: s.Overlay, context: Context) -> None:
    """In a private copy of the seed namespace: overlayfs takes layers by path, and only attached ones before 6.15."""
    layers = [_layer(layer, step.idmap_fd, context) for layer in step.lower]
    upper = _upper(step, context)
    sc.setns(context.seed, sc.CLONE_NEWNS)
    sc.unshare(sc.CLONE_NEWNS)
    for number, layer in enumerate(layers):
        sc.move_mount(layer, sc.AT_FDCWD, f"{LAYERS}/{number}")
        os.close(layer)
    sc.move_mount(upper, sc.AT_FDCWD, UPPER)
    for name in ("upper", "work"):
        with suppress(FileExistsError):
            os.mkdir(f"{UPPER}/{name}", 0o755)
    if step.owner:
        os.chown(f"{UPPER}/upper", step.owner, step.owner)
    context.root = _mount_overlay([f"{LAYERS}/{number}" for number in range(len(layers))])


def _layer(layer: str, idmap_fd: int, context: Context) -> int:
    at_fd = layer.startswith("fd:")
    tree = sc.open_tree(context.fds[int(layer[3:])], "") if at_fd else sc.open_tree(sc.AT_FDCWD, layer)
    userns = context.fds[idmap_fd] if idmap_fd >= 0 else -1
    try:
        sc.mount_setattr(tree, "", sc.MOUNT_ATTR_RDONLY, userns_fd=userns)
    except OSError as error:
        raise OSError(error.errno, error.strerror, layer) from error
    return tree


def _upper(step: s.Overlay, context: Context) -> int:
    """A descriptor is a detached mount and is moved, not copied: copies of detached mounts need Linux 6.15."""
    if step.upper_fd >= 0:
        return context.fds[step.upper_fd]
    if step.upper:
        return sc.open_tree(sc.AT_FDCWD, step.upper)
    return fresh("tmpfs", (("size", str(step.tmpfs_bytes)), ("mode", "700")), sc.MOUNT_ATTR_NOSUID)


def _mount_overlay(lower: list[str]) -> int:
    """`volatile`: the upper is used once, so syncing it at unmount would be for nobody."""
    attributes = sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NODEV
    if sc.linux() >= (6, 7):  # lowerdir+ since then; one value is at most 255 bytes
        options = [
            *(("lowerdir+", path) for path in lower),
            ("upperdir", f"{UPPER}/upper"),
            ("workdir", f"{UPPER}/work"),
        ]
        return fresh("overlay", (*options, ("volatile", "")), attributes)
    where = f"{LAYERS}/mounted"
    data = f"lowerdir={':'.join(lower)},upperdir={UPPER}/upper,workdir={UPPER}/work,volatile"
    sc.mount("overlay", where, "overlay", sc.MS_NOSUID | sc.MS_NODEV, data)
    tree = sc.open_tree(sc.AT_FDCWD, where)
    sc.umount2(where, sc.MNT_DETACH)
    return tree


def fresh(fstype: str, options: tuple[tuple[str, str], ...], attributes: int) -> int:
    """A new filesystem as a detached mount. An option without value is a flag."""
    fs = sc.fsopen(fstype)
    try:
        for key, value in options:
            if value:
                sc.fsconfig_set(fs, key, value)
            else:
                sc.fsconfig_set_flag(fs, key)
        sc.fsconfig_create(fs)
        return sc.fsmount(fs, attributes)
    finally:
        os.close(fs)


def private(step: s.Private, context: Context) -> None:
    path = f"{UPPER}/{step.folder}"
    os.mkdir(path, 0o700)
    os.chown(path, step.owner, step.owner)
    os.chmod(path, step.mode)
    tree = sc.open_tree(sc.AT_FDCWD, path)
    sc.mount_setattr(tree, "", sc.MOUNT_ATTR_NOSUID | sc.MOUNT_ATTR_NODEV)
    context.detached[step.name] = tree


def root_folder(step: s.RootFolder, context: Context) -> None:
    if step.like_fd >= 0:
        os.close(ensure_like(context.root, step.path, context.fds[step.like_fd], step.owner))
    else:
        os.close(ensure_folder(context.root, step.path, step.owner))


def root_file(step: s.RootFile, context: Context) -> None:
    """What is there is unlinked first: a link of the image is replaced, never followed."""
    parent, name = split(step.path)
    parent_fd = look_up(context.root, parent, os.O_DIRECTORY)
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=parent_fd)
    if step.link:
        os.symlink(step.link, name, dir_fd=parent_fd)
        os.chown(name, step.owner, step.owner, dir_fd=parent_fd, follow_symlinks=False)
    else:
        fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=parent_fd)
        os.write(fd, step.text.encode())
        os.fchown(fd, step.owner, step.owner)
        os.close(fd)
    os.close(parent_fd)


def enter_namespaces(step: s.EnterNamespaces, context: Context) -> None:
    """The seed first: from the user namespace on, the host's mounts are out of reach, and a clone copies only a few."""
    sc.setns(context.seed, sc.CLONE_NEWNS)
    if step.netns_fd >= 0:
        sc.setns(context.fds[step.netns_fd], sc.CLONE_NEWNET)
    sc.setns(context.fds[step.userns_fd], sc.CLONE_NEWUSER)


STEPS: dict[type, Callable[[Any, Context], None]] = {
    s.JoinGroups: join_groups,
    s.Bind: bind,
    s.Overlay: overlay,
    s.Private: private,
    s.RootFolder: root_folder,
    s.RootFile: root_file,
    s.EnterNamespaces: enter_namespaces,
}
