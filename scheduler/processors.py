"""Cores, caches, kinds of cores and sockets of the online CPUs, from sysfs through an injected `read`. Pure.

Firmware and hypervisors tell nonsense now and then: a CPU is in one core and one socket, whatever the files say, and a
file that is missing or garbage is a fact that is not known.
Formats: Documentation/ABI/stable/sysfs-devices-system-cpu and Documentation/admin-guide/cputopology.rst of Linux.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from jobs import cpuset
from jobs.host import Cache, CoreKind, Package
from jobs.units import parse_size

Read = Callable[[str], str]  # the text of a file; raises OSError where there is none
ListDir = Callable[[str], Sequence[str]]  # names in a folder; raises OSError where there is none

CPU = "/sys/devices/system/cpu"
# Intel's hybrids: one PMU for each kind of cores (arch/x86/events/intel/core.c: cpu_core, cpu_atom, cpu_lowpower).
_PMUS = ("cpu_core", "cpu_atom", "cpu_lowpower")
_ALIKE = 0.9  # capacities this near are one kind: one model of core, binned or clocked a little differently
_CACHE_KINDS = {"Data": "data", "Instruction": "instruction", "Unified": "unified"}


def text(read: Read, path: str) -> str:
    try:
        return read(path)
    except (OSError, ValueError):
        return ""


def numbers(read: Read, path: str) -> tuple[int, ...]:
    """A list of CPUs or nodes; () where there is none."""
    return parsed(text(read, path))


def parsed(given: str) -> tuple[int, ...]:
    try:
        return cpuset.parse(given.strip("\0\n "))
    except ValueError:
        return ()


def names(listdir: ListDir, folder: str, pattern: str) -> list[tuple[str, int]]:
    """(name, its number) of what is in the folder, by number."""
    try:
        found = listdir(folder)
    except OSError:
        return []
    matches = ((name, re.fullmatch(pattern, name)) for name in found)
    return sorted(((name, int(match[1])) for name, match in matches if match), key=lambda pair: pair[1])


def siblings(read: Read, cpus: Iterable[int]) -> tuple[tuple[int, ...], ...]:
    """Groups of hardware threads; a CPU that tells nothing stands alone."""
    return _groups(read, cpus, "core_cpus_list", "thread_siblings_list")


def _groups(read: Read, cpus: Iterable[int], *files: str) -> tuple[tuple[int, ...], ...]:
    """Disjoint: the first that claims a CPU has it."""
    left, found = set(cpus), []
    for cpu in sorted(left):
        if cpu in left:
            listed = next(filter(None, (numbers(read, f"{CPU}/cpu{cpu}/topology/{file}") for file in files)), ())
            found.append(tuple(sorted({cpu, *listed} & left)))
            left.difference_update(found[-1])
    return tuple(found)


def packages(read: Read, cpus: Iterable[int]) -> tuple[Package, ...]:
    """Sockets by their numbers. A negative number (ARM, virtual machines) means that nobody said: all in one."""
    members: dict[int, list[int]] = {}
    for cpu in sorted(cpus):
        given = text(read, f"{CPU}/cpu{cpu}/topology/physical_package_id").strip()
        members.setdefault(int(given) if given.isascii() and given.isdigit() else 0, []).append(cpu)
    return tuple(
        Package(
            id=number,
            cpus=tuple(inside),
            dies=_several(_groups(read, inside, "die_cpus_list")),
            clusters=_several(_groups(read, inside, "cluster_cpus_list")),
        )
        for number, inside in sorted(members.items())
    )


def _several(groups: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
    """Groups that say something: not one for all, not one for each."""
    return groups if len(groups) > 1 and any(len(group) > 1 for group in groups) else ()


def caches(read: Read, listdir: ListDir, cpus: Iterable[int]) -> tuple[Cache, ...]:
    """Each cache once, the lowest levels first. What a CPU shares with one that was asked already is not read again."""
    online, known = frozenset(cpus), dict[str, set[int]]()
    found: list[Cache] = []
    for cpu in sorted(online):
        for name, _ in names(listdir, f"{CPU}/cpu{cpu}/cache", r"index(\d+)"):
            if cpu not in known.setdefault(name, set()):
                cache = _cache(read, f"{CPU}/cpu{cpu}/cache/{name}", cpu, online - known[name])
                known[name].update(cache.cpus)
                if cache.level:
                    found.append(cache)
    return tuple(sorted(found, key=lambda cache: (cache.level, cache.kind, cache.cpus)))


def _cache(read: Read, folder: str, cpu: int, others: frozenset[int]) -> Cache:
    level, size = text(read, f"{folder}/level").strip(), text(read, f"{folder}/size").strip()
    return Cache(
        level=int(level) if level.isascii() and level.isdigit() else 0,
        kind=_CACHE_KINDS.get(text(read, f"{folder}/type").strip(), ""),
        size_bytes=_size(size),
        cpus=tuple(sorted({cpu, *numbers(read, f"{folder}/shared_cpu_list")} & others)),
    )


def _size(given: str) -> int:
    """As "32K"."""
    try:
        return parse_size(given)
    except ValueError:
        return 0


def kinds(read: Read, cpus: Iterable[int]) -> tuple[CoreKind, ...]:
    """The fastest first; () where all are alike or nobody says.

    ACPI's highest_perf is no sign: it differs between cores of one kind, as some clock a little higher.
    """
    online = frozenset(cpus)
    groups = [tuple(sorted(online.intersection(numbers(read, f"/sys/devices/{pmu}/cpus")))) for pmu in _PMUS]
    groups = [group for group in groups if group] or _by_capacity(read, online)
    if len(groups) < 2 or sum(map(len, groups)) > len(set().union(*groups)):
        return ()
    words = ("performance", *["middle"] * (len(groups) - 2), "efficiency")
    return tuple(CoreKind(word, group) for word, group in zip(words, groups, strict=True))


def _by_capacity(read: Read, cpus: frozenset[int]) -> list[tuple[int, ...]]:
    """ARM: 1024 is the largest core at its highest frequency."""
    given = {cpu: text(read, f"{CPU}/cpu{cpu}/cpu_capacity").strip() for cpu in sorted(cpus)}
    if not all(value.isascii() and value.isdigit() for value in given.values()):
        return []
    groups: list[list[int]] = []
    before = 0
    for cpu in sorted(cpus, key=lambda cpu: (-int(given[cpu]), cpu)):
        capacity = int(given[cpu])
        if not groups or capacity < _ALIKE * before:
            groups.append([])
        groups[-1].append(cpu)
        before = capacity
    return [tuple(sorted(group)) for group in groups]
