"""Facts of control groups, by reading alone: where hierarchies are, what is passed on, who is in the way."""

from __future__ import annotations

import os

from config.settings import Settings
from jobs.host import HostCaps
from runtime.cgroups import vacate
from runtime.hostcaps import MountLine
from scheduler.doctor.facts import Hierarchy
from scheduler.doctor.sources import names, nearest, text


def hierarchies(settings: Settings, caps: HostCaps, mounts: list[MountLine]) -> tuple[Hierarchy, ...]:
    places = {mount.path: mount.version for mount in caps.controllers.values()}
    if caps.unified:
        places[caps.unified] = 2
    return tuple(
        Hierarchy(version, point, os.access(parent, os.W_OK), parent)
        for point, version in sorted(places.items())
        for parent in (nearest(f"{point}/{settings.cgroup_root}"),)
    )


def passed_on(settings: Settings, caps: HostCaps) -> dict[str, str]:
    """cgroup.controllers of the v2 root and of each group on the way to ours that is there."""
    return {path: text(f"{path}/cgroup.controllers").strip() for path in _way_down(settings, caps)}


def _way_down(settings: Settings, caps: HostCaps) -> list[str]:
    """The v2 root and the groups below it down to ours, as far as they are there."""
    if not caps.unified:
        return []
    found = [caps.unified]
    for part in filter(None, settings.cgroup_root.split("/")):
        if not os.path.isdir(f"{found[-1]}/{part}"):
            break
        found.append(f"{found[-1]}/{part}")
    return found


def held(settings: Settings, caps: HostCaps) -> str:
    """What runtime/cgroups/tree.py would get EBUSY for."""
    if not any(mount.version == 2 for mount in caps.controllers.values()):
        return ""
    for path in _way_down(settings, caps):
        passes = set(text(f"{path}/cgroup.controllers").split()) - set(text(f"{path}/cgroup.subtree_control").split())
        wanted = passes & set(caps.controllers)
        inner = os.path.exists(f"{path}/cgroup.events")  # the host's own root may hold processes
        if inner and wanted and text(f"{path}/cgroup.procs") and not vacate.may_vacate(path, caps.unified):
            return path
    return ""


def io_weights(caps: HostCaps) -> bool | None:
    """BFQ, or v2's cost model; None where there is no controller or no disk to be seen."""
    chosen = [each for disk in names("/sys/block") if (each := text(f"/sys/block/{disk}/queue/scheduler"))]
    mount = caps.controllers.get("io")
    if mount is None or not chosen:
        return None
    return any("[bfq]" in each for each in chosen) or "enable=1" in text(f"{mount.path}/io.cost.qos")


def swap_limited(caps: HostCaps) -> bool | None:
    """The root groups of v2 have no limits; some group below one has the file, where there is any."""
    memory = caps.controllers.get("memory")
    if memory is None:
        return None
    if memory.version == 1:
        return os.path.exists(f"{memory.path}/memory.memsw.limit_in_bytes")
    groups = (entry.path for entry in _scan(memory.path) if os.path.exists(f"{entry.path}/memory.max"))
    first = next(groups, "")
    return os.path.exists(f"{first}/memory.swap.max") if first else None


def _scan(path: str) -> list[os.DirEntry[str]]:
    try:
        return sorted((each for each in os.scandir(path) if each.is_dir()), key=lambda each: each.name)
    except OSError:
        return []
