"""What is explained is what was decided: placed or a reason; it starts without its blockers, or changed."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.policy import Limits, Policy, Queue
from jobs.record import Record, State
from jobs.units import parse_duration, parse_size
from jobs.verdict import Going, Never, NotNow
from scheduler.actions import Place
from scheduler.capacity import Capacity
from scheduler.decide import decide
from scheduler.explain import Asked, Change, best, cheapest, explain, starts
from tests.builders import ALICE, BOB, GIB, MIB, a_host, a_job
from tests.fakes.simulation import Simulation

HOSTS = st.builds(a_host, nodes=st.integers(1, 2), cpus_per_node=st.integers(1, 4), memory_per_node=st.just(2 * GIB))
POLICIES = st.builds(
    Policy,
    queues=st.tuples(
        st.builds(Queue, per_user=st.builds(Limits, jobs=st.integers(0, 2)), preempt=st.just("never")),
        st.builds(Queue, st.just("night"), state=st.sampled_from(["open", "drained"]), preempt=st.just("never")),
    ),
    backfill=st.sampled_from(["off", "easy", "conservative"]),
)
FREEZING = POLICIES.map(
    lambda policy: replace(policy, queues=tuple(replace(each, preempt="freeze") for each in policy.queues))
)
JOBS = st.tuples(
    st.builds(
        a_job,
        cpus=st.sampled_from([1, 2, 3, 8, 0.5]),
        memory=st.sampled_from([64 * MIB, 1 * GIB, 3 * GIB]),
        numa=st.sampled_from(["local", "any", (0,)]),
        priority=st.sampled_from([0, 50, 60]),
        time_limit_s=st.sampled_from([0.0, 100.0, 5000.0]),
        queue=st.sampled_from(["default", "default", "night"]),
    ),
    st.sampled_from([ALICE, BOB]),
    st.booleans(),
)


def asked_as_written(change: Change) -> Asked:
    read: dict[str, Any] = {"cpus": float, "memory": parse_size, "time_limit": parse_duration, "urgency": int}
    return Asked(**{change.what: read.get(change.what, lambda text: text.strip('"'))(change.value)})


def lived(host: Any, policy: Policy, jobs: list[Any]) -> Simulation:
    """Some run, the rest waits."""
    sim = Simulation(Capacity.of(host), policy)
    for number, (spec, owner, hold) in enumerate(jobs):
        sim.submit(spec, owner=owner, hold=hold and number % 3 == 0)
        if number % 2:
            sim.round()
            sim.settle()
        sim.tick(1.0)
    sim.world.tick(sim.now)
    return sim


def waiting(sim: Simulation) -> list[Record]:
    return [record for record in sim.records.values() if record.state in (State.QUEUED, State.HELD)]


@settings(max_examples=60, deadline=None)
@given(HOSTS, POLICIES, st.lists(JOBS, min_size=2, max_size=9))
def test_a_waiting_job_starts_or_has_a_reason(host: Any, policy: Policy, jobs: list[Any]) -> None:
    sim = lived(host, policy, jobs)
    placed = {each.job for each in decide(sim.world, sim.now, {}).actions if isinstance(each, Place)}
    for record in waiting(sim):
        found = explain(sim.world, record, sim.now)
        match found.verdict:
            case Going():
                assert record.job in placed and found.placement is not None
            case NotNow(reasons):
                assert record.job not in placed and reasons
                assert found.start.at is None or found.start.at >= sim.now
            case Never(reason):
                assert record.job not in placed and reason
            case _:
                raise AssertionError(found)


@settings(max_examples=60, deadline=None)
@given(HOSTS, POLICIES, st.lists(JOBS, min_size=3, max_size=9))
def test_what_lacks_only_what_blockers_hold_starts_without_them(host: Any, policy: Policy, jobs: list[Any]) -> None:
    sim = lived(host, policy, jobs)
    for record in waiting(sim):
        found = explain(sim.world, record, sim.now)
        held = {"cpus", "memory", "order", "placement"}
        if not found.reasons or {reason.dimension for reason in found.reasons} - held:
            continue
        without = deepcopy(sim.world)
        for job in [job for job in sim.records if job != record.job and job in without.live]:
            other = without.live[job]
            if job in found.blockers or other.state is State.QUEUED:
                without._leave(other)
        if "placement" not in {reason.dimension for reason in found.reasons}:
            assert isinstance(explain(without, record, sim.now).verdict, Going), (found, record)


@settings(max_examples=40, deadline=None)
@given(HOSTS, FREEZING | POLICIES, st.lists(JOBS, min_size=2, max_size=7))
def test_the_changes_named_start_it_and_asking_changes_nothing(host: Any, policy: Policy, jobs: list[Any]) -> None:
    sim = lived(host, policy, jobs)
    before = deepcopy(sim.world)
    for record in waiting(sim):
        found = explain(sim.world, record, sim.now)
        changes = best(each for each in cheapest(sim.world, record, found, sim.now) if each is not None)
        for change in changes:
            assert starts(sim.world, record, change.asked, sim.now) == change.freezes
            assert asked_as_written(change) == change.asked, "what is told is what was tried"
    assert sim.world == before
