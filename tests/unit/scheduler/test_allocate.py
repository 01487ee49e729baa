"""Which CPUs and memory nodes a job gets, by example."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from jobs.host import Package, Topology
from jobs.placement import Placement
from scheduler.allocate import allocate
from scheduler.capacity import Capacity, Hold, Ledger, hold_for
from scheduler.demand import demand_of
from scheduler.earmark import keep
from tests.builders import GIB, MIB, a_capacity, a_host, a_job, a_placement


def a_ledger(*busy: int, memory: dict[int, int] | None = None, **host: Any) -> Ledger:
    """`busy` CPUs belong to other jobs; `memory` bytes are taken on each node."""
    ledger = Ledger(a_capacity(**host))
    for cpu in busy:
        ledger.charge(1000 + cpu, hold_for(Placement("test", (cpu,), (0,), True)))
    for node, size in (memory or {}).items():
        ledger.charge(2000 + node, hold_for(Placement("test", (), (node,), True, memory=((node, size),))))
    return ledger


def place(ledger: Ledger, *, prefer: Iterable[int] = (), **job: Any) -> Placement | None:
    return allocate(ledger, demand_of(a_job(**job)), prefer=prefer)


def cpus(ledger: Ledger, **job: Any) -> tuple[int, ...] | None:
    placement = place(ledger, **job)
    return placement.cpus if placement else None


# ── local ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_job_stays_on_one_node_when_one_has_room() -> None:
    placement = place(a_ledger(0, nodes=2, cpus_per_node=4), cpus=4, memory=GIB)
    assert placement is not None
    assert (placement.cpus, placement.mems, placement.memory) == ((4, 5, 6, 7), (1,), ((1, GIB),))


def test_the_tightest_node_is_taken_so_that_large_blocks_stay() -> None:
    assert cpus(a_ledger(0, 1, nodes=2, cpus_per_node=4), cpus=2) == (2, 3)


def test_memory_decides_too() -> None:
    ledger = a_ledger(memory={0: 7 * GIB}, nodes=2, cpus_per_node=4, memory_per_node=8 * GIB)
    assert cpus(ledger, cpus=1, memory=2 * GIB) == (4,)
    assert cpus(ledger, cpus=1, memory=1 * GIB) == (0,), "of equal CPUs, the one with less memory left"


def test_two_nodes_only_when_one_does_not_do() -> None:
    placement = place(a_ledger(0, 4, nodes=2, cpus_per_node=4), cpus=6, memory=6 * GIB)
    assert placement is not None
    assert placement.cpus == (1, 2, 3, 5, 6, 7)
    assert placement.memory == ((0, 3 * GIB), (1, 3 * GIB))


def test_near_nodes_before_far_ones() -> None:
    near = {(0, 3): 12, (3, 0): 12}
    nodes = tuple(
        replace(node, distances=tuple((other, near.get((node.id, other), far)) for other, far in node.distances))
        for node in a_host(nodes=4, cpus_per_node=2).nodes
    )
    ledger = Ledger(Capacity.of(Topology(nodes)))
    placement = allocate(ledger, demand_of(a_job(cpus=4)))
    assert placement is not None and placement.cpus == (0, 1, 6, 7)


def test_of_equally_near_nodes_those_of_one_socket() -> None:
    host = a_host(nodes=4, cpus_per_node=2)
    sockets = (Package(0, (0, 1, 6, 7)), Package(1, (2, 3, 4, 5)))
    placement = allocate(Ledger(Capacity.of(replace(host, packages=sockets))), demand_of(a_job(cpus=4)))
    assert placement is not None and placement.cpus == (0, 1, 6, 7)


def test_on_large_hosts_each_node_with_its_neighbours_is_tried() -> None:
    ledger = a_ledger(*range(0, 24, 2), nodes=12, cpus_per_node=2)
    assert len(cpus(ledger, cpus=5) or ()) == 5


def test_memory_of_a_node_without_cpus_is_used_last() -> None:
    ledger = a_ledger(nodes=1, cpus_per_node=2, memory_per_node=2 * GIB, memory_only=1)
    small, large = place(ledger, memory=GIB), place(ledger, memory=3 * GIB)
    assert small is not None and small.mems == (0,)
    assert large is not None and large.memory == ((0, 2 * GIB), (1, GIB))


def test_pages_that_are_there_already_attract() -> None:
    ledger = a_ledger(4, 5, nodes=2, cpus_per_node=4)
    assert cpus(ledger, cpus=2) == (6, 7)
    placement = place(ledger, cpus=2, prefer=(0,))
    assert placement is not None and placement.mems == (0,)


# ── the other policies ──────────────────────────────────────────────────────────────────────────────────────────────


def test_spread_is_even() -> None:
    placement = place(a_ledger(nodes=2, cpus_per_node=4), cpus=4, memory=2 * GIB, numa="spread")
    assert placement is not None
    assert (placement.cpus, placement.memory) == ((0, 1, 4, 5), ((0, GIB), (1, GIB)))


def test_the_memory_of_a_spread_job_is_even_where_its_cpus_are() -> None:
    """Its pages go round the nodes; a reservation by CPUs would be wrong."""
    placement = place(a_ledger(nodes=4, cpus_per_node=4), cpus=3, memory=3 * GIB, numa="spread")
    assert placement is not None
    assert (placement.cpus, placement.memory) == ((0, 4, 8), ((0, GIB), (1, GIB), (2, GIB)))
    placement = place(a_ledger(nodes=2, cpus_per_node=4), cpus=3, memory=2 * GIB, numa="spread")
    assert placement is not None
    assert (placement.cpus, placement.memory) == ((0, 1, 4), ((0, GIB), (1, GIB)))


def test_spread_takes_what_is_there_when_even_is_not_possible() -> None:
    assert cpus(a_ledger(0, 1, 2, nodes=2, cpus_per_node=4), cpus=4, numa="spread") == (3, 4, 5, 6)


def test_spread_of_fewer_cpus_than_nodes_takes_the_emptiest_nodes() -> None:
    assert cpus(a_ledger(0, nodes=3, cpus_per_node=4), cpus=2, numa="spread") == (4, 8)


def test_any_fills_holes() -> None:
    placement = place(a_ledger(0, 1, 2, 4, 5, 6, nodes=2, cpus_per_node=4), cpus=2, numa="any")
    assert placement is not None and placement.cpus == (3, 7)


def test_any_may_use_memory_far_from_its_cpus() -> None:
    ledger = a_ledger(0, 1, memory={1: 8 * GIB}, nodes=2, cpus_per_node=2, memory_per_node=8 * GIB)
    assert place(ledger, memory=GIB, numa="local") is not None  # CPUs of node 1, memory of node 0: two nodes
    placement = place(ledger, memory=GIB, numa="any")
    assert placement is not None and (placement.cpus, placement.mems) == ((2,), (0,))


def test_an_explicit_list_is_kept() -> None:
    ledger = a_ledger(nodes=3, cpus_per_node=2)
    placement = place(ledger, cpus=3, memory=2 * GIB, numa=(0, 2))
    assert placement is not None
    assert (placement.cpus, placement.memory) == ((0, 1, 4), ((0, GIB), (2, GIB)))
    assert place(ledger, cpus=3, numa=(1,)) is None
    assert place(ledger, numa=(7,)) is None


# ── hardware threads ────────────────────────────────────────────────────────────────────────────────────────────────


def test_whole_cores_for_those_who_want_two_and_broken_ones_for_the_rest() -> None:
    assert cpus(a_ledger(0, cpus_per_node=8, threads=2), cpus=2) == (2, 3)
    assert cpus(a_ledger(0, cpus_per_node=8, threads=2), cpus=1) == (1,)
    assert cpus(a_ledger(0, cpus_per_node=8, threads=2), cpus=3) == (1, 2, 3)
    assert cpus(a_ledger(0, 2, 4, 6, cpus_per_node=8, threads=2), cpus=3) == (1, 3, 5)
    assert cpus(a_ledger(cpus_per_node=8, threads=2), cpus=1) == (0,)


def test_a_broken_core_of_another_node_before_a_free_one() -> None:
    ledger = a_ledger(0, 4, 5, 6, 7, 8, 9, nodes=2, cpus_per_node=8, threads=2)
    ledger.charge(1, hold_for(Placement("test", (10, 11, 12, 13), (1,), True)))
    assert cpus(ledger, cpus=1) == (1,), "although node 1 is tighter"
    assert cpus(ledger, cpus=2) == (14, 15)


def a_whole(ledger: Ledger, cpus: int, **job: Any) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    placement = place(ledger, cpus=cpus, cores="whole", **job)
    return (placement.cpus, placement.idle) if placement else None


def test_whole_cores_are_shared_with_nobody() -> None:
    ledger = a_ledger(0, cpus_per_node=8, threads=2)
    assert a_whole(ledger, 1) == ((2,), (3,))
    assert a_whole(ledger, 2) == ((2, 3), ())
    assert a_whole(ledger, 3) == ((2, 3, 4), (5,))
    assert a_whole(ledger, 6) == ((2, 3, 4, 5, 6, 7), ())
    assert a_whole(ledger, 7) is None, "CPU 1 is free, but its core is not"


def test_idle_threads_are_charged_and_given_to_nobody() -> None:
    ledger = a_ledger(cpus_per_node=4, threads=2)
    placement = place(ledger, cpus=1, cores="whole")
    assert placement is not None and (placement.cpus, placement.idle) == ((0,), (1,))
    ledger.charge(1, hold_for(placement))
    assert ledger.most_free_cpus() == 2
    assert cpus(ledger, cpus=2) == (2, 3) and cpus(ledger, cpus=3) is None
    assert cpus(ledger, cpus=0.5) == (2,)
    assert ledger.refusal(Placement("test", (1,), (0,), True)) == "CPU 1 is not free"
    assert ledger.refusal(Placement("test", (2,), (0,), True, idle=(1,))) == "CPU 1 is not free"
    ledger.release(1)
    assert ledger == a_ledger(cpus_per_node=4, threads=2)


def test_whole_cores_where_cores_have_one_thread() -> None:
    assert a_whole(a_ledger(1, cpus_per_node=4), 2) == ((0, 2), ())


def test_whole_cores_on_several_nodes() -> None:
    ledger = a_ledger(0, nodes=2, cpus_per_node=4, threads=2)
    assert a_whole(ledger, 5) == ((2, 4, 5, 6, 7), (3,))
    assert a_whole(ledger, 2, numa="spread") == ((2, 4), (3, 5))
    assert a_whole(ledger, 3, numa=(0,)) is None


# ── fractions ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_fractions_are_packed_and_never_on_exclusive_cpus() -> None:
    ledger = a_ledger(0, cpus_per_node=4)
    given = []
    for job, share in enumerate((0.5, 0.25, 0.5, 0.25), 1):
        placement = place(ledger, cpus=share)
        assert placement is not None and not placement.exclusive and placement.shares == share
        ledger.charge(job, hold_for(placement))
        given.append(placement.cpus)
    assert given == [(1,), (1,), (2,), (1,)]
    assert cpus(ledger, cpus=1) == (3,)


def test_one_and_a_half_is_two_cpus_at_three_quarters() -> None:
    ledger = a_ledger(cpus_per_node=2)
    placement = place(ledger, cpus=1.5)
    assert placement is not None and placement.cpus == (0, 1)
    ledger.charge(1, hold_for(placement))
    assert ledger.shared == {0: 750, 1: 750}
    assert place(ledger, cpus=0.3) is None
    assert place(ledger, cpus=0.25) is not None


def test_parts_add_up_to_no_less_than_the_shares() -> None:
    ledger = a_ledger(cpus_per_node=2)
    placement = place(ledger, cpus=1.001)
    assert placement is not None
    ledger.charge(1, hold_for(placement))
    assert ledger.shared == {0: 501, 1: 501}


def test_a_wide_fraction_has_threads_of_one_core_together() -> None:
    host = replace(a_host(cpus_per_node=4), siblings=((0, 2), (1, 3)))
    placement = allocate(Ledger(Capacity.of(host)), demand_of(a_job(cpus=1.5)))
    assert placement is not None and placement.cpus == (0, 2)


def test_a_fraction_opens_no_free_cpu_while_a_shared_one_has_room() -> None:
    ledger = a_ledger(4, 5, 6, nodes=2, cpus_per_node=4)
    ledger.charge(1, hold_for(Placement("test", (0,), (0,), False, 0.5)))
    assert cpus(ledger, cpus=0.5) == (0,), "although node 1 is tighter"


@pytest.mark.parametrize("share", [1 / 3, 0.1, 0.001])
def test_the_sum_of_the_shares_never_exceeds_the_cpu(share: float) -> None:
    ledger, count = a_ledger(cpus_per_node=1), 0
    while (placement := place(ledger, cpus=share, memory=MIB)) is not None:
        count += 1
        ledger.charge(count, hold_for(placement))
    assert count * share <= 1.001
    assert count == {1 / 3: 3, 0.1: 10, 0.001: 1000}[share]


# ── huge pages ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_huge_pages_come_from_the_jobs_nodes() -> None:
    ledger = a_ledger(nodes=2, cpus_per_node=2, hugepages=[(2 * MIB, 10)])
    placement = place(ledger, hugepages=[(2 * MIB, 8)])
    assert placement is not None and placement.hugepages == ((0, 2 * MIB, 8),)
    ledger.charge(1, hold_for(placement))
    other = place(ledger, hugepages=[(2 * MIB, 8)])
    assert other is not None and other.hugepages == ((1, 2 * MIB, 8),) and other.mems == (1,)
    ledger.charge(2, hold_for(other))
    last = place(ledger, hugepages=[(2 * MIB, 4)])
    assert last is not None and last.hugepages == ((0, 2 * MIB, 2), (1, 2 * MIB, 2))
    assert place(ledger, hugepages=[(2 * MIB, 5)]) is None
    assert place(ledger, hugepages=[(1 << 30, 1)]) is None


# ── earmarks ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_earmark_takes_what_is_free_and_closes_partly_used_cpus() -> None:
    ledger = a_ledger(0, cpus_per_node=4)
    fraction = place(ledger, cpus=0.5)
    assert fraction is not None and fraction.cpus == (1,)
    ledger.charge(1, hold_for(fraction))
    before = ledger.copy()
    keep(ledger, -9, a_placement(0, 1, 2, 3, memory=6 * GIB))
    assert place(ledger, cpus=1) is None and place(ledger, cpus=0.1) is None
    assert ledger.free_memory(0, headroom=True) == 2 * GIB - 256 * MIB
    ledger.release(-9)
    assert ledger == before


def test_an_earmark_takes_no_more_than_there_is_and_not_what_its_owner_has_already() -> None:
    ledger = a_ledger(0, cpus_per_node=4)
    held = Hold(memory=((0, 3 * GIB),))
    ledger.charge(8, held)
    keep(ledger, -9, a_placement(0, 1, memory=4 * GIB), held)
    assert ledger.free_memory(0, headroom=True) == 4 * GIB
    keep(ledger, -10, a_placement(1, 2, memory=6 * GIB))
    assert ledger.free_memory(0, headroom=True) == 0
    assert place(ledger, cpus=1, memory=MIB) is None and cpus(ledger, cpus=1, memory=0) == (3,)
