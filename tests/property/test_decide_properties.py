"""Nobody waits for ever: each job that fits an empty host gets its turn while others keep coming."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import events as ev
from jobs.record import State
from jobs.verdict import Never
from scheduler.actions import Place
from scheduler.capacity import Capacity
from tests.builders import GIB, MIB, a_host, a_job
from tests.fakes.simulation import Simulation

HOSTS = st.builds(a_host, nodes=st.integers(1, 2), cpus_per_node=st.integers(2, 4), memory_per_node=st.just(2 * GIB))
BIG = st.builds(
    a_job,
    cpus=st.sampled_from([1, 2, 4, 1.5]),
    memory=st.sampled_from([256 * MIB, 2 * GIB, 3 * GIB]),
    numa=st.sampled_from(["local", "any", "spread", (0,)]),
)
SMALL = st.builds(a_job, cpus=st.sampled_from([1, 0.5, 0.25]), memory=st.sampled_from([1 * MIB, 300 * MIB]))


@settings(max_examples=25, deadline=None)
@given(HOSTS, BIG, st.lists(SMALL, min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_a_big_job_starts_while_small_later_ones_that_would_fit_keep_coming(
    host: Any, big: Any, small: list[Any], random: Any
) -> None:
    sim = Simulation(Capacity.of(host))
    for spec in small * 4:
        sim.submit(spec)
    sim.round()
    job = sim.submit(big)
    sim.tick(1.0)
    for _ in range(60):
        if sim.records[job].state is not State.QUEUED:
            return
        for spec in small:
            sim.submit(spec)
        sim.round()
        sim.settle()
        running = [r.job for r in sim.records.values() if r.state is State.RUNNING]
        for ended in random.sample(running, k=min(len(running), 2)):
            sim.report(ended, "exited")
            sim.report(ended, "cleaned")
        sim.tick(1.0)
    assert isinstance(sim.decide().verdict(sim.records[job]), Never)


@settings(max_examples=60, deadline=None)
@given(HOSTS, st.lists(SMALL, min_size=1, max_size=8), st.booleans())
def test_a_frozen_job_without_holds_comes_back_when_there_is_room(host: Any, others: list[Any], keep: bool) -> None:
    sim = Simulation(Capacity.of(host))
    job = sim.submit(a_job(cpus=2, memory=512 * MIB))
    sim.round()
    sim.settle()
    sim.happen(ev.PauseRequested(job, "owner", keep))
    sim.settle()
    assert sim.records[job].state is State.FROZEN
    for spec in others:
        sim.submit(spec)
    for _ in range(3):
        sim.round()
        sim.settle()
    sim.happen(ev.ResumeRequested(job, "owner"))
    for _ in range(len(others) + 3):
        if sim.records[job].state is State.RUNNING:
            return
        for spec in others:  # newcomers never overtake one that wants to come back
            sim.submit(spec)
        sim.round()
        sim.settle()
        for record in list(sim.records.values()):
            if record.state is State.RUNNING and record.job != job:
                sim.report(record.job, "exited")
    raise AssertionError(sim.decide().verdict(sim.records[job]))


@settings(max_examples=60, deadline=None)
@given(HOSTS, st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=2, max_size=10))
def test_equal_jobs_start_in_priority_order(host: Any, jobs: list[tuple[int, int]]) -> None:
    sim = Simulation(Capacity.of(host))
    for urgency, hours in jobs:
        sim.now = 3600.0 * hours
        sim.submit(a_job(cpus=1, memory=MIB, priority=urgency))
    order: list[int] = []
    while any(record.state is State.QUEUED for record in sim.records.values()):
        order += [action.job for action in sim.round().actions if isinstance(action, Place)]
        sim.settle(exits=True)
        sim.settle(exits=True)
    wanted = sorted(range(1, len(jobs) + 1), key=lambda job: (-(jobs[job - 1][0] - jobs[job - 1][1]), job))
    assert order == wanted
