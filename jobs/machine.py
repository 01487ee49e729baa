"""A host as one draws it: blocks of sockets ▸ memory nodes ▸ parts under one cache ▸ cores ▸ threads, with jobs. Pure.

Made of a Topology and of what jobs hold; jobs/topology_text and jobs/topology_svg draw it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from jobs.host import Cache, Generic, NumaNode, Topology, topology_from_json
from jobs.protocol import Machine, Placed

Use = Literal["free", "given", "shared", "idle", "offline", "isolated", "outside"]


@dataclass(frozen=True, slots=True)
class Thread:
    """`holders`: places in `View.placed`. One for given and idle; for shared those that run there by turns."""

    cpu: int
    use: Use
    holders: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """Cores of one kind under one last-level cache."""

    kind: str
    cache: Cache | None
    cores: tuple[tuple[Thread, ...], ...]

    @property
    def cpus(self) -> tuple[int, ...]:
        return tuple(thread.cpu for core in self.cores for thread in core)


@dataclass(frozen=True, slots=True)
class Node:
    """`held`: (place in `View.placed`, bytes). `for_jobs_bytes` is -1 where no daemon tells."""

    id: int  # -1: CPUs of which nobody says where they are
    memory_bytes: int
    parts: tuple[Part, ...]
    hugepages: tuple[tuple[int, int, int], ...] = ()  # (page size in bytes, pages, free)
    for_jobs_bytes: int = -1
    held: tuple[tuple[int, int], ...] = ()

    @property
    def given_bytes(self) -> int:
        return sum(size for _, size in self.held)


@dataclass(frozen=True, slots=True)
class Block:
    """Nodes of one socket; of several where a node lies in more than one; of none where nodes have no CPUs."""

    sockets: tuple[int, ...]
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Resource:
    """A generic resource. `where`: (memory node, instances there); -1: no node."""

    name: str
    total: int
    free: int
    where: tuple[tuple[int, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class View:
    title: str
    model: str
    blocks: tuple[Block, ...]
    placed: tuple[Placed, ...]
    # (node, its distances to all of these in order); () where all others are equally far, or nobody says
    distances: tuple[tuple[int, tuple[int, ...]], ...] = ()
    generic: tuple[Resource, ...] = ()

    @property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(node for block in self.blocks for node in block.nodes)


def view_of(machine: Machine) -> View:
    topology = topology_from_json(machine.topology)
    threads = _threads(topology, machine.placed)
    nodes = _nodes(topology, machine, threads)
    return View(
        title=machine.node_id or "this machine",
        model=topology.model,
        blocks=_blocks(topology, nodes),
        placed=machine.placed,
        distances=_distances(topology.nodes),
        generic=tuple(_resource(item, machine.placed) for item in topology.generic),
    )


def _resource(item: Generic, placed: Iterable[Placed]) -> Resource:
    given = {number for job in placed for name, numbers in job.generic if name == item.name for number in numbers}
    where: dict[int, list[int]] = {}
    for number, instance in enumerate(item.instances):
        if instance.there:
            where.setdefault(instance.node, []).append(number)
    there = {number for numbers in where.values() for number in numbers}
    rows = tuple((node, tuple(numbers)) for node, numbers in sorted(where.items()))
    return Resource(item.name, len(there), len(there - given), rows)


def bare(topology: Topology, title: str = "") -> Machine:
    """A machine without a daemon: nothing is given."""
    return Machine(node_id=title, topology=asdict(topology))


def _threads(topology: Topology, placed: Iterable[Placed]) -> dict[int, Thread]:
    found = {cpu: Thread(cpu, "free") for cpu in topology.cpus}
    found |= {item.cpu: Thread(item.cpu, item.why) for item in topology.withheld}
    for number, job in enumerate(placed):
        for cpu in job.cpus:
            before = found.get(cpu)
            sharing = before.holders if before and before.use == "shared" else ()
            found[cpu] = Thread(cpu, "given" if job.exclusive else "shared", (*sharing, number))
        found |= {cpu: Thread(cpu, "idle", (number,)) for cpu in job.idle}
    return found


def _nodes(topology: Topology, machine: Machine, threads: dict[int, Thread]) -> list[Node]:
    """Those that jobs may use; then those of which they may use nothing; then number -1 for CPUs of unknown place."""
    node_of = {item.cpu: item.node for item in topology.withheld}
    node_of |= {cpu: node.id for node in topology.nodes for cpu in node.cpus}
    inside: dict[int, list[int]] = {node.id: [] for node in topology.nodes}
    for cpu in sorted(threads):
        inside.setdefault(node_of.get(cpu, -1), []).append(cpu)
    known = {node.id: node for node in topology.nodes}
    memory = {item.node: item for item in machine.memory}
    held: dict[int, list[tuple[int, int]]] = {}
    for number, job in enumerate(machine.placed):
        for node, size in job.memory:
            held.setdefault(node, []).append((number, size))
    return [
        _node(known.get(number, NumaNode(number, (), 0)), _parts(topology, cpus, threads),
              memory[number].for_jobs_bytes if number in memory else -1, tuple(held.get(number, ())))
        for number, cpus in sorted(inside.items(), key=lambda item: (item[0] < 0, item[0]))
    ]  # fmt: skip


def _node(node: NumaNode, parts: tuple[Part, ...], for_jobs_bytes: int, held: tuple[tuple[int, int], ...]) -> Node:
    free = dict(node.hugepages)
    pages = tuple((size, total, free.get(size, 0)) for size, total in node.hugepages_total if total)
    return Node(node.id, node.memory_bytes, parts, pages, for_jobs_bytes, held)


def _parts(topology: Topology, cpus: list[int], threads: dict[int, Thread]) -> tuple[Part, ...]:
    cache_of, kind_of = topology.last_cache_of(), topology.kind_of()
    core_of = {cpu: group[0] for group in topology.siblings for cpu in group}
    parts: dict[tuple[int, int], dict[int, list[Thread]]] = {}
    for cpu in cpus:
        first = core_of.get(cpu, cpu)
        nothing_known = threads[cpu].use == "offline"  # sysfs tells nothing of a CPU that is off
        key = (-1, -1) if nothing_known else (kind_of.get(first, -1), cache_of.get(first, -1))
        parts.setdefault(key, {}).setdefault(first, []).append(threads[cpu])
    return tuple(
        Part(
            kind=topology.kinds[kind].name if kind >= 0 else "",
            cache=topology.caches[cache] if cache >= 0 else None,
            cores=tuple(tuple(core) for _, core in sorted(cores.items())),
        )
        for (kind, cache), cores in sorted(parts.items(), key=lambda item: (item[0] == (-1, -1), item[0]))
    )


def _blocks(topology: Topology, nodes: list[Node]) -> tuple[Block, ...]:
    """Sockets that share a node are drawn as one block."""
    socket_of = {cpu: package.id for package in topology.packages for cpu in package.cpus}
    blocks: list[tuple[set[int], list[Node]]] = []
    for node in nodes:
        sockets = {socket_of[cpu] for part in node.parts for cpu in part.cpus if cpu in socket_of}
        same = next((block for block in blocks if (block[0] & sockets) or (not block[0] and not sockets)), None)
        if same is None:
            blocks.append((sockets, [node]))
        else:
            same[0].update(sockets)
            same[1].append(node)
    ordered = sorted(blocks, key=lambda block: (not block[0], sorted(block[0])))
    return tuple(Block(tuple(sorted(sockets)), tuple(inside)) for sockets, inside in ordered)


def _distances(nodes: tuple[NumaNode, ...]) -> tuple[tuple[int, tuple[int, ...]], ...]:
    far = {node.id: dict(node.distances) for node in nodes}
    others = {far[one].get(other, 0) for one in far for other in far if one != other}
    rows = ((one, tuple(far[one].get(other, 0) for other in far)) for one in far)
    return tuple(rows) if len(others) > 1 else ()
