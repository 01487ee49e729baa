"""The ledger: what each state of a job holds, and that nothing can be charged twice."""

from __future__ import annotations

import pytest

from jobs.placement import Placement
from scheduler.capacity import NOTHING, Capacity, Hold, Ledger, Overcommitted, hold_for, hold_of
from tests.builders import GIB, MIB, History, a_capacity, a_host, a_placement


def test_the_reserve_is_taken_from_all_nodes_in_proportion() -> None:
    host = a_host(nodes=2, memory_per_node=4 * GIB)
    assert Capacity.of(host, reserve_bytes=GIB).memory == {0: 7 * GIB // 2, 1: 7 * GIB // 2}
    assert Capacity.of(host, reserve_bytes=100 * GIB).memory == {0: 0, 1: 0}


def test_what_a_job_holds_in_each_state() -> None:
    life = History(memory=GIB, cpus=2, publish=[80])
    assert hold_of(life.record) == NOTHING
    life.placed(0, 1)
    full = Hold(exclusive=(0, 1), memory=((0, GIB),), ports=(("tcp", 80),), counts=True)
    assert hold_of(life.record) == full
    assert hold_of(life.started().record) == full
    assert hold_of(life.paused().record) == full, "until the kernel agrees"
    frozen = hold_of(life.frozen(resident=300 * MIB).record)
    assert (frozen.exclusive, frozen.memory, frozen.growth) == ((), ((0, 300 * MIB),), ((0, GIB - 300 * MIB),))
    assert frozen.ports == (("tcp", 80),) and frozen.counts
    assert hold_of(life.resumed().thaw_placed(2, 3).record).exclusive == (2, 3)
    assert hold_of(life.thawed().exited().record) == Hold(ports=(("tcp", 80),)), "until the clean-up"
    assert hold_of(life.cleaned().record) == NOTHING


def test_kept_cpus_are_held_while_frozen() -> None:
    life = History(cpus=1).placed(3).started().paused(keep_cpus=True).frozen()
    assert hold_of(life.record).exclusive == (3,)


def test_resident_memory_beyond_the_limit_counts_as_the_limit() -> None:
    life = History(memory=GIB).placed(0).started().paused().frozen(resident=9 * GIB)
    assert hold_of(life.record).memory == ((0, GIB),)


def test_a_frozen_job_of_two_nodes_may_have_all_its_pages_on_either() -> None:
    both = Placement("test", (0,), (0, 1), True, memory_bytes=GIB, memory=((0, GIB // 2), (1, GIB // 2)))
    life = History(memory=GIB).placed(placement=both).started().paused().frozen(resident=400 * MIB)
    assert hold_of(life.record).memory == ((0, 400 * MIB), (1, 400 * MIB))


def test_no_cpu_twice() -> None:
    ledger = Ledger(a_capacity())
    ledger.charge(1, hold_for(a_placement(0, 1)))
    half = Placement("test", (2,), (0,), False, 0.5)
    ledger.charge(2, hold_for(half))
    before = ledger.copy()
    for job, hold in (
        (3, hold_for(a_placement(1, 3))),
        (3, hold_for(a_placement(2))),
        (1, hold_for(a_placement(3))),
        (3, hold_for(Placement("test", (2,), (0,), False, 0.501))),
        (3, hold_for(Placement("test", (0,), (0,), False, 0.1))),
    ):
        with pytest.raises(Overcommitted):
            ledger.charge(job, hold)
        assert ledger == before
    ledger.charge(3, hold_for(half))
    assert ledger.milli_left(2) == 0


def test_a_release_undoes_a_charge() -> None:
    life = History(memory=GIB, cpus=2, publish=[80], hugepages=[(2 * MIB, 4)]).placed(0, 1).started()
    empty = Ledger(a_capacity())
    for record in (life.record, life.paused().frozen().record, life.resumed().thaw_placed(2, 3).record):
        ledger = empty.copy()
        ledger.charge(1, hold_of(record))
        assert ledger != empty
        ledger.release(1)
        assert ledger == empty


def test_headroom_is_the_need_of_the_neediest_frozen_job() -> None:
    ledger = Ledger(a_capacity(memory_per_node=8 * GIB))
    for job, (limit, resident) in enumerate(((4 * GIB, GIB), (2 * GIB, GIB)), 1):
        life = History(job, memory=limit).placed(job).started().paused().frozen(resident=resident)
        ledger.charge(job, hold_of(life.record))
    assert ledger.free_memory(0, headroom=False) == 6 * GIB
    assert ledger.free_memory(0, headroom=True) == 3 * GIB


def test_the_refusal_names_what_is_missing() -> None:
    ledger = Ledger(a_capacity(hugepages=[(2 * MIB, 4)], memory_per_node=GIB))
    ledger.charge(1, hold_for(a_placement(0)))
    ledger.charge(2, hold_for(Placement("test", (1,), (0,), False, 0.5)))
    assert ledger.refusal(a_placement(2)) == ""
    assert ledger.refusal(a_placement(0)) == "CPU 0 is not free"
    assert ledger.refusal(a_placement(1)) == "CPU 1 is not free"
    assert ledger.refusal(Placement("test", (1,), (0,), False, 0.6)) == "CPU 1 has not so much left"
    assert "memory node 0 has less than" in ledger.refusal(a_placement(2, memory=GIB))
    pages = Placement("test", (2,), (0,), True, hugepages=((0, 2 * MIB, 5),))
    assert "5 pages of 2097152 bytes" in ledger.refusal(pages)
