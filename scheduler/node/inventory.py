"""What this host shows of executions after a restart: spool folders and groups, looked at once, before the loop runs.

Believes nothing from a launcher's memory (scheduler/reconcile.py says what to make of it).
"""

from __future__ import annotations

import os

from config.settings import Settings
from jobs.events import Usage
from jobs.ids import ExecutionId, is_execution_id
from runtime import exitrecord
from runtime.cgroups.group import JobGroup
from scheduler.node.host import Host
from scheduler.node.prepare import read_lease, spool_of
from scheduler.reconcile import Ended, Observed


def executions(host: Host) -> list[str]:
    """Ids that have a group, or a lease that was never given back."""
    spool = f"{host.settings.state_dir}/spool"
    leased = {name for name in os.listdir(spool) if os.path.exists(f"{spool}/{name}/lease.json")}
    return sorted(name for name in leased | set(host.tree.names()) if is_execution_id(name))


def highest_job(settings: Settings) -> int:
    """Of all that the spool has folders of. A journal that was lost or restored must not give their ids, and with them
    their output and markers, to other jobs."""
    found = [ExecutionId.parse(name).job for name in os.listdir(f"{settings.state_dir}/spool") if is_execution_id(name)]
    return max(found, default=0)


def observe(host: Host, execution: str) -> Observed:
    """Never raises for something that is missing: that is what it is there to say."""
    spool = spool_of(host, execution)
    marker = exitrecord.read_marker(f"{spool}/started")
    record = exitrecord.read(f"{spool}/exit")
    group = host.tree.open(execution)
    there = group.is_there()
    resident_bytes, usage = _figures(group) if there else (0, Usage())
    return Observed(
        marker=marker is not None,
        begun=marker is None or marker.monitor_pid > 0,
        went=marker is not None and marker.running,
        same_boot=marker is None or marker.boot_id in ("", host.caps.boot_id),
        stopped=marker is not None and marker.stopped,
        monitor=_lives(marker),
        exit=Ended(record.status, record.ended_at, record.step, record.errno, record.path) if record else None,
        populated=there and group.populated(),
        frozen=there and group.freezer.is_frozen(),
        groups=execution in host.tree.names(),
        resident_bytes=resident_bytes,
        usage=usage,
    )


def _figures(group: JobGroup) -> tuple[int, Usage]:
    """Resident bytes and counters; zeros where somebody removed one of the groups they are in."""
    try:
        return group.resident_bytes(), group.usage()
    except OSError:
        return 0, Usage()


def take_leases(host: Host, execution: str) -> None:
    """What this execution was lent is not given to another one."""
    lease = read_lease(spool_of(host, execution))
    if lease is not None:
        host.blocks.take(int(lease["id_base"]))


def _lives(marker: exitrecord.Marker | None) -> bool:
    pidfd = exitrecord.open_monitor(marker) if marker is not None else None
    if pidfd is None:
        return False
    os.close(pidfd)
    return True
