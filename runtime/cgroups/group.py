"""The groups of one execution in every hierarchy. Functions that can't block are sync; waiting ones are async."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import anyio

from jobs.errors import StepFailed, Unsupported
from jobs.events import Usage
from runtime.cgroups import (
    blkio,
    cpu,
    cpuset,
    devices,
    hugetlb,
    memory,
    memory_min,
    net_cls,
    net_egress,
    net_prio,
    pids,
    pressure,
)
from runtime.cgroups.files import NotKept, table, write
from runtime.cgroups.freezer import Freezer
from runtime.cgroups.freezer_v1 import FreezerV1
from runtime.cgroups.freezer_v2 import FreezerV2
from runtime.cgroups.kill import kill, pids_below, subgroups
from runtime.cgroups.limits import Limits
from runtime.cgroups.oom_v1 import OomWatch
from runtime.cgroups.place import Place

_REMOVE_DEADLINE_S = 10.0
_LONGEST_PAUSE_S = 0.1

# In the order of writing: what contains first, what merely shapes last. `cpuacct` and `freezer` have nothing to write.
APPLY: dict[str, Callable[[Place, Limits], tuple[str, ...]]] = {
    "devices": devices.apply,
    "memory": memory.apply,
    "hugetlb": hugetlb.apply,
    "pids": pids.apply,
    "cpuset": cpuset.apply,
    "cpu": cpu.apply,
    "io": blkio.apply,
    "net_cls": net_cls.apply,
    "net_prio": net_prio.apply,
    "net_egress": net_egress.apply,
}


class JobGroup:
    """`places`: controller → where it is; several may share a place. `unified`: the v2 place, or None."""

    def __init__(self, execution_id: str, places: Mapping[str, Place], unified: Place | None) -> None:
        self.execution_id = execution_id
        self.places = dict(places)
        self.notes: tuple[str, ...] = ()  # what this host could not do, in words
        self._unified = unified
        self._freezer = self._pick_freezer()

    # Where a process joins

    @property
    def mon_procs(self) -> tuple[str, ...]:
        """`cgroup.procs` files of the monitor's groups, one per hierarchy, the unified one among them."""
        return tuple(f"{place.mon}/cgroup.procs" for place in self._all_places())

    @property
    def run_procs(self) -> tuple[str, ...]:
        """`cgroup.procs` files of the container's v1 groups. The v2 group is entered by CLONE_INTO_CGROUP."""
        return tuple(f"{place.run}/cgroup.procs" for place in self._all_places() if place.version == 1)

    @property
    def run_unified(self) -> str:
        """The v2 directory to be born in, or ""."""
        return self._unified.run if self._unified else ""

    # Limits

    def apply(self, limits: Limits) -> None:
        """Writes every limit in place, also for frozen groups. Raises StepFailed("cgroup:<controller>", …)."""
        notes: list[str] = []
        for controller, write_down in APPLY.items():
            place = self.places.get(controller)
            if place is None:
                continue
            if not os.path.isdir(place.run) and os.path.isdir(self._core_place().run):
                notes.append(f"{controller}: not mounted when this job started; it runs without")
                continue
            try:
                notes += write_down(place, limits)
            except OSError as refused:
                path = str(refused.filename or place.job)
                hint = str(refused.strerror) if isinstance(refused, NotKept) else ""
                raise StepFailed(f"cgroup:{controller}", refused.errno or 0, path, hint=hint) from refused
        self.notes = tuple(notes)

    def gather(self) -> None:
        """Brings back whom v1 moved to the group above, because every CPU of the cpuset had gone offline."""
        place, core = self.places.get("cpuset"), self._core_place()
        if place is None or place.version == 2:
            return
        for home, whole in ((place.run, core.run), (place.mon, core.mon)):
            for pid in set(pids_below(whole)).difference(pids_below(home)):
                with suppress(ProcessLookupError):
                    write(f"{home}/cgroup.procs", str(pid))

    # Freezing and ending

    @property
    def freezer(self) -> Freezer:
        """The one freezer of this job. Raises Unsupported where the host has none."""
        if self._freezer is None:
            raise Unsupported("no freezer on this host", hint="mount cgroup2, or the v1 freezer controller")
        return self._freezer

    async def kill(self) -> None:
        """Everything in `run` dies, frozen or not; returns when it is empty. Raises StillAlive."""
        place = self._core_place()
        try:
            await kill(place.run, place.version)
        except OSError as refused:
            if refused.errno not in (errno.ENOENT, errno.ENODEV):  # gone, so empty
                raise StepFailed("cgroup:kill", refused.errno or 0, str(refused.filename or place.run)) from refused

    async def kill_when_out_of_memory(self) -> None:
        """v1: all die when the kernel kills one of them for want of memory, as on v2, whose kernel does it itself.

        Waits for that; returns at once where it is the kernel's doing, or when the group is gone. Raises StillAlive.
        """
        place = self.places.get("memory")
        if place is None or place.version == 2:
            return
        try:
            watch = OomWatch(place)
        except OSError:  # gone, or a kernel without eventfd notices (PREEMPT_RT): one process dies, the rest goes on
            return
        try:
            await watch.wait_for_a_kill()
        finally:
            watch.close()
        await self.kill()

    def is_there(self) -> bool:
        """False when the group was never made, or is gone where processes are counted. Others of its may be left:
        systemd, ending a unit, removes what is below it in the hierarchies that it knows.
        """
        return os.path.isdir(self._core_place().run)

    def populated(self) -> bool:
        """Is any process left in `run`? False when the group is gone."""
        place = self._core_place()
        if place.version == 2:
            return table(f"{place.run}/cgroup.events").get("populated") == 1
        return bool(pids_below(place.run))

    @property
    def freezer_files(self) -> tuple[str, ...]:
        """Files that tell whether `run` is frozen, for a process that must not start in a frozen group."""
        v1 = self.places.get("freezer")
        unified = (f"{self._unified.run}/cgroup.events",) if self._unified else ()
        return (*unified, f"{v1.run}/freezer.state") if v1 else unified

    def signal(self, number: int, *, besides: int = 0) -> int:
        """To every process in `run` now but one; returns how many got it. A pid is checked against the group once its
        pidfd is open, so that nobody else who got the number is hit."""
        reached = 0
        for pid in set(self.pids()) - {besides}:
            with suppress(ProcessLookupError):
                pidfd = os.pidfd_open(pid)
                try:
                    if pid in self.pids():
                        signal.pidfd_send_signal(pidfd, number)
                        reached += 1
                finally:
                    os.close(pidfd)
        return reached

    def pids(self) -> list[int]:
        """Host pids of the processes in `run` and below."""
        return pids_below(self._core_place().run)

    # Figures

    def usage(self) -> Usage:
        """The container's counters; valid after the exit, until `remove`."""
        accounts = self.places.get("cpuacct") or self._unified
        total, user, system = cpu.times_s(accounts) if accounts else (0.0, 0.0, 0.0)
        mem, disk, count = (self.places.get(name) for name in ("memory", "io", "pids"))
        read_bytes, written_bytes = blkio.moved_bytes(disk) if disk else (0, 0)
        waited = pressure.waited_s(self._unified) if self._unified else (0.0, 0.0, 0.0)
        return Usage(
            cpu_s=total,
            cpu_user_s=user,
            cpu_system_s=system,
            memory_bytes=memory.current_bytes(mem) if mem else 0,
            memory_peak_bytes=memory.peak_bytes(mem) if mem else 0,
            oom_kills=self.oom_kills(),
            pids=pids.current(count) if count else 0,  # the unreaped dead count too
            io_read_bytes=read_bytes,
            io_write_bytes=written_bytes,
            cpu_wait_s=waited[0],
            memory_wait_s=waited[1],
            io_wait_s=waited[2],
        )

    def resident_bytes(self) -> int:
        """What a freeze keeps in RAM: anonymous + shared + unevictable."""
        place = self.places.get("memory")
        return memory.resident_bytes(place) if place else 0

    def oom_kills(self) -> int:
        place = self.places.get("memory")
        return memory.oom_kills(place) if place else 0

    # Removal

    async def remove(self) -> None:
        """rmdir in every hierarchy. EBUSY (a dying process) is retried with doubling pauses; gone is fine."""
        for place in self._all_places():
            for group in subgroups(place.job):
                await _remove_directory(group)
        if (mem := self.places.get("memory")) and mem.version == 2:
            memory_min.release(mem)

    # Inside

    def _all_places(self) -> list[Place]:
        found = {place.job: place for place in self.places.values()}
        if self._unified:
            found[self._unified.job] = self._unified
        return [found[path] for path in sorted(found)]

    def _pick_freezer(self) -> Freezer | None:
        if self._unified:
            return FreezerV2(self._unified.run)
        place = self.places.get("freezer")
        return FreezerV1(place.run) if place else None

    def _core_place(self) -> Place:
        """Where membership, freezing and killing are looked at: v2, else v1's freezer, else any hierarchy."""
        return self._unified or self.places.get("freezer") or next(iter(self.places.values()))


def make_groups(place: Place) -> None:
    """The three directories, parents first; those that exist stay."""
    for group in place.all:
        with suppress(FileExistsError):
            os.mkdir(group)


async def _remove_directory(group: str) -> None:
    until = time.monotonic() + _REMOVE_DEADLINE_S
    pause = 0.001
    while True:
        try:
            os.rmdir(group)
            return
        except OSError as refused:
            if refused.errno in (errno.ENOENT, errno.ENODEV):
                return
            if refused.errno != errno.EBUSY or time.monotonic() > until:
                hint = f"left inside: {pids_below(group)}"
                raise StepFailed("cgroup:remove", refused.errno or 0, group, hint=hint) from refused
        await anyio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE_S)
