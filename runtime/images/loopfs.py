"""A size-limited filesystem in a sparse file: template, copy, loop device, detached mount. All blocking.

Nothing here has a name that could outlive us: the backing file is O_TMPFILE, the loop device clears itself (autoclear),
the mount is a descriptor. When the last user goes, by exit or by SIGKILL, the kernel frees all three.
Ruled by docs/design/uppers.md; loop(4), ext4(5), fsmount(2).
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import tempfile
from contextlib import suppress

from runtime import syscalls

LOOP_CTL_REMOVE = 0x4C81  # linux/loop.h
EXT4_IOC_SHUTDOWN = 0x8004587D  # fs/ext4/ext4.h, as XFS_IOC_GOINGDOWN
_NO_LOG_FLUSH = struct.pack("I", 2)  # EXT4_GOING_FLAGS_NOLOGFLUSH
MOUNT_ATTR_NOATIME = 0x10  # linux/mount.h
_ATTACH_TRIES = 50  # LOOP_CTL_GET_FREE only tells; another process may take the device first

MKFS = (
    "-q", "-F", "-b", "4096", "-I", "256", "-i", "16384",  # one inode per 16 KiB: inodes are a limit too
    "-m", "0",
    "-O", "^has_journal,^resize_inode",  # never replayed after a crash, never grown
    "-E", "lazy_itable_init=1,nodiscard,root_owner=0:0",  # inode tables stay holes of the file
)  # fmt: skip


def make_sparse(path: str, size_bytes: int) -> None:
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(fd, size_bytes)
    finally:
        os.close(fd)


def keep(new: str, path: str) -> None:
    """Gives a finished file its name, after its bytes are on the disk: a torn template would fail every mount."""
    fd = os.open(new, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(new, path)


def copy_sparse(template: str, folder: str) -> int:
    """A nameless copy of `template` in `folder` that has the same holes. Returns its descriptor."""
    source = os.open(template, os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = _nameless(folder)
        try:
            os.ftruncate(target, os.fstat(source).st_size)
            for start, end in _extents(source):
                while start < end:
                    start += os.copy_file_range(source, target, end - start, start, start)
        except BaseException:
            os.close(target)
            raise
        return target
    finally:
        os.close(source)


def _nameless(folder: str) -> int:
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
            raise
    fd, path = tempfile.mkstemp(dir=folder, prefix="unnamed-")  # filesystems without O_TMPFILE; start() sweeps
    os.unlink(path)
    return fd


def _extents(fd: int) -> list[tuple[int, int]]:
    """(start, end) of the ranges that hold data: lseek(2), SEEK_DATA. ENXIO means no more data."""
    found: list[tuple[int, int]] = []
    end = 0
    with suppress(OSError):
        while True:
            start = os.lseek(fd, end, os.SEEK_DATA)
            end = os.lseek(fd, start, os.SEEK_HOLE)
            found.append((start, end))
    return found


def loop_attach(file_fd: int) -> tuple[int, str]:
    """(descriptor, path) of a loop device over `file_fd` that clears itself with its last user. Raises OSError."""
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_ATTACH_TRIES):
            path = f"/dev/loop{fcntl.ioctl(control, syscalls.LOOP_CTL_GET_FREE)}"
            device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(device, syscalls.LOOP_CONFIGURE, _loop_config(file_fd))
            except OSError as error:
                os.close(device)
                if error.errno != errno.EBUSY:
                    raise
            else:
                return device, path
        raise OSError(errno.EBUSY, "every free loop device was taken by others first", "/dev/loop-control")
    finally:
        os.close(control)


def _loop_config(file_fd: int) -> bytes:
    """struct loop_config: fd, block size (0: default), struct loop_info64 (232 bytes) with only its flags, reserved."""
    info = struct.pack("<5Q4I", 0, 0, 0, 0, 0, 0, 0, 0, syscalls.LO_FLAGS_AUTOCLEAR).ljust(232, b"\0")
    return struct.pack("<II", file_fd, 0) + info + bytes(64)


def loop_devices() -> frozenset[str]:
    return frozenset(f"/dev/{name}" for name in os.listdir("/sys/block") if name.startswith("loop"))


def loop_forget(path: str) -> None:
    """Takes back a loop device that was added for us. One in use stays."""
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            fcntl.ioctl(control, LOOP_CTL_REMOVE, int(path.removeprefix("/dev/loop")))
    finally:
        os.close(control)


def mount_detached(device: str) -> int:
    """The ext4 filesystem on `device` as a detached mount; it appears in no mount table. The descriptor is O_PATH."""
    fs = syscalls.fsopen("ext4")
    try:
        syscalls.fsconfig_set(fs, "source", device)
        syscalls.fsconfig_set(fs, "errors", "remount-ro")  # a full host disk must not become silent damage
        syscalls.fsconfig_set_flag(fs, "noinit_itable")  # no kernel thread that fills the holes
        syscalls.fsconfig_create(fs, device)
        return syscalls.fsmount(fs, syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV | MOUNT_ATTR_NOATIME)
    finally:
        os.close(fs)


def close_mount(root: int, discard: bool) -> None:
    """`discard` shuts the filesystem down first: 0.1 s, not 1.9, with 1 GiB unwritten."""
    try:
        if discard:
            folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
            try:
                fcntl.ioctl(folder, EXT4_IOC_SHUTDOWN, _NO_LOG_FLUSH)
            finally:
                os.close(folder)
    finally:
        os.close(root)
