"""Begin, retries, warnings and deadlines in rounds: who may start when, and what is asked of whom by the clock."""

from __future__ import annotations

from typing import Any

import pytest

from jobs import events as ev
from jobs.record import State
from jobs.spec import Moment, Retry, Warn
from jobs.verdict import NotNow
from scheduler.world import World
from tests.builders import GIB, MIB, a_capacity, a_job
from tests.fakes.simulation import Simulation


def a_simulation(**host: Any) -> Simulation:
    return Simulation(a_capacity(**host))


def running(sim: Simulation, **spec: Any) -> int:
    job = sim.submit(a_job(**spec))
    sim.round()
    assert sim.report(job, "started"), sim.records[job]
    return job


def decided(sim: Simulation) -> list[str]:
    return [type(action).__name__ for action in sim.decide().actions]


def reasons(sim: Simulation, job: int) -> list[str]:
    verdict = sim.decide().verdict(sim.records[job])
    assert isinstance(verdict, NotNow)
    return [reason.dimension for reason in verdict.reasons]


def test_nothing_starts_before_it_begins() -> None:
    sim = a_simulation()
    job = sim.submit(a_job(begin=Moment(after_s=5.0)))
    assert decided(sim) == [] and reasons(sim, job) == ["begin"]
    assert sim.world.next_change() == 1005.0
    sim.tick(5.0)
    assert decided(sim) == ["Place"]


def test_a_retry_waits_for_the_clean_up_and_its_pause() -> None:
    sim = a_simulation()
    job = running(sim, retry=Retry(most=1, backoff_s=100.0))
    sim.report(job, "exited", status=1)
    assert reasons(sim, job) == ["cleanup"]
    sim.tick(100.0)
    assert decided(sim) == [] and reasons(sim, job) == ["cleanup"]
    sim.report(job, "cleaned")
    assert decided(sim) == ["Place"]


def test_a_lost_attempt_is_cleaned_up_before_the_next_one() -> None:
    sim = a_simulation()
    job = running(sim, on_lost="requeue", publish=[8080])
    sim.report(job, "lost")
    assert decided(sim) == [] and reasons(sim, job) == ["cleanup"]
    sim.report(job, "cleaned")
    assert decided(sim) == ["Place"]


def test_the_pause_before_a_retry_is_waited_for() -> None:
    sim = a_simulation()
    job = running(sim, retry=Retry(most=1, backoff_s=100.0))
    sim.report(job, "exited", status=1)
    sim.report(job, "cleaned")
    assert reasons(sim, job) == ["begin"]
    assert sim.world.next_change() == sim.records[job].not_before
    sim.tick(100.0)
    assert decided(sim) == ["Place"]


def test_more_memory_is_another_demand() -> None:
    sim = a_simulation(memory_per_node=2 * GIB)
    retry = Retry(most=1, backoff_s=0.0, memory_factor=4.0, memory_most_bytes=2 * GIB)
    job = running(sim, memory=512 * MIB, retry=retry)
    other = running(sim, memory=512 * MIB)
    sim.report(job, "exited", status=137, cause="oom")
    sim.report(job, "cleaned")
    assert decided(sim) == [] and reasons(sim, job) == ["memory"]
    sim.report(other, "exited")
    sim.round()
    placement = sim.records[job].placement
    assert placement is not None and placement.memory_bytes == 2 * GIB


def test_one_warning_before_the_limit() -> None:
    sim = a_simulation()
    job = running(sim, time_limit_s=60.0, warn=Warn("USR1", 10.0))
    sim.tick(49.0)
    assert decided(sim) == []
    sim.tick(1.0)
    assert decided(sim) == ["Warn"]
    sim.round()
    assert sim.records[job].warned and decided(sim) == []
    sim.tick(10.0)
    assert decided(sim) == ["TimeUp"]


def test_one_warning_before_the_deadline() -> None:
    sim = a_simulation()
    job = running(sim, deadline=Moment(after_s=60.0), warn=Warn("USR1", 10.0))
    assert sim.world.next_change() == 1050.0
    sim.tick(50.0)
    assert decided(sim) == ["Warn"] and sim.world.next_change() == 1060.0
    sim.round()
    assert sim.records[job].warned and decided(sim) == [] and sim.world.next_change() == 1060.0
    sim.tick(10.0)
    assert decided(sim) == ["Overdue"]
    sim.round()
    assert decided(sim) == ["Stop"]
    sim.report(job, "exited", status=143)
    assert sim.records[job].state is State.TIMED_OUT


@pytest.mark.parametrize("hold", [True, False])
def test_who_waits_ends_when_its_time_limit_no_longer_fits(hold: bool) -> None:
    sim = a_simulation()
    running(sim, cpus=4)
    job = sim.submit(a_job(deadline=Moment(after_s=60.0), time_limit_s=20.0), hold=hold)
    sim.tick(39.0)
    assert decided(sim) == []
    assert sim.world.next_change() in (1040.0, 1000.0 + 3600.0)
    sim.tick(1.0)
    assert decided(sim) == ["Overdue"]
    sim.round()
    assert sim.records[job].state is State.TIMED_OUT


def test_too_late_is_not_started() -> None:
    """Not even in the round that ends it."""
    sim = a_simulation()
    job = sim.submit(a_job(deadline=Moment(at=1010.0)))
    sim.now = 1010.0
    assert decided(sim) == ["Overdue"]
    rebuilt = World.of(sim.capacity, [sim.records[job]], now=sim.now)
    assert rebuilt == sim.world


def test_a_frozen_job_is_ended_at_its_deadline() -> None:
    sim = a_simulation()
    job = running(sim, deadline=Moment(after_s=60.0), warn=Warn("USR1", 10.0))
    sim.happen(ev.PauseRequested(job, "owner"))
    sim.report(job, "frozen")
    sim.tick(55.0)
    assert decided(sim) == []
    sim.tick(5.0)
    assert decided(sim) == ["Overdue"]
