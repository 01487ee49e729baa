"""What a host has and what of it jobs may be given, from sysfs through injected `read` and `listdir`. Pure.

Survives odd hosts: offline and isolated CPUs, holes in node numbers, memory-only nodes, nodes without memory, kernels
without NUMA, and a process that may use fewer CPUs and nodes than the machine has. Captured machines are in
tests/data/sysfs/; `jobs topology` draws any. Cores, caches and sockets: scheduler/processors.
"""

from __future__ import annotations

import re
from dataclasses import replace

from jobs.host import NumaNode, Topology, Withheld
from scheduler import processors
from scheduler.processors import CPU, ListDir, Read, numbers, parsed, text

_NODE = "/sys/devices/system/node"
_KIB = 1024


def read_topology(read: Read, listdir: ListDir, *, use_isolated_cpus: bool = False) -> Topology:
    """What this very process may use (its affinity and cpuset are in /proc/self/status).

    CPUs that the kernel keeps free of others (isolcpus=) are somebody's on purpose, and threads do not spread over them
    by themselves: no job gets one unless a setting says so, or there are no others.
    """
    online = frozenset(numbers(read, f"{CPU}/online"))
    allowed = _allowed(read, "Cpus_allowed_list")
    usable = online & allowed or online or allowed or frozenset({0})
    online = online or usable
    isolated = frozenset() if use_isolated_cpus else frozenset(numbers(read, f"{CPU}/isolated"))
    given = usable - isolated or usable
    listed = _listed(read, listdir, online)
    return Topology(
        nodes=_nodes(read, listdir, listed, given),
        siblings=processors.siblings(read, online),
        caches=processors.caches(read, listdir, online),
        kinds=processors.kinds(read, online),
        packages=processors.packages(read, online),
        withheld=_withheld(read, listdir, listed, online - given, isolated & usable),
        model=_model(text(read, "/proc/cpuinfo")),
    )


def _listed(read: Read, listdir: ListDir, online: frozenset[int]) -> dict[int, tuple[int, ...]]:
    """Node → its online CPUs; {} on a kernel without NUMA. A CPU is on one node: the first that lists it."""
    found: dict[int, tuple[int, ...]] = {}
    left = set(online)
    for number in numbers(read, f"{_NODE}/online") or [n for _, n in processors.names(listdir, _NODE, r"node(\d+)")]:
        found[number] = tuple(cpu for cpu in numbers(read, f"{_NODE}/node{number}/cpulist") if cpu in left)
        left.difference_update(found[number])
    return found


def _nodes(
    read: Read, listdir: ListDir, listed: dict[int, tuple[int, ...]], cpus: frozenset[int]
) -> tuple[NumaNode, ...]:
    """Those that have something for jobs."""
    mems = _allowed(read, "Mems_allowed_list")
    total = _meminfo(text(read, "/proc/meminfo"))
    inside = {number: tuple(cpu for cpu in listed[number] if cpu in cpus) for number in listed}
    nodes = [_node(read, listdir, number, inside, not mems or number in mems) for number in listed]
    nodes = _adopt_strays(nodes, cpus, total)
    if len(numbers(read, f"{_NODE}/possible")) < 2:
        nodes = _single_node_has_all(nodes, total)
    return tuple(node for node in nodes if node.cpus or node.memory_bytes)


def _node(
    read: Read, listdir: ListDir, number: int, cpus: dict[int, tuple[int, ...]], may_use_memory: bool
) -> NumaNode:
    """A node whose memory this process may not use counts as one without memory."""
    folder = f"{_NODE}/node{number}"
    pages = _hugepages(listdir, f"{folder}/hugepages") if may_use_memory else {}
    return NumaNode(
        id=number,
        cpus=cpus[number],
        memory_bytes=_meminfo(text(read, f"{folder}/meminfo")) if may_use_memory else 0,
        distances=_distances(text(read, f"{folder}/distance"), tuple(cpus)),
        hugepages=_counts(read, pages, "free_hugepages"),
        hugepages_total=_counts(read, pages, "nr_hugepages"),
    )


def _distances(given: str, nodes: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """One column per *online* node, in their order: the columns have no holes where the numbers have."""
    columns = [int(word) for word in given.split() if word.isascii() and word.isdigit()]
    return tuple(zip(nodes, columns, strict=False)) if len(columns) == len(nodes) else ()


def _hugepages(listdir: ListDir, folder: str) -> dict[int, str]:
    """Page size in bytes → folder."""
    found = processors.names(listdir, folder, r"hugepages-(\d+)kB")
    return {number * _KIB: f"{folder}/{name}" for name, number in found}


def _counts(read: Read, folders: dict[int, str], name: str) -> tuple[tuple[int, int], ...]:
    counts = {size: text(read, f"{folder}/{name}").strip() for size, folder in folders.items()}
    return tuple((size, int(count)) for size, count in counts.items() if count.isascii() and count.isdigit())


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
    added later (seen: 4 GiB of 24). Where there are or could be others, nobody can say where the rest is, and it is
    left out.
    """
    with_memory = [node for node in nodes if node.memory_bytes]
    if len(nodes) != 1 or len(with_memory) != 1 or not total_bytes:
        return nodes
    return [replace(nodes[0], memory_bytes=total_bytes)]


def _withheld(
    read: Read,
    listdir: ListDir,
    listed: dict[int, tuple[int, ...]],
    online: frozenset[int],
    isolated: frozenset[int],
) -> tuple[Withheld, ...]:
    """`online` ones that jobs do not get, and those that are there but off."""
    present = numbers(read, f"{CPU}/present") or numbers(read, f"{CPU}/possible")
    running = frozenset(numbers(read, f"{CPU}/online"))
    node_of = {cpu: number for number, cpus in listed.items() for cpu in cpus}
    found = [
        Withheld(cpu, "isolated" if cpu in isolated else "outside", node_of.get(cpu, -1)) for cpu in sorted(online)
    ]
    off = sorted(frozenset(present) - running) if running else []
    last_seen = _node_links(listdir, listed) if off else {}  # sysfs keeps the link of a CPU that is off
    return (*found, *(Withheld(cpu, "offline", last_seen.get(cpu, -1)) for cpu in off))


def _node_links(listdir: ListDir, listed: dict[int, tuple[int, ...]]) -> dict[int, int]:
    """CPU → node, from the links below the nodes' folders."""
    links = {node: processors.names(listdir, f"{_NODE}/node{node}", r"cpu(\d+)") for node in listed}
    return {cpu: node for node, found in links.items() for _, cpu in found}


def _model(cpuinfo: str) -> str:
    match = re.search(r"^(?:model name|cpu model|cpu)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return " ".join(match[1].split()) if match else ""


def _allowed(read: Read, name: str) -> frozenset[int]:
    """A list of /proc/self/status; empty where the kernel does not say."""
    match = re.search(rf"^{name}:\s*(\S+)$", text(read, "/proc/self/status"), re.MULTILINE)
    return frozenset(parsed(match[1])) if match else frozenset()


def _meminfo(given: str) -> int:
    """MemTotal in bytes, of /proc/meminfo or of a node's meminfo; 0 where there is none."""
    match = re.search(r"MemTotal:\s*(\d+) kB", given)
    return int(match[1]) * _KIB if match else 0
