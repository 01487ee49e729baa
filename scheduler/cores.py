"""Which CPUs of one memory node a job gets: few last-level caches, one kind of cores, whole cores first. Pure.

A node is made of parts: CPUs that share their last-level cache and are of one kind. The rules, in this order: as few
parts as possible, and where one suffices the tightest; whole free cores for as long as one is needed whole; the rest
from cores that are broken already. A job with `cores = "whole"` is given all threads of each of its cores: those it did
not ask for stay idle. docs/concepts/scheduling.md tells users.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.host import Topology

Core = tuple[int, ...]  # hardware threads


@dataclass(frozen=True, slots=True)
class Part:
    """`kind`: 0 for the fastest cores of the machine. `cores`: only threads that jobs may have."""

    kind: int
    cores: tuple[Core, ...]

    @property
    def cpus(self) -> tuple[int, ...]:
        return tuple(cpu for core in self.cores for cpu in core)


@dataclass(frozen=True, slots=True)
class Free:
    """What is free of a part now."""

    whole: tuple[Core, ...]
    broken: tuple[Core, ...]  # the free threads of cores of which others are taken
    in_whole: int  # CPUs
    in_broken: int

    def room(self, whole: bool) -> int:
        """CPUs that can be given; `whole`: to a job that shares no core."""
        return self.in_whole if whole else self.in_whole + self.in_broken


@dataclass(frozen=True, slots=True)
class Picked:
    cpus: tuple[int, ...] = ()
    idle: tuple[int, ...] = ()

    def __add__(self, other: Picked) -> Picked:
        return Picked(self.cpus + other.cpus, self.idle + other.idle)


def parts_of(topology: Topology) -> dict[int, tuple[Part, ...]]:
    """Node → its parts. Where nothing is said of caches, kinds or siblings, a node is one part of one-thread cores."""
    cache_of, kind_of = topology.last_cache_of(), topology.kind_of()
    core_of = {cpu: group[0] for group in topology.siblings for cpu in group}
    found: dict[int, tuple[Part, ...]] = {}
    for node in topology.nodes:
        parts: dict[tuple[int, int], dict[int, list[int]]] = {}
        for cpu in node.cpus:
            first = core_of.get(cpu, cpu)  # its core's facts are its own: threads of one core share everything
            key = kind_of.get(first, 0), cache_of.get(first, -1)
            parts.setdefault(key, {}).setdefault(first, []).append(cpu)
        found[node.id] = tuple(
            Part(kind, tuple(sorted(map(tuple, cores.values())))) for (kind, _), cores in sorted(parts.items())
        )
    return found


def free_of(part: Part, owned: Container[int], shared: Container[int]) -> Free:
    whole, broken = [], []
    for core in part.cores:
        threads = [cpu for cpu in core if cpu not in owned and cpu not in shared]
        if len(threads) == len(core):
            whole.append(core)
        elif threads:
            broken.append(tuple(threads))
    return Free(tuple(whole), tuple(broken), sum(map(len, whole)), sum(map(len, broken)))


def pick(free: Sequence[Free], wanted: int, whole: bool) -> Picked:
    """`wanted` CPUs of the parts of one node. They must have the room."""
    room = {number: part.room(whole) for number, part in enumerate(free)}
    size = max((len(core) for part in free for core in part.whole), default=1)

    def harm(number: int, count: int) -> tuple[int, bool]:
        """(whole cores that it lacks, whether one that nobody uses would be broken)"""
        part, full = free[number], sum(len(core) == size for core in free[number].whole)
        missing = max(0, count // size - full)
        return missing, not whole and count - size * (count // size - missing) > part.in_broken

    counts = fill(room, wanted, harm)
    picked = Picked()
    for number, count in sorted(counts.items()):
        picked += _whole(free[number], count) if whole else _shared(free[number], count)
    return picked


def fill(room: Mapping[int, int], wanted: int, rather_not: Callable[[int, int], Any] | None = None) -> dict[int, int]:
    """Place → how much from it: from one if one suffices (the tightest), else the emptiest whole and the rest likewise.

    `rather_not(place, wanted)`: of places that suffice, the one with the least of this comes first.
    """
    left, counts = dict(room), dict[int, int]()
    while wanted > 0 and left:
        enough = [
            (rather_not(place, wanted) if rather_not else 0, count, place)
            for place, count in left.items()
            if count >= wanted
        ]
        place = min(enough)[2] if enough else min(left, key=lambda place: (-left[place], place))
        counts[place] = min(wanted, left.pop(place))
        wanted -= counts[place]
    return {place: count for place, count in counts.items() if count}


def level(room: Mapping[int, int], wanted: int) -> dict[int, int]:
    """Place → how much from it, as even as the room allows; the roomiest have one more, of equals the lower number."""
    counts = dict.fromkeys(room, 0)
    wanted = min(wanted, sum(room.values()))
    while wanted:
        open_ = sorted(
            (place for place in room if counts[place] < room[place]), key=lambda place: (-room[place], place)
        )
        each = max(1, min(wanted // len(open_), *(room[place] - counts[place] for place in open_)))
        for place in open_[: wanted // each]:
            counts[place] += each
            wanted -= each
    return {place: count for place, count in counts.items() if count}


def _shared(free: Free, wanted: int) -> Picked:
    size = max((len(core) for core in free.whole), default=1)
    taken: list[int] = []
    rest = sorted(free.broken, key=lambda core: (len(core), core))
    for core in free.whole:
        if len(core) == size and wanted - len(taken) >= size:
            taken += core
        else:
            rest.append(core)
    for core in rest:
        taken += core[: wanted - len(taken)]
    return Picked(tuple(taken))


def _whole(free: Free, wanted: int) -> Picked:
    """Large cores first; the last one as small as suffices."""
    cpus: list[int] = []
    left: list[Core] = []
    for core in sorted(free.whole, key=lambda core: (-len(core), core)):
        if len(core) <= wanted - len(cpus):
            cpus += core
        else:
            left.append(core)  # every one of these is larger than what is missing in the end
    missing = wanted - len(cpus)
    if not missing:
        return Picked(tuple(cpus))
    last = min(left, key=lambda core: (len(core), core))
    return Picked((*cpus, *last[:missing]), last[missing:])


def least_to_cover(sizes: Iterable[int]) -> tuple[int, ...]:
    """How many of these, the largest first, it takes at least: `least[n]` for n CPUs."""
    least = [0]
    for number, size in enumerate(sorted(sizes, reverse=True), 1):
        least += [number] * size
    return tuple(least)
