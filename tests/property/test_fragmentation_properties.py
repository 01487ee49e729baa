"""No fragmentation: of choices that are equally good for the job, none leaves larger free blocks. By brute force."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.host import Cache, NumaNode, Topology
from jobs.placement import Placement
from scheduler.allocate import allocate
from scheduler.capacity import Capacity, Hold, Ledger
from scheduler.demand import demand_of
from tests.builders import GIB, a_job

MOST_CPUS = 12


@st.composite
def hosts(draw: Any) -> Topology:
    """At most two nodes of at most three caches of at most three cores of one size."""
    threads = draw(st.sampled_from([1, 2]))
    cpu, nodes, siblings, caches = 0, [], [], []
    for node in range(draw(st.integers(1, 2))):
        first = cpu
        for _ in range(draw(st.integers(1, 3))):
            start = cpu
            for _ in range(draw(st.integers(1, 3))):
                if cpu + threads <= MOST_CPUS:
                    siblings.append(tuple(range(cpu, cpu + threads)))
                    cpu += threads
            if cpu > start:
                caches.append(Cache(3, "unified", 1 << 20, tuple(range(start, cpu))))
        if cpu > first:
            far = tuple((other, 10 if other == node else 20) for other in range(2))
            nodes.append(NumaNode(node, tuple(range(first, cpu)), GIB, far))
    return Topology(tuple(nodes), tuple(siblings), tuple(caches))


def blocks(capacity: Capacity, free: frozenset[int]) -> tuple[int, ...]:
    """The largest demands that still fit: on one node, under one cache, each on shared and on whole cores; and the free
    cores that nobody has a thread of."""
    whole = frozenset(cpu for cpu in free if free.issuperset(capacity.core_of[cpu]))
    found = []
    for cpus in (whole, free):
        for group in (capacity.part_of, capacity.node_of):
            counts: dict[int, int] = {}
            for cpu in cpus:
                counts[group[cpu]] = counts.get(group[cpu], 0) + 1
            found.append(max(counts.values(), default=0))
    return (*found, len({capacity.core_of[cpu] for cpu in whole}))


def cost(capacity: Capacity, cpus: Iterable[int]) -> tuple[int, ...]:
    """What the job itself has of it: nodes, caches, cores."""
    return tuple(len({group[cpu] for cpu in cpus}) for group in (capacity.node_of, capacity.part_of, capacity.core_of))


@dataclass
class Case:
    """A host of which something is taken, and a choice made there."""

    capacity: Capacity
    free: frozenset[int]
    placement: Placement

    def left(self, cpus: tuple[int, ...]) -> frozenset[int]:
        return self.free.difference(cpus)

    def equal_choices(self) -> Iterator[tuple[int, ...]]:
        mine = cost(self.capacity, self.placement.cpus)
        every = combinations(sorted(self.free), len(self.placement.cpus))
        return (cpus for cpus in every if cost(self.capacity, cpus) == mine)

    def nodes(self, cpus: Iterable[int]) -> set[int]:
        return {self.capacity.node_of[cpu] for cpu in cpus}


@st.composite
def cases(draw: Any) -> Case:
    capacity = Capacity.of(draw(hosts()))
    ledger = Ledger(capacity)
    taken = draw(st.sets(st.sampled_from(sorted(capacity.node_of)), max_size=len(capacity.node_of) - 1))
    ledger.charge(1, Hold(exclusive=tuple(sorted(taken))))
    wanted = draw(st.integers(1, min(5, len(capacity.node_of) - len(taken))))
    placement = allocate(ledger, demand_of(a_job(cpus=wanted, memory=1)))
    assert placement is not None
    return Case(capacity, frozenset(filter(ledger.is_free, capacity.node_of)), placement)


@settings(max_examples=300, deadline=None)
@given(cases())
def test_no_equal_choice_on_the_same_node_leaves_larger_blocks(case: Case) -> None:
    """Of a job that fits under one cache: one that needs several takes the emptiest whole."""
    mine, where = case.placement.cpus, case.nodes(case.placement.cpus)
    if cost(case.capacity, mine)[1] > 1:
        return
    left = blocks(case.capacity, case.left(mine))
    for cpus in case.equal_choices():
        if case.nodes(cpus) != where:
            continue
        other = blocks(case.capacity, case.left(cpus))
        beaten = other != left and all(theirs >= ours for theirs, ours in zip(other, left, strict=True))
        assert not beaten, f"{cpus} would leave {other}, {mine} leaves {left}"


@settings(max_examples=300, deadline=None)
@given(cases())
def test_no_equal_choice_leaves_a_larger_node(case: Case) -> None:
    """Of choices that break as few free cores."""
    mine = case.placement.cpus
    cores, largest = cores_and_nodes(case, mine)
    for cpus in case.equal_choices():
        others_cores, other = cores_and_nodes(case, cpus)
        assert others_cores != cores or other <= largest, f"{cpus} would leave {other}, {mine} leaves {largest}"


def cores_and_nodes(case: Case, cpus: tuple[int, ...]) -> tuple[int, list[int]]:
    """Free cores that nobody has a thread of, and free CPUs of each node, the most first."""
    left = case.left(cpus)
    *_, cores = blocks(case.capacity, left)
    return cores, sorted((len(left.intersection(node.cpus)) for node in case.capacity.nodes), reverse=True)
