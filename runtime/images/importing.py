"""One import: the jail's pieces (tree, id map, report) made by the daemon, its programs run by the launcher.

The daemon reads neither the archive nor the folder. docs/design/image-jail.md.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import asdict
from typing import Any

import anyio

from jobs.errors import BadImage, HostError, StepFailed
from jobs.events import Owner
from runtime import syscalls
from runtime.helper import HelperResult, HelperRunner, MapMaker
from runtime.images import imagefile, pack, unpack
from runtime.images.limits import Limits

_CODE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # the folder of our packages
_REPORT_BYTES = 64 << 20  # 2,000,000 opaque folders of 30 bytes
_IDS = 65536


class Importer:
    """Runs unpackers. Each gets a block of host ids of its own, so that none can signal or trace another."""

    def __init__(self, helper: HelperRunner, idmap_userns: MapMaker, id_base: int, blocks: int, limits: Limits) -> None:
        self._helper = helper
        self._idmap_userns = idmap_userns
        self._limits = limits
        self._free = [id_base + number * _IDS for number in range(blocks)]
        self._turns = anyio.Semaphore(blocks)

    async def unpack(
        self, source: int, folder: str, *, kind: str, archive: str, known: Sequence[str], pack_as: Owner | None
    ) -> dict[str, Any]:
        """Unpacks below `folder` and returns the report. `pack_as`: the source is a folder, read with these rights.

        Raises BadImage (the source's fault), StepFailed and other HostErrors (ours).
        """
        async with self._id_block() as base:
            request = {
                "limits": asdict(within_free_space(self._limits, folder)),
                "kind": kind,
                "machine": platform.machine(),
                "known": list(known),
            }
            with ExitStack() as descriptors:
                tree = await self._tree(folder, base, descriptors)
                report = os.memfd_create("image-report", os.MFD_CLOEXEC)
                descriptors.callback(os.close, report)
                if pack_as is None:
                    result = await self._run_unpack(source, *tree, report, request)
                else:
                    result = await self._pack_and_unpack(source, pack_as, *tree, report, request, archive)
                return _report(report, result, archive)

    @asynccontextmanager
    async def _id_block(self) -> AsyncIterator[int]:
        """A cancelled import keeps its block until the restart: its programs may still run."""
        await self._turns.acquire()
        base = self._free.pop()
        try:
            yield base
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException:
            self._give_back(base)
            raise
        self._give_back(base)

    def _give_back(self, base: int) -> None:
        self._free.append(base)
        self._turns.release()

    async def _tree(self, folder: str, base: int, descriptors: ExitStack) -> tuple[int, int]:
        """(detached idmapped mount of `folder`, user namespace with the map 0 → base)."""
        line = f"0 {base} {_IDS}\n"
        userns = await self._idmap_userns(line, line)
        descriptors.callback(os.close, userns)
        try:
            mount = syscalls.open_tree(syscalls.AT_FDCWD, folder)
            descriptors.callback(os.close, mount)
            attributes = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV | syscalls.MOUNT_ATTR_NOEXEC
            syscalls.mount_setattr(mount, "", attributes, userns_fd=userns)
        except OSError as error:
            hint = "images need a state_dir on a filesystem that can be idmapped, such as ext4, xfs or btrfs"
            raise StepFailed("image:idmap", error.errno or 0, folder, hint=hint) from error
        return mount, userns

    async def _run_unpack(
        self, source: int, mount: int, userns: int, report: int, request: dict[str, Any]
    ) -> HelperResult:
        return await self._helper(
            [sys.executable, "-I", "-X", "utf8", "-c", unpack.BOOT, _CODE],
            fds=(source, mount, userns, report),
            stdin=json.dumps(request).encode(),
            timeout_s=self._limits.wall_s,
        )

    async def _pack_and_unpack(
        self,
        source: int,
        owner: Owner,
        mount: int,
        userns: int,
        report: int,
        request: dict[str, Any],
        archive: str,
    ) -> HelperResult:
        """Two programs and a pipe between them. Each end is closed here when its program has ended."""
        reader, writer = os.pipe()
        packed: list[HelperResult] = []

        async def packing() -> None:
            groups = ",".join(str(group) for group in owner.groups)
            argv = [sys.executable, "-I", "-X", "utf8", "-c", pack.BOOT, _CODE, str(owner.uid), str(owner.gid), groups]
            try:
                packed.append(await self._helper(argv, fds=(source, writer), timeout_s=self._limits.wall_s))
            finally:
                os.close(writer)

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(packing)
                try:
                    result = await self._run_unpack(reader, mount, userns, report, request)
                finally:
                    os.close(reader)
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        if packed[0].status != 0:
            told = packed[0].stderr.decode(errors="replace").strip()
            raise BadImage(f"{archive}: {told[-500:] or 'the folder could not be packed'}")
        return result


def within_free_space(limits: Limits, folder: str) -> Limits:
    """No import may fill the state filesystem: nine tenths of what is free is the most."""
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize // 10 * 9
    return Limits(**{**asdict(limits), "bytes_out": min(limits.bytes_out, free)})


def _report(report: int, result: HelperResult, archive: str) -> dict[str, Any]:
    """The jail may have crashed, and its report may be anything."""
    if result.status != 0:
        last = result.stderr.decode(errors="replace").strip().rsplit("\n", 1)[-1][:300]
        raise HostError(
            f"{archive}: the unpacker ended with status {result.status}: {last or 'no message'}",
            hint="killed: out of time or memory; otherwise a defect of ours, and the archive did no harm",
        )
    size = os.fstat(report).st_size
    if size > _REPORT_BYTES:
        raise HostError(f"{archive}: the unpacker's report has {size} bytes")
    try:
        return imagefile.read_report(os.pread(report, size, 0), archive)
    except ValueError as error:
        raise HostError(f"{archive}: the unpacker's report is damaged: {error}") from error
