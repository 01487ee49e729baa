"""Memory and swap of the container. The limit is on `run`: with it on `job`, a job of tiny processes that fills a tmpfs
gets the *monitor* chosen as the OOM victim (docs/design/cgroup-levels.md).
"""

from __future__ import annotations

import os

from runtime.cgroups import memory_min
from runtime.cgroups.files import confirm, exchange, exists, number, put, read, table, write
from runtime.cgroups.limits import Limits
from runtime.cgroups.place import Place

_PAGE = os.sysconf("SC_PAGE_SIZE")
_ENDLESS_V1 = 1 << 62  # PAGE_COUNTER_MAX shows as 9223372036854771712


def apply(place: Place, limits: Limits) -> tuple[str, ...]:
    return _apply_v2(place, limits) if place.version == 2 else _apply_v1(place, limits)


def _apply_v1(place: Place, limits: Limits) -> tuple[str, ...]:
    """memsw (memory + swap) may never be below the limit, so the order depends on the direction."""
    limit_file = f"{place.run}/memory.limit_in_bytes"
    memsw_file = f"{place.run}/memory.memsw.limit_in_bytes"
    memsw = -1 if limits.swap_bytes < 0 else limits.memory_bytes + limits.swap_bytes
    steps = [(limit_file, limits.memory_bytes)]
    notes: tuple[str, ...] = ()
    if exists(memsw_file):
        steps.append((memsw_file, memsw))
    elif limits.swap_bytes == 0:
        write(f"{place.run}/memory.swappiness", "0")
        notes = ("swap is not accounted on this host (boot with swapaccount=1): it is avoided, not forbidden",)
    if limits.memory_bytes > number(limit_file):
        steps.reverse()
    for path, value in steps:
        _put_bytes(path, value, "-1")
    if limits.memory_high_bytes or limits.memory_min_bytes:
        notes += ("memory_high and memory_min hold nowhere: the memory controller of this host is on cgroup v1",)
    return notes


def _apply_v2(place: Place, limits: Limits) -> tuple[str, ...]:
    """`oom.group`: the kernel kills all of the container or nothing, never one process in its middle."""
    _put_bytes(f"{place.run}/memory.max", limits.memory_bytes, "max")
    put(f"{place.run}/memory.oom.group", "1")
    _put_bytes(f"{place.run}/memory.high", limits.memory_high_bytes or -1, "max")
    notes = memory_min.protect(place, limits.memory_min_bytes)
    if exists(f"{place.run}/memory.swap.max"):
        _put_bytes(f"{place.run}/memory.swap.max", limits.swap_bytes, "max")
    elif limits.swap_bytes >= 0:
        notes += ("swap can't be limited on this host: memory.swap.max is missing",)
    return notes


def _put_bytes(path: str, value: int, endless: str) -> None:
    """The kernel counts whole pages and rounds down."""
    text = endless if value < 0 else str(value)
    shown = exchange(path, text)
    if value < 0:
        confirm(path, text, shown, shown == "max" or int(shown) >= _ENDLESS_V1)
    else:
        confirm(path, text, shown, shown == str(value // _PAGE * _PAGE))


def hierarchical(place_root: str) -> None:
    """Before Linux 5.11 a v1 group does not count its children unless told so, before it has any."""
    path = f"{place_root}/memory.use_hierarchy"
    if exists(path) and read(path) == "0":
        write(path, "1")


def current_bytes(place: Place) -> int:
    return number(f"{place.run}/{'memory.current' if place.version == 2 else 'memory.usage_in_bytes'}")


def peak_bytes(place: Place) -> int:
    """v2 has a peak since Linux 5.19; 0 before."""
    return number(f"{place.run}/{'memory.peak' if place.version == 2 else 'memory.max_usage_in_bytes'}")


def oom_kills(place: Place) -> int:
    """Counted by the kernel on the victim's group; still there after the exit, until the group is removed."""
    return table(f"{place.run}/{'memory.events' if place.version == 2 else 'memory.oom_control'}").get("oom_kill", 0)


def resident_bytes(place: Place) -> int:
    """What a freeze keeps in RAM: anonymous + shared + unevictable.

    Taken from the LRU lists, where each page is on exactly one: the two anonymous lists hold shared memory too, and a
    locked page is on the unevictable list only. `rss + shmem + unevictable` would count locked pages twice.
    """
    stat = table(f"{place.run}/memory.stat")
    prefix = "" if place.version == 2 else "total_"
    return sum(stat.get(prefix + name, 0) for name in ("inactive_anon", "active_anon", "unevictable"))
