"""A placement is always what was asked for, from what is free; None only when nothing of the kind is free."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.allocate import allocate
from scheduler.capacity import MILLI, Capacity, Ledger, hold_for
from scheduler.demand import Demand, demand_of
from tests.builders import GIB, MIB, a_host, a_job

HOSTS = st.builds(
    a_host,
    nodes=st.integers(1, 4),
    cpus_per_node=st.integers(1, 6),
    memory_per_node=st.sampled_from([GIB, 4 * GIB]),
    threads=st.sampled_from([1, 2]),
    hugepages=st.sampled_from([(), ((2 * MIB, 8),)]),
    memory_only=st.integers(0, 1),
)
SPECS = st.builds(
    a_job,
    cpus=st.one_of(st.integers(1, 8), st.floats(0.001, 4)),
    memory=st.integers(1, 6 * GIB),
    numa=st.one_of(st.sampled_from(["local", "spread", "any"]), st.sets(st.integers(0, 4), min_size=1).map(tuple)),
    hugepages=st.sampled_from([(), ((2 * MIB, 3),)]),
    cores=st.sampled_from(["shared", "whole"]),
)


@settings(max_examples=300, deadline=None)
@given(HOSTS, st.lists(SPECS, max_size=12))
def test_filling_a_host(host: Any, specs: list[Any]) -> None:
    capacity = Capacity.of(host)
    ledger = Ledger(capacity)
    for job, spec in enumerate(specs, 1):
        demand = demand_of(spec)
        before = ledger.copy()
        placement = allocate(ledger, demand)
        assert ledger == before, "looking changes nothing"
        if placement is None:
            assert not obviously_fits(ledger, demand)
            continue
        assert ledger.refusal(placement) == ""
        assert len(placement.cpus) == demand.wide == len(set(placement.cpus))
        core_of = capacity.core_of
        if demand.whole_cores:
            used = {core_of[cpu] for cpu in placement.cpus}
            assert sorted((*placement.cpus, *placement.idle)) == sorted(cpu for core in used for cpu in core)
        else:
            assert placement.idle == ()
        assert sum(size for _, size in placement.memory) == spec.resources.memory_bytes
        assert set(placement.mems) == {n for n, _ in placement.memory} | {n for n, _, _ in placement.hugepages}
        assert sum(pages for _, _, pages in placement.hugepages) == sum(pages for _, pages in demand.hugepages)
        if not isinstance(spec.numa, str):
            assert set(placement.mems) <= set(spec.numa)
            assert {capacity.node_of[cpu] for cpu in placement.cpus} <= set(spec.numa)
        if spec.numa == "local":
            assert not smaller_set_fits(ledger, demand, placement)
        ledger.charge(job, hold_for(placement))
        assert all(parts <= MILLI for parts in ledger.shared.values())
        assert not set(ledger.owner) & set(ledger.shared)
    for job in range(1, len(specs) + 1):
        ledger.release(job)
    assert ledger == Ledger(capacity)


def obviously_fits(ledger: Ledger, demand: Demand) -> bool:
    """One single node has all of it."""
    if demand.numa == "spread" or not isinstance(demand.numa, str):
        return False
    for node in ledger.capacity.nodes:
        cpus = (
            sum(
                len(core)
                for core in set(map(ledger.capacity.core_of.get, node.cpus))
                if core and all(map(ledger.is_free, core))
            )
            if demand.whole_cores
            else ledger.free_count(node.id)
            if demand.cpus
            else sum(ledger.milli_left(cpu) >= demand.milli_each for cpu in node.cpus)
        )
        memory = ledger.free_memory(node.id, headroom=True) >= demand.memory_bytes
        pages = all(ledger.free_pages(node.id, size) >= count for size, count in demand.hugepages)
        if cpus >= demand.wide and memory and pages:
            return True
    return False


def smaller_set_fits(ledger: Ledger, demand: Demand, placement: Any) -> bool:
    used = {ledger.capacity.node_of[cpu] for cpu in placement.cpus} | set(placement.mems)
    return len(used) > 1 and obviously_fits(ledger, demand)


@settings(max_examples=100, deadline=None)
@given(HOSTS, SPECS)
def test_what_fits_beside_others_fits_alone(host: Any, spec: Any) -> None:
    capacity = Capacity.of(host)
    ledger = Ledger(capacity)
    first = allocate(ledger, demand_of(spec))
    if first is None:
        return
    ledger.charge(1, hold_for(first))
    if allocate(ledger, demand_of(spec)) is not None:
        ledger.release(1)
        assert allocate(ledger, demand_of(spec)) == first, "the same question has the same answer"
