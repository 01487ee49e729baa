"""What this host can give and who holds it: CPUs, memory, huge pages, generic resources, published ports. Pure.

`Capacity` is fixed; `Ledger` is changed by `charge` and `release` with records, and by nothing else. Invariants:
a CPU is free, exclusively one job's, or shared by fractional jobs whose parts of it sum to at most 1000 thousandths;
on each memory node Σ reserved(running) + Σ resident(frozen) ≤ its memory; an instance of a generic resource is one
job's. A charge that breaks one raises.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jobs.host import Generic, NumaNode, Topology
from jobs.placement import Placement
from jobs.record import Record, State
from scheduler.cores import Core, Part, least_to_cover, parts_of

MILLI = 1000  # thousandths of a CPU: integers, because sums of floats drift
NOWHERE = -1  # the node of a CPU that a job has and this host no longer gives


class Overcommitted(AssertionError):
    """A charge would give something away twice. Always a bug of ours, never a user's."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """The topology less what the host keeps for itself. `memory[n]` in bytes, `pages[n, size]` in pages."""

    nodes: tuple[NumaNode, ...]
    node: Mapping[int, NumaNode]  # by id
    kinds: tuple[int, ...]  # of cores; 0 are the fastest
    kind_of: Mapping[int, int]  # CPU → kind
    parts: Mapping[int, tuple[Part, ...]]  # NUMA node → its parts
    core_of: Mapping[int, Core]  # CPU → all threads of its core
    part_of: Mapping[int, int]  # CPU → a number for its part
    memory: Mapping[int, int]
    pages: Mapping[tuple[int, int], int]
    node_of: Mapping[int, int]  # CPU → NUMA node
    distance: Mapping[tuple[int, int], int]
    nearest: Mapping[int, tuple[int, ...]]  # NUMA node → all nodes, itself first, then by distance
    sockets: Mapping[int, int]  # NUMA node → its sockets, one bit each
    node_id: str = ""
    max_jobs: int = 1000  # running or frozen at a time
    least_parts: tuple[int, ...] = (0,)  # at least so many parts for n CPUs
    least_cores: tuple[int, ...] = (0,)
    generic: Mapping[str, Generic] = field(default_factory=dict)
    apart: dict[tuple[int, ...], tuple[int, int]] = field(default_factory=dict, compare=False)  # allocate's memo

    @classmethod
    def of(cls, topology: Topology, *, reserve_bytes: int = 0, node_id: str = "", max_jobs: int = 1000) -> Capacity:
        """The reserve is taken from the nodes in proportion to their memory, rounded up. Huge pages are memory that
        nothing else can use, so they are taken off."""
        plain = {node.id: max(0, node.memory_bytes - sum(size * pages for size, pages in node.hugepages_total))
                 for node in topology.nodes}  # fmt: skip
        total = max(1, sum(plain.values()))
        kept = {node: -(-reserve_bytes * size // total) for node, size in plain.items()}
        ids = [node.id for node in topology.nodes]
        distance = {(node.id, other): far for node in topology.nodes for other, far in node.distances}
        parts = parts_of(topology)
        every = [part for node in sorted(parts) for part in parts[node]]
        return cls(
            nodes=tuple(sorted(topology.nodes, key=lambda node: node.id)),
            node={node.id: node for node in topology.nodes},
            kinds=tuple(sorted({part.kind for part in every})),
            kind_of={cpu: part.kind for part in every for cpu in part.cpus},
            parts=parts,
            core_of={cpu: core for part in every for core in part.cores for cpu in core},
            part_of={cpu: number for number, part in enumerate(every) for cpu in part.cpus},
            memory={node: max(0, size - kept[node]) for node, size in plain.items()},
            pages={(node.id, size): free for node in topology.nodes for size, free in node.hugepages},
            node_of={cpu: node.id for node in topology.nodes for cpu in node.cpus},
            distance=distance,
            sockets={
                node.id: sum(
                    1 << number
                    for number, package in enumerate(topology.packages)
                    if not set(package.cpus).isdisjoint(node.cpus)
                )
                for node in topology.nodes
            },
            nearest={
                one: tuple(sorted(ids, key=lambda other: (other != one, _far(distance, one, other), other)))
                for one in ids
            },
            node_id=node_id,
            max_jobs=max_jobs,
            least_parts=least_to_cover(len(part.cpus) for part in every),
            least_cores=least_to_cover(len(core) for part in every for core in part.cores),
            generic={item.name: item for item in topology.generic},
        )

    def far(self, one: int, other: int) -> int:
        """ACPI SLIT distance: 10 is local; 20 where the firmware says nothing (as Linux's REMOTE_DISTANCE)."""
        return _far(self.distance, one, other)

    def away(self, node: int, nodes: Iterable[int]) -> int:
        """Distance of a device's node from the nearest of these beyond a local one's; 0 where nobody says."""
        return 0 if node < 0 else min(self.far(node, other) for other in nodes) - self.far(node, node)

    @property
    def cpus(self) -> int:
        return len(self.node_of)


def _far(distance: Mapping[tuple[int, int], int], one: int, other: int) -> int:
    return distance.get((one, other), 10 if one == other else 20)


@dataclass(frozen=True, slots=True)
class Hold:
    """What one record holds now. Equal records have equal holds, so a charge can be undone from the record alone."""

    exclusive: tuple[int, ...] = ()
    shared: tuple[tuple[int, int], ...] = ()  # (CPU, thousandths of it)
    memory: tuple[tuple[int, int], ...] = ()
    growth: tuple[tuple[int, int], ...] = ()  # of a frozen job: what it may take again when it runs
    pages: tuple[tuple[int, int, int], ...] = ()
    ports: tuple[tuple[str, int], ...] = ()
    counts: bool = False  # against max_jobs
    generic: tuple[tuple[str, int], ...] = ()  # (name, instance)


NOTHING = Hold()


def hold_of(record: Record) -> Hold:
    """A frozen job keeps its resident memory, on each of its nodes at worst all of it, and the devices that it has
    open; ports stay until clean-up."""
    ports = ports_of(record) if record.attempt and not record.cleaned else ()
    home = record.home
    if not record.state.on_node or home is None:
        return Hold(ports=ports) if ports else NOTHING
    if record.state is not State.FROZEN:
        return hold_for(home, ports)
    cpus = hold_for(record.placement) if record.placement else NOTHING
    kept = [row for row in home.generic if row[0] not in home.given_back]
    resident = tuple((node, min(size, record.resident_bytes)) for node, size in home.memory)
    return Hold(
        exclusive=cpus.exclusive,
        shared=cpus.shared,
        memory=resident,
        growth=tuple((node, size - kept) for (node, size), (_, kept) in zip(home.memory, resident, strict=True)),
        pages=home.hugepages,
        ports=ports,
        counts=True,
        generic=cpus.generic or _each(kept),
    )


def ports_of(record: Record) -> tuple[tuple[str, int], ...]:
    """The host's ports that the job publishes, as (protocol, port)."""
    return tuple(sorted({(item.protocol, item.host_port) for item in record.spec.network.publish}))


def milli_each(shares: float, cpus: int) -> int:
    """Thousandths of each CPU, rounded up, so that the parts never add up to less than the shares."""
    return -(-milli(shares) // max(1, cpus))


def milli(shares: float) -> int:
    return max(1, round(shares * MILLI))


@dataclass(slots=True)
class Ledger:
    """Who holds what. `copy` before trying things out. A job's hold is charged whole and released whole."""

    capacity: Capacity
    holds: dict[int, Hold] = field(default_factory=dict)
    owner: dict[int, int] = field(default_factory=dict)  # exclusive CPU → job; idle threads of its cores too
    shared: dict[int, int] = field(default_factory=dict)  # CPU → thousandths given to fractional jobs
    memory: dict[int, int] = field(default_factory=dict)  # memory node → bytes held
    pages: dict[tuple[int, int], int] = field(default_factory=dict)
    growth: dict[int, dict[int, int]] = field(default_factory=dict)  # memory node → frozen job → bytes
    ports: dict[tuple[str, int], set[int]] = field(default_factory=dict)
    jobs: int = 0
    busy: dict[int, int] = field(default_factory=dict)  # NUMA node → its CPUs that are not free
    generic: dict[tuple[str, int], int] = field(default_factory=dict)  # (name, instance) → job
    generation: int = field(default=0, compare=False)  # grows whenever something is given back

    def copy(self) -> Ledger:
        return Ledger(
            self.capacity, dict(self.holds), dict(self.owner), dict(self.shared), dict(self.memory), dict(self.pages),
            {node: dict(jobs) for node, jobs in self.growth.items()},
            {port: set(jobs) for port, jobs in self.ports.items()}, self.jobs, dict(self.busy),
            dict(self.generic), self.generation,
        )  # fmt: skip

    # ── what is left ────────────────────────────────────────────────────────────────────────────────────────────

    def is_free(self, cpu: int) -> bool:
        return cpu not in self.owner and cpu not in self.shared

    def most_free_cpus(self) -> int:
        """CPUs that nobody has anything of; quick."""
        return self.capacity.cpus - sum(busy for node, busy in self.busy.items() if node != NOWHERE)

    def free_count(self, node: int) -> int:
        return len(self.capacity.node[node].cpus) - self.busy.get(node, 0)

    def milli_left(self, cpu: int) -> int:
        """Thousandths of a CPU that fractional jobs may still get there."""
        return 0 if cpu in self.owner else MILLI - self.shared.get(cpu, 0)

    def free_memory(self, node: int, *, headroom: bool) -> int:
        """Bytes. With `headroom`, less what the neediest frozen job needs there to come back: not for new work."""
        kept = max(self.growth.get(node, {}).values(), default=0) if headroom else 0
        return self.capacity.memory.get(node, 0) - self.memory.get(node, 0) - kept

    def free_pages(self, node: int, size: int) -> int:
        return self.capacity.pages.get((node, size), 0) - self.pages.get((node, size), 0)

    def refusal(self, placement: Placement) -> str:
        """Why the placement can't be given any more; "" when it can."""
        for cpu in (*placement.cpus, *placement.idle):
            if placement.exclusive and not self.is_free(cpu):
                return f"CPU {cpu} is not free"
            if not placement.exclusive and self.milli_left(cpu) < milli_each(placement.shares, len(placement.cpus)):
                return f"CPU {cpu} has not so much left"
        for node, size in placement.memory:
            if self.free_memory(node, headroom=False) < size:
                return f"memory node {node} has less than {size} bytes free"
        for node, size, pages in placement.hugepages:
            if self.free_pages(node, size) < pages:
                return f"memory node {node} has less than {pages} pages of {size} bytes free"
        for name, number in _each(placement.generic):
            if (name, number) in self.generic:
                return f"{name} {number} is not free"
        return ""

    # ── changes ─────────────────────────────────────────────────────────────────────────────────────────────────

    def charge(self, job: int, hold: Hold) -> None:
        """Raises Overcommitted, and changes nothing, when a CPU would belong to two jobs."""
        if job in self.holds:
            raise Overcommitted(f"job {job} holds something already")
        for cpu in hold.exclusive:
            if not self.is_free(cpu):
                raise Overcommitted(f"CPU {cpu} for job {job} is not free: {self.owner.get(cpu, 'shared')}")
        for cpu, part in hold.shared:
            if self.milli_left(cpu) < part:
                raise Overcommitted(f"CPU {cpu} has less than {part}/1000 left for job {job}")
        for name, number in hold.generic:
            if (name, number) in self.generic:
                raise Overcommitted(f"{name} {number} for job {job} is not free: {self.generic[name, number]}")
        self.holds[job] = hold
        self._add(hold, 1)
        self.owner.update(dict.fromkeys(hold.exclusive, job))
        self.generic.update(dict.fromkeys(hold.generic, job))
        for node, size in hold.growth:
            self.growth.setdefault(node, {})[job] = size
        for port in hold.ports:
            self.ports.setdefault(port, set()).add(job)

    def release(self, job: int) -> None:
        """Everything that the job holds; nothing when it holds nothing."""
        hold = self.holds.pop(job, None)
        if hold is None:
            return
        self.generation += 1
        self._add(hold, -1)
        for cpu in hold.exclusive:
            del self.owner[cpu]
        for instance in hold.generic:
            del self.generic[instance]
        for node, _ in hold.growth:
            del self.growth[node][job]
            if not self.growth[node]:
                del self.growth[node]
        for port in hold.ports:
            self.ports[port].discard(job)
            if not self.ports[port]:
                del self.ports[port]

    def _add(self, hold: Hold, sign: int) -> None:
        node_of = self.capacity.node_of
        for cpu in hold.exclusive:
            _sum(self.busy, node_of.get(cpu, NOWHERE), sign)
        for cpu, part in hold.shared:
            was = cpu in self.shared
            _sum(self.shared, cpu, sign * part)
            _sum(self.busy, node_of.get(cpu, NOWHERE), (cpu in self.shared) - was)
        for node, size in hold.memory:
            _sum(self.memory, node, sign * size)
        for node, size, pages in hold.pages:
            _sum(self.pages, (node, size), sign * pages)
        self.jobs += sign * hold.counts


def hold_for(placement: Placement, ports: tuple[tuple[str, int], ...] = ()) -> Hold:
    """Of a job that runs with this placement."""
    part = milli_each(placement.shares, len(placement.cpus))
    return Hold(
        exclusive=placement.cpus + placement.idle if placement.exclusive else (),
        shared=() if placement.exclusive else tuple((cpu, part) for cpu in placement.cpus),
        memory=placement.memory,
        pages=placement.hugepages,
        ports=ports,
        counts=True,
        generic=_each(placement.generic),
    )


def _each(given: Iterable[tuple[str, tuple[int, ...]]]) -> tuple[tuple[str, int], ...]:
    return tuple((name, number) for name, numbers in given for number in numbers)


def _sum(sums: dict[Any, int], key: Any, amount: int) -> None:
    total = sums.get(key, 0) + amount
    if total:
        sums[key] = total
    else:
        sums.pop(key, None)  # so that equal ledgers compare equal
