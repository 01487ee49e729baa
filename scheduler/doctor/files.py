"""Filesystems: roots of jobs, folders that are bound into them, the state folder, writable layers. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from jobs.units import render_size
from scheduler.doctor.facts import Facts, Folder
from scheduler.doctor.finding import JOBS, JOBSD, LAUNCHER, Finding, ok
from scheduler.doctor.packages import install

if TYPE_CHECKING:
    from config.settings import Settings

_ENOUGH = 1 << 30
_NOT_IDMAPPED = (
    "overlay", "nfs", "nfs4", "9p", "cifs", "smb3", "smbfs", "lustre", "fuse", "autofs", "gpfs", "beegfs", "afs",
)  # fmt: skip
_IN_MEMORY = ("tmpfs", "ramfs")


def files(facts: Facts, settings: Settings) -> Iterator[Finding]:
    yield from _overlay(facts)
    yield from _layers(facts)
    yield from _mounts(facts)
    yield from _state(facts, settings)
    yield from _writable(facts)


def _overlay(facts: Facts) -> Iterator[Finding]:
    worked, state = facts.tried("overlay:/"), facts.modules.get("overlay", "unknown")
    if state == "absent" or worked is False:
        yield Finding(
            "files",
            "overlay",
            "fatal",
            facts.said("overlay:/") or "this kernel has no overlayfs",
            "no job can start: the root of each is an overlay",
            "a kernel with CONFIG_OVERLAY_FS" if state == "absent" else "",
            "/proc/filesystems",
            (LAUNCHER,),
        )
    elif worked:
        yield ok("files", "overlay", "on the host's root")
    elif state == "loadable":
        yield ok("files", "overlay", "a module that is loaded when the first job starts")
    else:
        yield Finding("files", "overlay", "unknown", facts.untold)


def _layers(facts: Facts) -> Iterator[Finding]:
    state = facts.folder("state")
    worked = facts.tried("overlay:idmapped")
    if worked is False or (state is not None and state.fstype in _NOT_IDMAPPED):
        kind = state.fstype if state else ""
        old = (0, 0) < facts.version < (5, 19)
        yield Finding(
            "files",
            "imported images",
            "missing",
            f"state_dir is on {kind}, no layers for jobs: {facts.said('overlay:idmapped') or 'it cannot be idmapped'}",
            'jobs image import can\'t be used; image.source = "host" and "dir:…" can',
            "Linux 5.19 or later" if old else "the setting state_dir, to a folder on ext4, xfs or btrfs",
            state.path if state else "",
        )


def _mounts(facts: Facts) -> Iterator[Finding]:
    """One finding for all: which filesystems can't be bound into jobs."""
    seen: dict[str, Folder] = {}
    for each in facts.folders:
        if each.role not in ("run", "state"):
            seen.setdefault(each.point, each)
    refused = [each for each in seen.values() if _not_idmapped(each, facts)]
    told = [each for each in seen.values() if facts.tried(f"idmap:{each.path}")]
    tmpfs = facts.tried("idmap:tmpfs") is False
    if refused:
        listed = ", ".join(f"{each.path} ({each.fstype})" for each in refused[:4]) + (" …" if len(refused) > 4 else "")
        yield Finding(
            "files",
            "mounts",
            "limited",
            f"can't be idmapped: {listed}",
            "[[mounts]] and submit_dir are refused there",
            _alternative(told),
            "/proc/self/mountinfo",
        )
    elif told:
        kinds = dict.fromkeys(each.fstype for each in told)
        yield ok("files", "mounts", f"idmapped: {', '.join(kinds)}")
    else:
        yield Finding("files", "idmapped mounts", "unknown", facts.untold)
    if tmpfs and not any(each.fstype in _IN_MEMORY for each in refused):
        yield Finding(
            "files",
            "mounts of tmpfs",
            "limited",
            "tmpfs can't be idmapped on this kernel",
            "[[mounts]] and submit_dir below /dev/shm, or a /tmp in memory, are refused",
            "Linux 6.3 or later",
        )


def _not_idmapped(each: Folder, facts: Facts) -> bool:
    return facts.tried(f"idmap:{each.path}") is False or each.fstype.split(".")[0] in _NOT_IDMAPPED


def _alternative(told: list[Folder]) -> str:
    better = next((each.path for each in told if each.role in ("home", "here", "tmp", "mount", "root")), "")
    other = f", such as {better}" if better else ""
    return f"copy the data to a folder on ext4, xfs or btrfs{other}, or into an image"


def _state(facts: Facts, settings: Settings) -> Iterator[Finding]:
    state = facts.folder("state")
    if state is None:
        return
    where = f"state_dir {state.path}, on {state.fstype or 'an unknown filesystem'}"
    other = "the setting state_dir, to a folder on a local disk"
    if not state.writable and facts.uid == 0:
        costs = "nothing could be remembered: queue, output and images are there"
        yield Finding("files", "state folder", "fatal", f"{where}: not writable", costs, other, state.path, (JOBSD,))
    elif state.fstype in _IN_MEMORY:
        costs = "queue, history, output and images are gone after a reboot, and take RAM until then"
        yield Finding("files", "state folder", "limited", where, costs, other, state.path)
    elif state.remote:
        costs = "SQLite's journal is not safe on it, and the daemon stands still whenever its server does"
        yield Finding("files", "state folder", "limited", where, costs, other, state.path)
    elif facts.said("punch-hole").startswith("EOPNOTSUPP") and not facts.tried("punch-hole"):
        costs = "output is not bounded on disk by log_limit: no holes can be punched"
        yield Finding("files", "state folder", "limited", where, costs, other, state.path)
    elif 0 <= state.free_bytes < _ENOUGH:
        costs = "jobs that write much fail with No space left on device"
        where += f": {render_size(state.free_bytes)} free"
        yield Finding("files", "state folder", "limited", where, costs, other, state.path)
    else:
        yield ok("files", "state", f"{state.path} on {state.fstype}, {render_size(max(0, state.free_bytes))} free")


def _writable(facts: Facts) -> Iterator[Finding]:
    """A filesystem of its own size for each job: mkfs.ext4 on a file, by a loop device."""
    costs = "no job can start: what each writes goes to a small ext4 in a file"
    if not facts.programs.get("mkfs.ext4"):
        mends = install(facts.family, "e2fsprogs")
        yield Finding("files", "mkfs.ext4", "fatal", "mkfs.ext4 is not installed", costs, mends, stops=(JOBS,))
    for module in ("loop", "ext4"):
        if facts.modules.get(module) == "absent":
            mends = f"a kernel with CONFIG_{'BLK_DEV_LOOP' if module == 'loop' else 'EXT4_FS'}"
            yield Finding("files", module, "fatal", f"this kernel has no {module}", costs, mends, stops=(JOBS,))
            return
    unloaded = facts.modules.get("loop") == "loadable"
    if facts.tried("loop") is False or (unloaded and "loop" not in facts.caps.features):
        mends = "modprobe loop; echo loop > /etc/modules-load.d/loop.conf"
        if facts.container:
            mends = "a container needs --device /dev/loop-control and the loop devices"
        seen = facts.said("loop") or "the module loop is not loaded, and there is no /dev/loop-control"
        yield Finding("files", "loop devices", "fatal", seen, costs, mends, "/dev/loop-control", (JOBS,))
    elif not facts.programs.get("mkfs.ext4"):
        return
    elif facts.tried("loop") or unloaded:
        yield ok("files", "writable layers", "mkfs.ext4 and loop devices" + (", loaded when needed" * unloaded))
    else:
        yield Finding("files", "loop devices", "unknown", facts.untold)
