"""The placement algorithm: exact CPUs, memory and huge pages for one demand, or None. Pure.

Node sets are tried from few nodes to many; of those that fit, the one nearest to the generic resources (GPUs) wins,
then the nearest together, then the one on which the job has few last-level caches and few cores, then the one beside
which few GPUs are free, then the tightest (best fit), so that large free blocks stay whole. Which CPUs of a node:
scheduler/cores. Memory on several nodes is reserved by parts; the kernel keeps the sum (memory limit) and the
nodes (cpuset.mems), not the parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from itertools import combinations
from operator import or_

from jobs.placement import Placement
from scheduler.capacity import Capacity, Ledger
from scheduler.demand import Demand
from scheduler.offer import Offer

MOST_COMBINED = 8  # nodes; all 2^8 sets are tried, on larger hosts only each node with its nearest neighbours
MOST_RANKED = 8  # sets that fit, the nearest first, of which the best is taken on such a larger host


def allocate(ledger: Ledger, demand: Demand, *, headroom: bool = True, prefer: Iterable[int] = ()) -> Placement | None:
    """The best placement now. `prefer`: nodes that hold the job's pages already. Ports are not looked at here."""
    if demand.cpus > ledger.most_free_cpus():
        return None
    offer = Offer(ledger, demand, headroom)
    if demand.wide >= len(ledger.capacity.least_cores) or not offer.enough(tuple(ledger.capacity.node)):
        return None
    if not offer.has_generic():
        return None
    liked = frozenset(prefer)
    for sets in _sets_with_enough(offer):
        if (found := _best(offer, sets, liked)) is not None:
            return found
    return None


def fits(ledger: Ledger, demand: Demand, *, headroom: bool = True) -> bool:
    """Whether `allocate` would find a placement; without choosing one where the sums say it."""
    simple = demand.cpus and not (demand.whole_cores or demand.hugepages or demand.generic)
    if not simple:
        return allocate(ledger, demand, headroom=headroom) is not None
    if demand.cpus > ledger.most_free_cpus():
        return False
    if isinstance(demand.numa, str):
        return _has_memory(ledger, demand.memory_bytes, headroom=headroom)
    nodes = set(demand.numa)
    return nodes <= ledger.capacity.node.keys() and Offer(ledger, demand, headroom).enough(nodes)


def _has_memory(ledger: Ledger, wanted: int, *, headroom: bool) -> bool:
    for node in ledger.capacity.node:
        if wanted <= 0:
            break
        wanted -= max(0, ledger.free_memory(node, headroom=headroom))
    return wanted <= 0


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
            yield sorted({tuple(sorted(capacity.nearest[seed][:size])) for seed in ids})


def _sets_with_enough(offer: Offer) -> Iterator[list[tuple[int, ...]]]:
    """The groups of `node_sets` without what can't do; on large hosts by adding up along each node's neighbours."""
    capacity, demand = offer.ledger.capacity, offer.demand
    if len(capacity.nodes) <= MOST_COMBINED or demand.numa != "local":
        for sets in node_sets(capacity, demand.numa):
            if found := [nodes for nodes in sets if offer.enough(nodes)]:
                yield found
        return
    counts = {node: (offer.count(node), offer.memory(node)) for node in capacity.node}
    have = dict.fromkeys(capacity.node, (0, 0))
    for size in range(1, len(counts) + 1):
        good = set()
        for seed, (cpus, memory) in have.items():
            more, bytes_ = counts[capacity.nearest[seed][size - 1]]
            cpus, memory = have[seed] = cpus + more, memory + bytes_
            if cpus >= demand.cpus and memory >= demand.memory_bytes:
                good.add(tuple(sorted(capacity.nearest[seed][:size])))
        if good:
            yield sorted(good)


def _best(offer: Offer, sets: Iterable[tuple[int, ...]], liked: frozenset[int]) -> Placement | None:
    """Of the sets in one group. The cheap part of the rank orders them, so that the first that could not be better in
    the other part ends the search (a test compares with ranking them all)."""
    cheap = sorted((*_nearness(offer, nodes), nodes) for nodes in sets)
    most = MOST_RANKED if len(offer.ledger.capacity.nodes) > MOST_COMBINED else len(cheap)
    capacity, wide = offer.ledger.capacity, offer.demand.wide
    least_harm = (0, capacity.least_parts[wide], capacity.least_cores[wide], 0, 0)
    best: tuple[tuple[object, ...], Placement] | None = None
    for away, far, sockets, *left, nodes in cheap:
        placement = _on(offer, nodes)
        if placement is None:
            continue
        harm = _harm(offer, placement, liked)
        rank = (harm[0], away, far, sockets, *harm[1:], *left, nodes)
        if best is None or rank < best[0]:
            best = rank, placement
        most -= 1
        if harm == least_harm or not most:
            break
    return best[1] if best else None


def _nearness(offer: Offer, nodes: tuple[int, ...]) -> tuple[int, int, int, int, int, int]:
    """Smaller is better: near to its devices, near together, on few sockets, few devices, CPUs and bytes beside it."""
    ledger, capacity = offer.ledger, offer.ledger.capacity
    return (
        offer.away(nodes),
        *_apart(capacity, nodes),
        offer.beside(nodes),
        sum(map(offer.count, nodes)),
        sum(ledger.free_memory(node, headroom=False) for node in nodes),
    )


def _apart(capacity: Capacity, nodes: tuple[int, ...]) -> tuple[int, int]:
    """(distances between the nodes, sockets)"""
    known = capacity.apart.get(nodes)
    if known is None:
        known = capacity.apart[nodes] = (
            sum(capacity.far(one, other) for one, other in combinations(nodes, 2)),
            reduce(or_, map(capacity.sockets.__getitem__, nodes)).bit_count(),
        )
    return known


def _harm(offer: Offer, placement: Placement, liked: frozenset[int]) -> tuple[int, int, int, int, int]:
    """Smaller is better: pages stay, few caches, few cores, no free CPU opened for a fraction, no free core broken."""
    ledger, capacity = offer.ledger, offer.ledger.capacity
    cores = {capacity.core_of[cpu] for cpu in placement.cpus}
    taken = {*placement.cpus, *placement.idle}
    return (
        len(set(placement.mems) - liked) if liked else 0,
        len({capacity.part_of[cpu] for cpu in placement.cpus}),
        len(cores),
        0 if placement.exclusive else sum(map(ledger.is_free, placement.cpus)),
        sum(len(core) > 1 and not taken.issuperset(core) and all(map(ledger.is_free, core)) for core in cores),
    )


def _on(offer: Offer, nodes: tuple[int, ...]) -> Placement | None:
    demand, ledger = offer.demand, offer.ledger
    picked = offer.cpus(nodes)
    if picked is None:
        return None
    pages = _pages(ledger, demand, nodes)
    memory = _memory(offer, nodes, picked.cpus)
    if pages is None or memory is None:
        return None
    mems = {node for node, _ in memory} | {node for node, _, _ in pages}
    generic = offer.generic(nodes)
    return Placement(
        node_id=ledger.capacity.node_id,
        cpus=tuple(sorted(picked.cpus)),
        mems=tuple(sorted(mems or {ledger.capacity.node_of[cpu] for cpu in picked.cpus})),
        exclusive=bool(demand.cpus),
        shares=demand.shares,
        memory_bytes=demand.memory_bytes,
        memory=memory,
        hugepages=pages,
        idle=tuple(sorted(picked.idle)),
        generic=tuple(sorted((*demand.kept, *generic.items()))),
        given_back=tuple(name for name in generic if ledger.capacity.generic[name].release_when_frozen),
        devices=(*demand.devices, *_devices(ledger.capacity, generic)),
        variant=demand.variant,
    )


def _devices(capacity: Capacity, generic: Mapping[str, tuple[int, ...]]) -> Iterable[str]:
    """Each once: instances may share a control node."""
    return dict.fromkeys(
        path
        for name, numbers in generic.items()
        for number in numbers
        for path in capacity.generic[name].instances[number].devices
    )


# ── memory ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _memory(offer: Offer, nodes: tuple[int, ...], cpus: Sequence[int]) -> tuple[tuple[int, int], ...] | None:
    """Parts in proportion to the CPUs on each node, the rest wherever there is room. Even ones on an explicit list, and
    for a spread job, whose pages go round the nodes on which it has CPUs (`Interleave` in runtime/steps).
    """
    ledger, demand = offer.ledger, offer.demand
    free = {node: offer.memory(node) for node in nodes}
    if sum(free.values()) < demand.memory_bytes:
        return None
    weight = dict.fromkeys(nodes, 0)
    for cpu in cpus:
        node = ledger.capacity.node_of[cpu]
        weight[node] = 1 if demand.numa == "spread" else weight[node] + 1
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
