"""CPUs, memory nodes and SMT siblings of a host, from sysfs through injected `read` and `listdir`. Pure.

Survives odd hosts: offline CPUs, holes in node numbers, memory-only nodes, nodes without memory, kernels without NUMA,
and a process that may use fewer CPUs and nodes than the machine has. Captured machines are in tests/data/sysfs/.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from jobs import cpuset
from jobs.host import NumaNode, Topology

Read = Callable[[str], str]  # the text of a file; raises OSError where there is none
ListDir = Callable[[str], Sequence[str]]  # names in a folder; raises OSError where there is none

_CPU = "/sys/devices/system/cpu"
_NODE = "/sys/devices/system/node"
_KIB = 1024


def read_topology(read: Read, listdir: ListDir) -> Topology:
    """What this very process may use (its affinity and cpuset are in /proc/self/status)."""
    cpus = _usable_cpus(read)
    mems = _allowed(read, "Mems_allowed_list")
    total = _meminfo(_text(read, "/proc/meminfo"))
    numbers = _node_numbers(read, listdir)
    nodes = [_node(read, listdir, number, numbers, cpus, mems) for number in numbers]
    nodes = _adopt_strays(nodes, cpus, total)
    nodes = _single_node_has_all(nodes, total)
    kept = tuple(node for node in nodes if node.cpus or node.memory_bytes)
    return Topology(kept, _siblings(read, cpus))


def _usable_cpus(read: Read) -> frozenset[int]:
    """Online and allowed."""
    online = frozenset(_numbers(read, f"{_CPU}/online"))
    allowed = _allowed(read, "Cpus_allowed_list")
    return online & allowed if online and allowed else online or allowed or frozenset({0})


def _node_numbers(read: Read, listdir: ListDir) -> tuple[int, ...]:
    """Online nodes; [] on a kernel without NUMA."""
    online = _numbers(read, f"{_NODE}/online")
    if online:
        return online
    try:
        names = listdir(_NODE)
    except OSError:
        return ()
    return tuple(sorted(int(name[4:]) for name in names if re.fullmatch(r"node\d+", name)))


def _node(
    read: Read,
    listdir: ListDir,
    number: int,
    numbers: tuple[int, ...],
    cpus: frozenset[int],
    mems: frozenset[int],
) -> NumaNode:
    """A node whose memory this process may not use counts as one without memory."""
    folder = f"{_NODE}/node{number}"
    usable = not mems or number in mems
    return NumaNode(
        id=number,
        cpus=tuple(cpu for cpu in _numbers(read, f"{folder}/cpulist") if cpu in cpus),
        memory_bytes=_meminfo(_text(read, f"{folder}/meminfo")) if usable else 0,
        distances=_distances(_text(read, f"{folder}/distance"), numbers),
        hugepages=_hugepages(read, listdir, f"{folder}/hugepages") if usable else (),
    )


def _distances(text: str, numbers: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """One column per *online* node, in their order: the columns have no holes where the numbers have."""
    columns = [int(word) for word in text.split() if word.isdigit()]
    return tuple(zip(numbers, columns, strict=False)) if len(columns) == len(numbers) else ()


def _hugepages(read: Read, listdir: ListDir, folder: str) -> tuple[tuple[int, int], ...]:
    """(page size in bytes, free pages) per size."""
    try:
        names = listdir(folder)
    except OSError:
        return ()
    found = []
    for name in names:
        match = re.fullmatch(r"hugepages-(\d+)kB", name)
        free = _text(read, f"{folder}/{name}/free_hugepages").strip()
        if match and free.isdigit():
            found.append((int(match[1]) * _KIB, int(free)))
    return tuple(sorted(found))


def _adopt_strays(nodes: list[NumaNode], cpus: frozenset[int], total_bytes: int) -> list[NumaNode]:
    """CPUs that no node lists go to the first node; without any node there is one, number 0, that has everything."""
    strays = tuple(sorted(cpus - {cpu for node in nodes for cpu in node.cpus}))
    if not nodes:
        return [NumaNode(0, strays, total_bytes)]
    if not strays:
        return nodes
    first = nodes[0]
    return [replace(first, cpus=tuple(sorted(first.cpus + strays))), *nodes[1:]]


def _single_node_has_all(nodes: list[NumaNode], total_bytes: int) -> list[NumaNode]:
    """Where one node has all memory, /proc/meminfo tells its size: a node's own file may not count what a hypervisor
    added later (seen: 4 GiB of 24). With several nodes nobody can say where the rest is, and it is left out.
    """
    with_memory = [node for node in nodes if node.memory_bytes]
    if len(nodes) != 1 or len(with_memory) != 1 or not total_bytes:
        return nodes
    return [replace(nodes[0], memory_bytes=total_bytes)]


def _siblings(read: Read, cpus: frozenset[int]) -> tuple[tuple[int, ...], ...]:
    """Groups of hardware threads, without the ones that may not be used; a CPU that tells nothing stands alone."""
    groups = set()
    for cpu in sorted(cpus):
        folder = f"{_CPU}/cpu{cpu}/topology"
        listed = _numbers(read, f"{folder}/core_cpus_list") or _numbers(read, f"{folder}/thread_siblings_list")
        groups.add(tuple(sorted({cpu, *listed} & cpus)))
    return tuple(sorted(groups))


def _allowed(read: Read, name: str) -> frozenset[int]:
    """A list of /proc/self/status; empty where the kernel does not say."""
    match = re.search(rf"^{name}:\s*(\S+)$", _text(read, "/proc/self/status"), re.MULTILINE)
    return frozenset(_parsed(match[1])) if match else frozenset()


def _meminfo(text: str) -> int:
    """MemTotal in bytes, of /proc/meminfo or of a node's meminfo; 0 where there is none."""
    match = re.search(r"MemTotal:\s*(\d+) kB", text)
    return int(match[1]) * _KIB if match else 0


def _numbers(read: Read, path: str) -> tuple[int, ...]:
    return _parsed(_text(read, path))


def _parsed(text: str) -> tuple[int, ...]:
    try:
        return cpuset.parse(text)
    except ValueError:
        return ()


def _text(read: Read, path: str) -> str:
    try:
        return read(path)
    except OSError:
        return ""
