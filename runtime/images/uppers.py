"""The writable part of a job's overlay: a filesystem of exactly the size asked for, so that the limit bites (ENOSPC).

An Upper is a *descriptor* of a detached mount with `upper/` and `work/` inside. It is used once and never recycled.
A few of the default size are made ahead. Ruled by docs/design/uppers.md.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup

from jobs.errors import JobsError, StepFailed, Unsupported
from runtime.helper import HelperRunner
from runtime.images import loopfs

LEAST_BYTES = 1 << 20  # below that ext4 has no room beside its own tables
REST_S = 0.05  # between an upper's use and the making of the next; several starts' length
_TEMPLATES = 32  # sizes whose template is kept; the least recently made goes first
_SBIN = "/usr/sbin:/sbin:/usr/bin:/bin"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Upper:
    """`fd` (O_PATH) is the root of the mount; pass it to whoever mounts the overlay. Valid until `release`."""

    fd: int
    size_bytes: int
    device: str  # /dev/loopN, for messages only

    @property
    def path(self) -> str:
        """Has `upper` and `work` inside; for this process only. Another process uses its own /proc/self/fd/N."""
        return f"/proc/self/fd/{self.fd}"


class Uppers:
    """`acquire` and `release` are safe to call from many tasks; one template is made at a time."""

    def __init__(self, state_dir: str, helper: HelperRunner, default_bytes: int, ahead: int) -> None:
        self._folder = os.path.join(state_dir, "uppers")
        self._helper = helper
        self._default_bytes = default_bytes
        self._wanted = ahead
        self._ahead: deque[Upper] = deque()
        self._mkfs_turn = anyio.Lock()
        self._fill_turn = anyio.Lock()
        self._devices_before: frozenset[str] = frozenset()
        self._devices_used: set[str] = set()
        self._tasks: TaskGroup | None = None
        self._stopped = False

    async def start(self, tasks: TaskGroup | None = None) -> None:
        """Fills the pool. With `tasks` it is refilled in the background after each acquire, else at each release."""
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        os.chmod(self._folder, 0o700)
        await self.sweep(set())
        self._devices_before = loopfs.loop_devices()
        self._tasks = tasks
        await self._fill()

    @property
    def full(self) -> bool:
        return len(self._ahead) >= self._wanted

    async def acquire(self, size_bytes: int, *, owner: tuple[int, int] = (0, 0)) -> Upper:
        """A fresh upper. `owner`: host uid and gid of its root, (id_base, id_base) for idmapped layers.

        Raises Unsupported for an impossible size, StepFailed when the host refuses.
        """
        if size_bytes < LEAST_BYTES:
            raise Unsupported(
                f"a writable layer of {size_bytes} bytes is too small", hint=f"the least is {LEAST_BYTES} bytes"
            )
        upper = self._ahead.popleft() if size_bytes == self._default_bytes and self._ahead else None
        if upper is None:
            upper = await self._make(size_bytes)
        elif self._tasks is not None:
            self._tasks.start_soon(self._refill)
        try:
            os.chown("upper", *owner, dir_fd=upper.fd)
        except OSError as error:
            await self.release(upper)
            raise StepFailed("upper:owner", error.errno or 0, upper.device) from error
        return upper

    async def release(self, upper: Upper, *, discard: bool = False) -> None:
        """Lets go. The space is free when the job's mount namespace is gone too.

        `discard`: unwritten bytes are thrown away instead of written first. Only when no process of the job is left:
        whoever still uses the filesystem gets EIO.
        """
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(loopfs.close_mount, upper.fd, discard)
        if self._tasks is None and not self._stopped:
            await self._refill()

    async def stop(self) -> None:
        """Closes the pool and takes back the loop devices that were added for us. Uppers of running jobs live on."""
        self._stopped = True
        async with self._fill_turn:
            while self._ahead:
                await self.release(self._ahead.popleft())
        added = sorted(self._devices_used - self._devices_before)
        for device in added:
            await to_thread.run_sync(loopfs.loop_forget, device)

    async def sweep(self, live: set[str]) -> list[str]:
        """Removes what a killed daemon left, and names it. `live` does not matter: an upper in use has no name."""
        del live
        stray = [name for name in sorted(os.listdir(self._folder)) if name.startswith(("unnamed-", "new-"))]
        for name in stray:
            os.unlink(os.path.join(self._folder, name))
        return [os.path.join(self._folder, name) for name in stray]

    async def _fill(self) -> None:
        async with self._fill_turn:
            while len(self._ahead) < self._wanted and not self._stopped:
                upper = await self._make(self._default_bytes)
                self._ahead.append(upper)

    async def _refill(self) -> None:
        """In the background nobody can be told: the next acquire meets the same trouble and tells its job."""
        if self._ahead:
            await anyio.sleep(REST_S)  # a start under way needs the CPUs more
        try:
            await self._fill()
        except JobsError as error:
            _log.warning("no writable layer made ahead: %s", error)

    async def _make(self, size_bytes: int) -> Upper:
        template = await self._template(size_bytes)
        upper = await to_thread.run_sync(_build, template, self._folder, size_bytes)
        self._devices_used.add(upper.device)
        return upper

    async def _template(self, size_bytes: int) -> str:
        """An empty filesystem of that size, made once per size and then only copied."""
        path = os.path.join(self._folder, f"template-{size_bytes}")
        async with self._mkfs_turn:
            if not os.path.exists(path):
                await self._mkfs(path, size_bytes)
        return path

    async def _mkfs(self, path: str, size_bytes: int) -> None:
        program = shutil.which("mkfs.ext4", path=_SBIN)
        if program is None:
            raise Unsupported("mkfs.ext4 is not installed", hint="install the package e2fsprogs")
        new = os.path.join(self._folder, f"new-{size_bytes}")
        try:
            loopfs.make_sparse(new, size_bytes)
            result = await self._helper([program, *loopfs.MKFS, new])
            if result.status != 0:
                told = result.stderr.decode(errors="replace").strip()
                raise StepFailed("upper:mkfs", errno.EIO, path, hint=told[:500])
            await to_thread.run_sync(loopfs.keep, new, path)
        except OSError as error:
            raise StepFailed("upper:mkfs", error.errno or 0, path) from error
        finally:
            with suppress(FileNotFoundError):
                os.unlink(new)
        for old in self._templates()[:-_TEMPLATES]:
            os.unlink(old)

    def _templates(self) -> list[str]:
        """Oldest first."""
        names = [name for name in os.listdir(self._folder) if name.startswith("template-")]
        paths = [os.path.join(self._folder, name) for name in names]
        return sorted(paths, key=lambda path: (os.stat(path).st_mtime, path))


def _build(template: str, folder: str, size_bytes: int) -> Upper:
    """Copy, loop device, mount, two folders. Each step is undone by closing its descriptor."""
    step, at = "upper:copy", template
    try:
        backing = loopfs.copy_sparse(template, folder)
        try:
            step, at = "upper:loop", "/dev/loop-control"
            device, at = loopfs.loop_attach(backing)
        finally:
            os.close(backing)
        try:
            step = "upper:mount"
            root = loopfs.mount_detached(at)
        finally:
            os.close(device)  # the mount keeps the device; without one, autoclear frees it here
    except OSError as error:
        raise StepFailed(step, error.errno or 0, at, hint=_HINTS.get(step, "")) from error
    try:
        os.mkdir("upper", 0o755, dir_fd=root)
        os.mkdir("work", 0o700, dir_fd=root)
    except OSError as error:
        os.close(root)
        raise StepFailed("upper:folders", error.errno or 0, at) from error
    return Upper(root, size_bytes, at)


_HINTS = {
    "upper:loop": "the kernel needs loop devices (module `loop`) and the launcher's host must allow /dev/loop-control",
    "upper:mount": "if the template is damaged, remove it: it is made again",
}
