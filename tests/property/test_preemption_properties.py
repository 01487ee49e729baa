"""Preemption in whole lives: nobody urgent waits for somebody less urgent, nobody frozen is forgotten or tormented."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from jobs import events as ev
from jobs.policy import Policy, Preemption, Queue
from jobs.record import Record, State
from scheduler.actions import Preempt
from scheduler.allocate import allocate
from scheduler.capacity import Capacity, Ledger, hold_for, hold_of
from scheduler.demand import demand_of
from scheduler.preempt import hold_when_frozen
from scheduler.preemptible import order_of_running, points_of, rests_until
from scheduler.world import World
from tests.builders import GIB, MIB, a_host, a_job
from tests.fakes.simulation import Simulation

HOSTS = st.builds(
    a_host, nodes=st.integers(1, 2), cpus_per_node=st.sampled_from([1, 2]), memory_per_node=st.just(2 * GIB)
)
SPECS = st.builds(
    a_job,
    cpus=st.sampled_from([1, 1, 2, 0.5]),
    memory=st.sampled_from([1 * MIB, 100 * MIB, 1 * GIB]),
    numa=st.sampled_from(["local", "any"]),
    priority=st.sampled_from([0, 20, 40, 60, 80, 100]),
    queue=st.sampled_from(["default", "default", "again", "safe"]),
    on_lost=st.sampled_from(["fail", "requeue"]),
)
STEPS = st.lists(
    st.tuples(
        st.lists(SPECS, max_size=2),
        st.sampled_from([1.0, 20.0, 200.0]),
        st.integers(0, 3),
        st.sampled_from([0.0, 0.1, 0.9, 1.0]),
    ),
    max_size=12,
)
RULES = st.builds(Preemption, least_run_s=st.sampled_from([0.0, 10.0]), most_per_hour=st.sampled_from([1, 3]))


def a_policy(rules: Preemption) -> Policy:
    queues = Queue(), Queue("again", preempt="requeue"), Queue("safe", preempt="never", preemptible=False)
    return Policy(queues=queues, preemption=rules)


def until_quiet(sim: Simulation) -> None:
    """Rounds and the node's answers, until nothing more follows in this moment."""
    for _ in range(50):
        before = len(sim.history)
        sim.round()
        nothing_is_given_twice(sim)
        sim.settle()
        nothing_is_given_twice(sim)
        if len(sim.history) == before:
            return
    raise AssertionError(f"it goes on for ever: {sim.history[-8:]}")


def nothing_is_given_twice(sim: Simulation) -> None:
    """On each node Σ limit(running) + Σ resident(frozen) ≤ memory, and for each frozen one limit(it) + Σ resident(other
    frozen) ≤ memory; the rebuilt world agrees."""
    held, frozen = Counter[int](), Counter[int]()
    limits: list[tuple[Counter[int], Counter[int]]] = []
    for record in sim.records.values():
        if record.home is None:
            continue
        limit = Counter(dict(record.home.memory))
        kept = Counter({node: min(size, record.resident_bytes) for node, size in limit.items()})
        held.update(kept if record.state is State.FROZEN else limit)
        if record.state is State.FROZEN:
            frozen.update(kept)
            limits.append((limit, kept))
    for node, memory in sim.capacity.memory.items():
        assert held[node] <= memory
        assert all(limit[node] + frozen[node] - kept[node] <= memory for limit, kept in limits)
    sim.world.step_shares()  # a restart does, at once
    used = sim.world.shares.used
    rebuilt = World.of(sim.capacity, sim.world.live.values(), sim.world.policy, sim.now, used=used)
    assert rebuilt == sim.world


def end_one(sim: Simulation, number: int) -> None:
    running = [record.job for record in sim.records.values() if record.state is State.RUNNING]
    if running:
        job = running[number % len(running)]
        sim.report(job, "exited")
        sim.report(job, "cleaned")


@settings(max_examples=60, deadline=None)
@given(HOSTS, STEPS, RULES)
def test_a_life_with_preemption(host: Any, steps: list[Any], rules: Preemption) -> None:
    """What runs grows up to its limit at any time, after it was looked at too."""
    sim = Simulation(Capacity.of(host), a_policy(rules))
    for specs, seconds, number, grown in steps:
        for record in sim.records.values():
            if record.state is State.RUNNING:
                sim.world.observe(record.job, sim.resident.get(record.job, 0))
                limit = record.spec.resources.memory_bytes
                sim.resident[record.job] = max(sim.resident.get(record.job, 0), int(limit * grown))
        for spec in specs:
            sim.submit(spec)
        until_quiet(sim)
        nobody_urgent_waits_for_somebody_less_urgent(sim)
        sim.tick(seconds)
        if number:
            end_one(sim, number)
    for _ in range(3 * len(sim.records) + 3):
        until_quiet(sim)
        end_one(sim, 0)
        sim.tick(1.0)
    for record in sim.records.values():
        if allocate(Ledger(sim.capacity), demand_of(record.spec)) is not None:
            assert record.state.final, f"{record.job} is {record.state}: {sim.decide().verdict(record)}"
    by_job = Counter(happened.job for happened in sim.history if isinstance(happened, ev.Preempted))
    event(f"preempted: {sum(by_job.values())}")
    less = [e for e in sim.history if isinstance(e, ev.Preempted) and e.resident_bytes < limit_of(sim, e.job)]
    event(f"counted on less than the limit: {bool(less)}")
    for job in by_job:
        at = [happened.at for happened in sim.history if isinstance(happened, ev.Preempted) and happened.job == job]
        for first in at:
            assert sum(first <= other < first + 3600.0 for other in at) <= rules.most_per_hour


def limit_of(sim: Simulation, job: int) -> int:
    return sim.records[job].spec.resources.memory_bytes


def nobody_urgent_waits_for_somebody_less_urgent(sim: Simulation) -> None:
    """The first who waits would have no room even if all who may be frozen for it were."""
    waiting = [record for record in sim.records.values() if record.state is State.QUEUED]
    if not waiting:
        return
    first = min(waiting, key=lambda record: (sim.world.standing(record), record.job))
    policy = sim.world.policy
    mode = policy.queue(first.spec.queue).preempt
    if mode != "freeze" or sim.world.frozen:  # whoever came before it may be one of these
        return
    ledger = Ledger(sim.capacity)
    for record in sim.records.values():
        less = record.state is State.RUNNING and may_be_frozen(sim, record, first)
        ledger.charge(
            record.job, hold_when_frozen(record, record.spec.resources.memory_bytes) if less else hold_of(record)
        )
    ledger.release(first.job)
    assert allocate(ledger, demand_of(first.spec)) is None, sim.decide().verdict(first)


def may_be_frozen(sim: Simulation, record: Record, head: Record) -> bool:
    policy = sim.world.policy
    return (
        policy.queue(record.spec.queue).preemptible
        and points_of(policy, record) + policy.preemption.margin <= points_of(policy, head)
        and order_of_running(record, sim.world.offset_of(record), sim.now) < -sim.world.standing(head)
        and rests_until(record, policy.preemption) <= sim.now
    )


TALKING = st.builds(
    a_job,
    cpus=st.sampled_from([1, 1, 2, 0.5]),
    memory=st.sampled_from([1 * MIB, 500 * MIB]),
    priority=st.sampled_from([0, 20, 40, 60, 80]),
    freeze_with=st.sampled_from(["", "one", "one", "other"]),
)
MEETINGS = st.lists(
    st.tuples(st.lists(TALKING, max_size=3), st.sampled_from([1.0, 20.0, 200.0]), st.integers(0, 3)), max_size=10
)


@settings(max_examples=80, deadline=None)
@given(HOSTS, MEETINGS, RULES)
def test_who_talks_to_each_other_stands_still_together(host: Any, meetings: list[Any], rules: Preemption) -> None:
    sim = Simulation(Capacity.of(host), a_policy(rules))
    for specs, seconds, number in meetings:
        for spec in specs:
            sim.submit(spec)
        until_quiet(sim)
        nobody_goes_on_alone(sim)
        sim.tick(seconds)
        if number:
            end_one(sim, number)
    for _ in range(3 * len(sim.records) + 3):
        until_quiet(sim)
        nobody_goes_on_alone(sim)
        end_one(sim, 0)
        sim.tick(1.0)
    for record in sim.records.values():
        if allocate(Ledger(sim.capacity), demand_of(record.spec)) is not None:
            assert record.state.final, f"{record.job} is {record.state}: {sim.decide().verdict(record)}"


def nobody_goes_on_alone(sim: Simulation) -> None:
    states: dict[str, set[State]] = {}
    for record in sim.records.values():
        if record.spec.freeze_with and record.state.on_node:
            states.setdefault(record.spec.freeze_with, set()).add(record.state)
    assert all(len(those) == 1 for those in states.values()), states
    event(f"groups that stand still: {sum(those == {State.FROZEN} for those in states.values())}")


ARRIVALS = st.lists(
    st.tuples(st.lists(st.integers(0, 9), max_size=3), st.sampled_from([1.0, 3600.0, 20000.0]), st.integers(0, 2)),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(ARRIVALS, st.sampled_from([1, 3]), st.sampled_from([0.0, 5000.0]))
@example([([0], 1.0, 0), ([1, 3], 1.0, 0), ([2], 20000.0, 0), ([3], 1.0, 0)], 1, 0.0)  # room passed on, and on
@example([([0, 0, 1], 20000.0, 0), ([2, 2], 1.0, 1), ([3], 1.0, 0)], 1, 0.0)
@example([([0, 1, 2], 20000.0, 0), ([2], 1.0, 0), ([3], 20000.0, 1), ([3], 1.0, 1), ([3], 1.0, 0)], 1, 0.0)
@example([([0, 7, 1], 20000.0, 0), ([9, 2, 0], 3600.0, 0), ([8, 3, 5], 3600.0, 0), ([0, 2, 8], 20000.0, 2),
          ([], 20000.0, 2), ([3], 3600.0, 2), ([4, 3, 9], 1.0, 1), ([6, 9, 9], 1.0, 1), ([1, 9, 6], 20000.0, 0),
          ([5], 3600.0, 2)], 3, 5000.0)  # the most urgent are too young to freeze anybody
def test_who_is_old_does_not_keep_who_is_urgent_from_freezing(arrivals: Any, margin: int, rest_s: float) -> None:
    """All in one line, where hours of waiting and points of urgency are of one size."""
    sim = Simulation(Capacity.of(a_host(cpus_per_node=2)), a_policy(Preemption(margin=margin, least_run_s=rest_s)))
    overtaken = 0
    for urgencies, seconds, number in arrivals:
        for urgency in urgencies:
            sim.submit(a_job(memory=MIB, priority=urgency))
        until_quiet(sim)
        waiting = [record for record in sim.records.values() if record.state is State.QUEUED]
        running = [record for record in sim.records.values() if record.state is State.RUNNING]
        for head in waiting:
            assert not any(may_be_frozen(sim, record, head) for record in running), sim.decide().verdict(head)
        waited = {record.job: record.urgency for record in waiting}
        for record in (sim.records[job] for job in {r.preempted_by for r in sim.records.values()} - {0}):
            overtaken += any(job < record.job and waited[job] < record.urgency for job in waited)
        sim.tick(seconds)
        if number:
            end_one(sim, number)
    event(f"overtaken: {min(overtaken, 3)}")


def test_room_made_for_the_urgent_one_is_not_for_who_is_older() -> None:
    sim = Simulation(Capacity.of(a_host(cpus_per_node=1)), a_policy(Preemption(least_run_s=0.0)))
    running = sim.submit(a_job(priority=10))
    until_quiet(sim)
    old = sim.submit(a_job(priority=10))
    sim.tick(20 * 3600.0)
    urgent = sim.submit(a_job(priority=20))
    assert sim.world.standing(sim.records[old]) < sim.world.standing(sim.records[urgent])
    sim.round()
    assert sim.records[running].preempted_by == urgent
    until_quiet(sim)
    assert [sim.records[job].state for job in (running, old, urgent)] == [State.FROZEN, State.QUEUED, State.RUNNING]
    sim.report(urgent, "exited")
    until_quiet(sim)
    assert sim.records[running].state is State.RUNNING, "it stands before the old one again"


@settings(max_examples=60, deadline=None)
@given(HOSTS, st.lists(SPECS, min_size=1, max_size=6), SPECS, st.data())
def test_room_that_is_being_made_is_for_the_urgent_one_alone(
    host: Any, running: list[Any], late: Any, data: st.DataObject
) -> None:
    """Victims stand still one by one, others come meanwhile; who is less urgent gets nothing of it."""
    sim = Simulation(Capacity.of(host), a_policy(Preemption(least_run_s=0.0)))
    for spec in running:
        sim.submit(spec)
    until_quiet(sim)
    sim.tick(10.0)
    urgent = sim.submit(a_job(cpus=data.draw(st.sampled_from([1, 2])), memory=MIB, priority=100, numa="any"))
    victims = [action.job for action in sim.round().actions if isinstance(action, Preempt)]
    if not victims:
        return
    for victim in victims:
        sim.submit(late)
        before = {record.job for record in sim.records.values() if record.placement is not None}
        sim.round()
        placed = {record.job for record in sim.records.values() if record.placement is not None} - before
        assert placed <= {urgent} or all(_leaves_room(sim, urgent, job) for job in placed)
        sim.report(victim, "frozen") if sim.records[victim].cancel is None else sim.report(victim, "exited")
    sim.round()
    assert sim.records[urgent].state is State.STARTING


def _leaves_room(sim: Simulation, urgent: int, job: int) -> bool:
    """It runs beside the urgent one and all whom that one does not need gone."""
    record = sim.records[job]
    assert record.placement is not None
    ledger = Ledger(sim.capacity)
    ledger.charge(job, hold_for(record.placement))
    return allocate(ledger, demand_of(sim.records[urgent].spec)) is not None


def test_who_was_frozen_for_somebody_that_is_gone_comes_back_at_once() -> None:
    sim = Simulation(Capacity.of(a_host(cpus_per_node=1)), a_policy(Preemption(least_run_s=0.0)))
    job = sim.submit(a_job(priority=0))
    until_quiet(sim)
    sim.tick(1.0)
    urgent = sim.submit(a_job(priority=100))
    sim.round()
    assert sim.records[job].preempted_by == urgent
    sim.happen(ev.CancelRequested(urgent, "owner", "TERM", 1.0, sim.now))
    until_quiet(sim)
    assert sim.records[job].state is State.RUNNING
    assert not sim.records[job].preempted_by
