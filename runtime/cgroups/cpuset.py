"""Which CPUs and memory nodes a job may use. v2: on `job`, the children follow. v1: on all three groups, one by one."""

from __future__ import annotations

from jobs import cpuset as lists
from runtime.cgroups.files import confirm, exchange, put, read
from runtime.cgroups.limits import Limits
from runtime.cgroups.place import Place


def apply(place: Place, limits: Limits) -> tuple[str, ...]:
    """Takes effect for a frozen group too. Moving gigabytes by `mems` takes seconds, in this very call."""
    migrate = f"{place.run}/cpuset.memory_migrate"
    if place.version == 1 and read(migrate) != "1":
        put(migrate, "1")  # or pages would stay where they are when `mems` changes
    for kind, numbers in (("cpus", limits.cpus), ("mems", limits.mems)):
        if place.version == 2:
            _set_v2(place, kind, numbers)
        else:
            _set_v1(place, kind, numbers or _shown(_parent(place.job), kind))
    return ()


def inherit(group: str) -> None:
    """A new v1 group has no CPU and no node: nothing could join it, or have some below it. Copies the parent's."""
    for kind in ("cpus", "mems"):
        if not read(f"{group}/cpuset.{kind}"):
            put(f"{group}/cpuset.{kind}", read(f"{_parent(group)}/cpuset.{kind}"))


def widen(group: str) -> None:
    """A v1 group gets what its parent has: v1 takes a CPU that went offline out of every group for good."""
    put(f"{group}/cpuset.cpus", read(f"{_parent(group)}/cpuset.cpus"))


def _set_v2(place: Place, kind: str, numbers: tuple[int, ...]) -> None:
    """An empty file means "as the parent", but a group with tasks can't be emptied again (ENOSPC)."""
    if not numbers:
        if not _shown(place.job, kind):
            return
        numbers = _shown(_parent(place.job), f"{kind}.effective")
    _put_list(f"{place.job}/cpuset.{kind}", numbers)
    # the kernel takes CPUs that the parent lacks, and lets the job have the rest, or the parent's
    shown = read(f"{place.job}/cpuset.{kind}.effective")
    confirm(f"{place.job}/cpuset.{kind}.effective", lists.render(numbers), shown, lists.parse(shown) == numbers)


def _set_v1(place: Place, kind: str, numbers: tuple[int, ...]) -> None:
    """A child may only have what its parent has: widen the parent, set the children, narrow the parent."""
    have = {group: _shown(group, kind) for group in place.all}
    widest = tuple(sorted({*numbers, *have[place.job]}))
    for group, wanted in ((place.job, widest), (place.run, numbers), (place.mon, numbers), (place.job, numbers)):
        if have[group] != wanted:
            _put_list(f"{group}/cpuset.{kind}", wanted)
            have[group] = wanted


def _put_list(path: str, numbers: tuple[int, ...]) -> None:
    text = lists.render(numbers)
    shown = exchange(path, text)
    confirm(path, text, shown, lists.parse(shown) == numbers)


def _shown(group: str, kind: str) -> tuple[int, ...]:
    return lists.parse(read(f"{group}/cpuset.{kind}"))


def _parent(group: str) -> str:
    return group.rpartition("/")[0]
