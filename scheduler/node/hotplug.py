"""CPUs that go offline while jobs have them, or come back: what is to be said, and whose cpusets to write again. Pure.

The kernel takes an offline CPU out of every cpuset. A job goes on with the rest of its CPUs; one that has none left
runs on those of the group above, which are everybody's. cgroup v1 forgets the CPU for good, v2 gives it back by itself
(docs/design/placement-kernel.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jobs import cpuset


@dataclass(frozen=True, slots=True)
class Change:
    """`restore`: executions all of whose CPUs are there again."""

    warnings: tuple[str, ...] = ()
    restore: tuple[str, ...] = ()


def compare(before: frozenset[int], now: frozenset[int], holders: Mapping[str, tuple[int, ...]]) -> Change:
    """`before` and `now`: CPUs that this host gave to jobs and that are offline; `holders`: execution → its CPUs."""
    warnings = []
    if now - before:
        warnings.append(f"CPUs went offline: {cpuset.render(now - before)}; new jobs that need them will not start")
    if before - now:
        warnings.append(f"CPUs are back: {cpuset.render(before - now)}")
    for execution, cpus in sorted(holders.items()):
        if (now - before).intersection(cpus):
            left = [cpu for cpu in cpus if cpu not in now]
            rest = f"it goes on with {cpuset.render(left)}" if left else "it runs on the CPUs of others now: pause it"
            warnings.append(f"execution {execution} has lost CPUs {cpuset.render(now.intersection(cpus))}; {rest}")
    back = (before - now).intersection
    restore = tuple(name for name, cpus in sorted(holders.items()) if back(cpus) and not now.intersection(cpus))
    return Change(tuple(warnings), restore)


def lost(offline: frozenset[int], holders: Mapping[str, tuple[int, ...]]) -> list[dict[str, object]]:
    """For `jobs show --host`: each CPU that is offline, and who has it."""
    return [
        {"cpu": cpu, "executions": sorted(name for name, cpus in holders.items() if cpu in cpus)}
        for cpu in sorted(offline)
    ]
