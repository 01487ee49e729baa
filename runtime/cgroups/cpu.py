"""CPU weight and quota of a job, monitor included: on `job`. The CPU time that is reported is that of `run`."""

from __future__ import annotations

import math

from runtime.cgroups.files import exists, number, put, table
from runtime.cgroups.limits import Limits
from runtime.cgroups.place import Place

PERIOD_US = 100_000  # the kernel's own default
_LEAST_QUOTA_US = 1_000  # min_cfs_quota_period in kernel/sched/core.c
_USER_HZ = 100  # cpuacct.stat counts in these on every architecture that Linux runs on but alpha


def shares_of_weight(weight: int) -> int:
    """cpu.weight 1–10000 → cpu.shares 2–262144, so that 1, 100 and 10000 meet 2, 1024 and 262144.

    The inverse of runc 1.3.2's and crun 1.23's `weight = ceil(10^(l²/612 + 125·l/612 - 7/34))`, l = log2(shares).
    """
    log = (-125 + math.sqrt(125**2 + 4 * (126 + 612 * math.log10(weight)))) / 2
    return min(max(round(2**log), 2), 262_144)


def quota_us(cpus: float) -> int:
    """CPU time per period; -1 for no quota."""
    return -1 if cpus <= 0 else max(_LEAST_QUOTA_US, round(cpus * PERIOD_US))


def apply(place: Place, limits: Limits) -> tuple[str, ...]:
    quota = quota_us(limits.cpu_quota)
    if place.version == 2:
        put(f"{place.job}/cpu.weight", str(limits.cpu_weight))
        if quota > 0 or exists(f"{place.job}/cpu.max"):
            put(f"{place.job}/cpu.max", f"{quota if quota > 0 else 'max'} {PERIOD_US}")
        return ()
    put(f"{place.job}/cpu.shares", str(shares_of_weight(limits.cpu_weight)))
    if quota > 0 or exists(f"{place.job}/cpu.cfs_quota_us"):
        put(f"{place.job}/cpu.cfs_period_us", str(PERIOD_US))
        put(f"{place.job}/cpu.cfs_quota_us", str(quota))
    return ()


def times_s(place: Place) -> tuple[float, float, float]:
    """(all, user, system) CPU seconds of the container. v1: from the cpuacct hierarchy; v2: cpu.stat, a core file."""
    if place.version == 2:
        stat = table(f"{place.run}/cpu.stat")
        return tuple(stat.get(name, 0) / 1e6 for name in ("usage_usec", "user_usec", "system_usec"))  # type: ignore[return-value]
    total = number(f"{place.run}/cpuacct.usage") / 1e9
    if exists(f"{place.run}/cpuacct.usage_user"):
        return total, *(number(f"{place.run}/cpuacct.usage_{mode}") / 1e9 for mode in ("user", "sys"))  # type: ignore[return-value]
    stat = table(f"{place.run}/cpuacct.stat")
    return total, stat.get("user", 0) / _USER_HZ, stat.get("system", 0) / _USER_HZ
