"""The placement algorithm: exact CPUs, memory and huge pages for one demand, or None. Pure.

Node sets are tried from few nodes to many; of those that fit, the nearest and then the tightest wins (best fit), so
that large free blocks stay whole. Memory on several nodes is reserved by parts; the kernel keeps the sum (memory
limit) and the nodes (cpuset.mems), not the parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import ceil

from jobs.placement import Placement
from jobs.record import Record
from jobs.spec import JobSpec
from scheduler.capacity import MILLI, Capacity, Hold, Ledger, milli, milli_each

MOST_COMBINED = 8  # nodes; all 2^8 sets are tried, on larger hosts only each node with its nearest neighbours


@dataclass(frozen=True, slots=True)
class Demand:
    """What a job needs from a host: equal demands fit or fail together, so queued jobs are grouped by it."""

    cpus: int  # whole and exclusive; 0 for a fractional request
    shares: float  # CPUs, for a fractional request; else 0
    memory_bytes: int
    hugepages: tuple[tuple[int, int], ...] = ()  # (page size in bytes, pages)
    numa: str | tuple[int, ...] = "local"
    ports: tuple[tuple[str, int], ...] = ()

    @property
    def wide(self) -> int:
        """Different CPUs needed."""
        return self.cpus or ceil(milli(self.shares) / MILLI)

    @property
    def milli_each(self) -> int:
        return milli_each(self.shares, self.wide)


def demand_of(spec: JobSpec) -> Demand:
    wanted = spec.resources
    return Demand(
        cpus=int(wanted.cpus) if wanted.whole_cpus else 0,
        shares=0.0 if wanted.whole_cpus else wanted.cpus,
        memory_bytes=wanted.memory_bytes,
        hugepages=tuple(sorted((size, pages) for size, pages in wanted.hugepages if pages)),
        numa=spec.numa,
        ports=tuple(sorted({(item.protocol, item.host_port) for item in spec.network.publish})),
    )


def thaw_demand(record: Record) -> Demand:
    """Of a frozen job. Its huge pages can't move (they are reserved, not migrated), so they pin it to their nodes."""
    demand, home = demand_of(record.spec), record.home
    pinned = home is not None and bool(demand.hugepages)
    return Demand(demand.cpus, demand.shares, demand.memory_bytes, demand.hugepages,
                  home.mems if pinned and home else demand.numa)  # fmt: skip


def allocate(ledger: Ledger, demand: Demand, *, headroom: bool = True, prefer: Iterable[int] = ()) -> Placement | None:
    """The best placement now. `prefer`: nodes that hold the job's pages already. Ports are not looked at here."""
    liked = frozenset(prefer)
    for sets in node_sets(ledger.capacity, demand.numa):
        found = [
            (_rank(ledger, nodes, placement, liked), placement)
            for nodes in sets
            if (placement := _on(ledger, demand, nodes, headroom)) is not None
        ]
        if found:
            return min(found, key=lambda pair: pair[0])[1]
    return None


def node_sets(capacity: Capacity, numa: str | tuple[int, ...]) -> Iterator[list[tuple[int, ...]]]:
    """Sets of nodes to try, in groups; within a group the best wins, an earlier group beats a later one."""
    ids = [node.id for node in capacity.nodes]
    if not isinstance(numa, str):
        if set(numa) <= set(ids):
            yield [tuple(sorted(set(numa)))]
        return
    if numa != "local":
        yield [tuple(ids)]
        return
    for size in range(1, len(ids) + 1):
        if len(ids) <= MOST_COMBINED:
            yield list(combinations(ids, size))
        else:
            yield sorted({_nearest(capacity, ids, seed, size) for seed in ids})


def _nearest(capacity: Capacity, ids: Sequence[int], seed: int, size: int) -> tuple[int, ...]:
    return tuple(sorted(sorted(ids, key=lambda other: (capacity.far(seed, other), other))[:size]))


def _rank(ledger: Ledger, nodes: tuple[int, ...], placement: Placement, liked: frozenset[int]) -> tuple[object, ...]:
    """Smaller is better: pages stay, near, no free CPU opened for a fraction, few CPUs and bytes left beside it."""
    far = ledger.capacity.far
    return (
        len(set(placement.mems) - liked) if liked else 0,
        sum(far(one, other) for one, other in combinations(nodes, 2)),
        sum(ledger.is_free(cpu) for cpu in placement.cpus),
        sum(len(ledger.free_cpus(node)) for node in ledger.capacity.nodes if node.id in nodes),
        sum(ledger.free_memory(node, headroom=False) for node in nodes),
        nodes,
    )


def _on(ledger: Ledger, demand: Demand, nodes: tuple[int, ...], headroom: bool) -> Placement | None:
    cpus = _cpus(ledger, demand, nodes)
    if len(cpus) < demand.wide:
        return None
    pages = _pages(ledger, demand, nodes)
    memory = _memory(ledger, demand, nodes, cpus, headroom)
    if pages is None or memory is None:
        return None
    mems = {node for node, _ in memory} | {node for node, _, _ in pages}
    return Placement(
        node_id=ledger.capacity.node_id,
        cpus=tuple(sorted(cpus)),
        mems=tuple(sorted(mems or {ledger.capacity.node_of[cpu] for cpu in cpus})),
        exclusive=bool(demand.cpus),
        shares=demand.shares,
        memory_bytes=demand.memory_bytes,
        memory=memory,
        hugepages=pages,
    )


# ── CPUs ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _cpus(ledger: Ledger, demand: Demand, nodes: tuple[int, ...]) -> list[int]:
    """At most `demand.wide` CPUs of these nodes; fewer when there are not enough."""
    usable = {
        node.id: ledger.free_cpus(node) if demand.cpus else _shareable(ledger, node.cpus, demand.milli_each)
        for node in ledger.capacity.nodes
        if node.id in nodes
    }
    if demand.numa == "spread":
        counts = _level({node: len(found) for node, found in usable.items()}, demand.wide)
    else:
        counts = _fill({node: len(found) for node, found in usable.items()}, demand.wide)
    pick = _whole_cores_first if demand.cpus else _in_order
    return [cpu for node, count in counts.items() for cpu in pick(usable[node], count, ledger.capacity.siblings)]


def _shareable(ledger: Ledger, cpus: Iterable[int], each: int) -> list[int]:
    """CPUs with room for a fraction, the fullest first, so that free ones stay free."""
    roomy = [(ledger.milli_left(cpu), cpu) for cpu in cpus]
    return [cpu for left, cpu in sorted(roomy) if left >= each]


def _fill(free: dict[int, int], wanted: int) -> dict[int, int]:
    """Node → CPUs: one node if one suffices (the tightest), else the emptiest nodes first, so that few are used."""
    enough = [(count, node) for node, count in free.items() if count >= wanted]
    if enough:
        return {min(enough)[1]: wanted}
    counts: dict[int, int] = {}
    for node, count in sorted(free.items(), key=lambda item: (-item[1], item[0])):
        counts[node] = min(count, wanted - sum(counts.values()))
    return counts


def _level(free: dict[int, int], wanted: int) -> dict[int, int]:
    """Node → CPUs, as even as what is free allows."""
    counts = dict.fromkeys(free, 0)
    for _ in range(min(wanted, sum(free.values()))):
        node = min((node for node in free if counts[node] < free[node]), key=lambda node: (counts[node], node))
        counts[node] += 1
    return counts


def _in_order(cpus: Sequence[int], count: int, siblings: Sequence[tuple[int, ...]]) -> Sequence[int]:
    return cpus[:count]


def _whole_cores_first(cpus: Sequence[int], count: int, siblings: Sequence[tuple[int, ...]]) -> Sequence[int]:
    """Whole free cores for as long as one is needed whole; the rest from cores that are broken already."""
    free = set(cpus)
    grouped = {cpu for group in siblings for cpu in group}
    cores = [tuple(sorted(free.intersection(group))) for group in siblings] + [(cpu,) for cpu in free - grouped]
    size = max((len(group) for group in siblings), default=1)
    whole = sorted(core for core in cores if len(core) == size)
    broken = sorted((core for core in cores if 0 < len(core) < size), key=lambda core: (len(core), core))
    taken: list[int] = []
    while whole and count - len(taken) >= size:
        taken += whole.pop(0)
    for core in [*broken, *whole]:
        taken += core[: count - len(taken)]
    return taken


# ── memory ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _memory(
    ledger: Ledger, demand: Demand, nodes: tuple[int, ...], cpus: Sequence[int], headroom: bool
) -> tuple[tuple[int, int], ...] | None:
    """Parts in proportion to the CPUs on each node (evenly on an explicit list), the rest wherever there is room."""
    free = {node: max(0, ledger.free_memory(node, headroom=headroom)) for node in nodes}
    if sum(free.values()) < demand.memory_bytes:
        return None
    weight = dict.fromkeys(nodes, 0)
    for cpu in cpus:
        weight[ledger.capacity.node_of[cpu]] += 1
    if not isinstance(demand.numa, str):
        weight = dict.fromkeys(nodes, 1)
    total = sum(weight.values())
    parts = {node: min(free[node], demand.memory_bytes * weight[node] // total) for node in nodes}
    for node in sorted(nodes, key=lambda node: (-weight[node], -free[node], node)):
        parts[node] += min(free[node] - parts[node], demand.memory_bytes - sum(parts.values()))
    return tuple((node, size) for node, size in sorted(parts.items()) if size)


def _pages(ledger: Ledger, demand: Demand, nodes: tuple[int, ...]) -> tuple[tuple[int, int, int], ...] | None:
    found: list[tuple[int, int, int]] = []
    for size, wanted in demand.hugepages:
        for node in sorted(nodes, key=lambda node: (-ledger.free_pages(node, size), node)):
            take = min(wanted, max(0, ledger.free_pages(node, size)))
            if take:
                found.append((node, size, take))
                wanted -= take
        if wanted:
            return None
    return tuple(sorted(found))


# ── keeping room for the one that waits longest ─────────────────────────────────────────────────────────────────────


def earmark(ledger: Ledger, job: int, demand: Demand) -> None:
    """Takes out of a scratch ledger what is free where `job` will run, so that later jobs leave it alone.

    The set of nodes that lacks least is chosen, and on it the emptiest CPUs: partly used ones are closed for newcomers
    too, or they would never be empty. What is earmarked only grows from round to round, as running jobs end, so the
    job's turn comes. Charged to -job, beside what a frozen job holds already.
    """
    empty = Ledger(ledger.capacity)
    options = [nodes for sets in node_sets(ledger.capacity, demand.numa) for nodes in sets
               if _on(empty, demand, nodes, False) is not None]  # fmt: skip
    if not options:
        return
    nodes = min(options, key=lambda nodes: (_lack(ledger, demand, nodes), len(nodes), nodes))
    missing = demand.memory_bytes
    memory = []
    for node in nodes:
        part = min(missing, max(0, ledger.free_memory(node, headroom=False)))
        missing -= part
        memory.append((node, part))
    pages = []
    for size, wanted in demand.hugepages:
        for node in nodes:
            take = min(wanted, max(0, ledger.free_pages(node, size)))
            wanted -= take
            pages.append((node, size, take))
    cpus = tuple((cpu, part) for part, cpu in _emptiest(ledger, demand, nodes) if part)
    ledger.charge(-job, Hold(shared=cpus, memory=tuple(memory), pages=tuple(pages)))


def _emptiest(ledger: Ledger, demand: Demand, nodes: tuple[int, ...]) -> list[tuple[int, int]]:
    """(thousandths that are free and wanted, CPU): as many CPUs as the demand is wide."""
    each = MILLI if demand.cpus else demand.milli_each
    cpus = [cpu for node in ledger.capacity.nodes if node.id in nodes for cpu in node.cpus]
    free = sorted(((min(each, ledger.milli_left(cpu)), cpu) for cpu in cpus), key=lambda pair: (-pair[0], pair[1]))
    return free[: demand.wide]


def _lack(ledger: Ledger, demand: Demand, nodes: tuple[int, ...]) -> float:
    """The missing fractions of CPUs and memory, added."""
    each = MILLI if demand.cpus else demand.milli_each
    cpus = sum(part for part, _ in _emptiest(ledger, demand, nodes)) / (each * demand.wide)
    free = sum(max(0, ledger.free_memory(node, headroom=False)) for node in nodes)
    return 1 - cpus + max(0, demand.memory_bytes - free) / max(1, demand.memory_bytes)
