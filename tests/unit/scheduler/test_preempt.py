"""Who makes room: the words of the rules, one by one. That the choice is the least is tests/property's business."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.policy import Policy, Preemption, Queue
from jobs.record import Record
from scheduler.actions import Preempt
from scheduler.capacity import Ledger, hold_of
from scheduler.demand import demand_of
from scheduler.preempt import Choice, Head, choose
from scheduler.preemptible import Preemptible, Victim, rests_until
from scheduler.priority import POINT_MS
from tests.builders import GIB, MIB, History, a_capacity, a_job, a_placement
from tests.fakes.simulation import Simulation

NOW = 10_000.0


def running(job: int, cpu: int, *, at: float = 0.0, memory: int = 256 * MIB, **spec: Any) -> History:
    life = History(job, at=at, memory=memory, **spec)
    return life.placed(placement=a_placement(cpu, memory=memory)).started(at=at)


def chosen(
    *lives: History, urgency: int = 60, waits_s: float = 0.0, policy: Policy | None = None, resident: int = MIB,
    memory_per_node: int = 8 * GIB, **spec: Any,
) -> list[int]:  # fmt: skip
    """The jobs that make room for one of this urgency on a host of two CPUs."""
    records, policy = [life.record for life in lives], policy or Policy()
    ledger = Ledger(a_capacity(cpus_per_node=2, memory_per_node=memory_per_node))
    for record in records:
        ledger.charge(record.job, hold_of(record))
    head = Head(99, (demand_of(a_job(**spec)),), urgency, urgency * POINT_MS - round((NOW - waits_s) * 1000))
    choice = choose(ledger, head, index(records, policy, resident), policy, NOW)
    assert (choice == Choice()) == (not choice.victims)
    return [victim.job for victim in choice.victims]


def index(records: list[Record], policy: Policy, resident: int = MIB) -> list[Victim]:
    found = Preemptible(policy)
    for record in records:
        found.enter(record, resident)
    found.tick(NOW)
    return list(found.below(100))


def test_the_least_urgent_makes_room() -> None:
    assert chosen(running(1, 0, priority=40), running(2, 1, priority=30)) == [2]
    assert chosen(running(1, 0, priority=40), running(2, 1, priority=30), cpus=2) == [2, 1]


def test_a_margin_of_urgency_is_needed() -> None:
    policy = Policy(preemption=Preemption(margin=10))
    assert chosen(running(1, 0, priority=51), running(2, 1, priority=90), policy=policy) == []
    assert chosen(running(1, 0, priority=50), running(2, 1, priority=90), policy=policy) == [1]


def test_who_has_waited_longer_than_its_urgency_lacks_is_not_overtaken() -> None:
    """It would come back at once: a frozen job stands where its waiting has brought it."""
    waited = History(1, at=NOW - 30 * 3600.0, priority=40).placed(0).started(at=NOW - 60.0)
    assert chosen(waited, running(2, 1, priority=90)) == []
    assert chosen(waited, running(2, 1, priority=90), waits_s=11 * 3600.0) == [1]
    long = History(1, at=NOW - 30 * 3600.0, priority=40).placed(0).started(at=NOW - 30 * 3600.0)
    assert chosen(long, running(2, 1, priority=90)) == [1], "running is not waiting"


def test_memory_that_a_frozen_job_may_take_again_is_not_given_away() -> None:
    alone = running(1, 0, memory=6 * GIB, priority=10)
    assert chosen(alone, running(2, 1, priority=90), memory=3 * GIB, resident=MIB) == []
    pair = running(1, 0, memory=4 * GIB, priority=10), running(2, 1, memory=3 * GIB, priority=10)
    assert sorted(chosen(*pair, memory=3 * GIB, cpus=1)) == [1, 2], "one of the two can come back at any time"


def test_queues_say_who_is_left_alone() -> None:
    policy = Policy(queues=(Queue(), Queue("safe", preemptible=False), Queue("low", points=-20)))
    assert chosen(running(1, 0, priority=1, queue="safe"), running(2, 1, priority=1, queue="safe"), policy=policy) == []
    assert chosen(running(1, 0, priority=65, queue="low"), running(2, 1, priority=59), policy=policy) == [1]


def test_whoever_is_stopping_pausing_or_making_room_already_is_no_victim() -> None:
    lives = running(1, 0).cancelled(), running(2, 1).paused()
    assert chosen(*lives) == []
    assert chosen(running(1, 0).preempted(), running(2, 1, priority=90)) == []


def test_a_job_that_ran_a_moment_only_rests() -> None:
    rules = Policy(preemption=Preemption(least_run_s=30.0))
    assert chosen(running(1, 0, at=NOW - 5.0), running(2, 1, at=NOW - 5.0), policy=rules) == []
    assert chosen(running(1, 0, at=NOW - 5.0), running(2, 1, at=NOW - 35.0), policy=rules) == [2]


def test_no_more_than_so_often_in_an_hour() -> None:
    life = running(1, 0)
    for at in (1000.0, 2000.0):
        life = life.preempted(at=at).frozen().thaw_placed(0).thawed()
    rules = Preemption(least_run_s=30.0, most_per_hour=2)
    assert rests_until(life.record, rules) == 1000.0 + 3600.0
    assert rests_until(life.record, Preemption(least_run_s=30.0, most_per_hour=3)) == 2030.0
    assert rests_until(life.record, Preemption(least_run_s=30.0, most_per_hour=0)) == 2030.0


def test_a_round_ends_and_nobody_is_left_out_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scheduler.making_room.MOST_ASKED", 1)
    sim = Simulation(a_capacity(cpus_per_node=2, memory_per_node=8 * GIB), Policy(preemption=Preemption(least_run_s=0)))
    for _ in range(2):
        sim.submit(a_job(memory=3 * GIB, priority=10))
    sim.round()
    sim.settle()
    vain, other = sim.submit(a_job(memory=6 * GIB, priority=90)), sim.submit(a_job(memory=MIB, priority=80))
    assert not [action for action in sim.decide().actions if isinstance(action, Preempt)]
    assert sim.world.in_vain == {vain}
    assert sim.world.next_change() == sim.now, "the round left somebody out"
    assert [action.by for action in sim.decide().actions if isinstance(action, Preempt)] == [other]
    assert not sim.world.in_vain, "everybody had a turn"
