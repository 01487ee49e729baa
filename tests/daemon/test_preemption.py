"""Room for a more urgent job, through writer, journal and loop; and a daemon that is killed between any two steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs import events as ev
from jobs.record import Record, State
from jobs.verdict import NotNow
from scheduler.sampling import Sampling
from tests.builders import GIB, MIB, a_capacity, a_new_job
from tests.fakes.clock import FakeClock
from tests.fakes.daemon import Parts, parts

pytestmark = pytest.mark.anyio
REST_S = 3600.0  # longer than any rest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def record_of(daemon: Parts, job: int) -> Record:
    found = await daemon.store.record(job)
    assert found is not None
    return found


async def a_running_job(daemon: Parts, **spec: object) -> int:
    (job,) = await daemon.writer.submit([a_new_job(at=daemon.clock.wall(), **spec)])  # type: ignore[arg-type]
    await daemon.until_idle()
    await daemon.writer.report(ev.Started(job, f"{job}.0.1", daemon.clock.wall(), freezer="v2"))
    return job


async def full_of_long_jobs(daemon: Parts) -> list[int]:
    jobs = [await a_running_job(daemon, cpus=1, priority=10) for _ in range(2)]
    daemon.clock.advance(REST_S)
    return jobs


async def urgent(daemon: Parts, cpus: int = 1, **spec: object) -> int:
    (job,) = await daemon.writer.submit([a_new_job(cpus=cpus, priority=90, at=daemon.clock.wall(), **spec)])  # type: ignore[arg-type]
    return job


HOST = a_capacity(cpus_per_node=2)


async def test_the_urgent_job_gets_the_cpus_of_the_less_urgent_which_comes_back(tmp_path: Path) -> None:
    async with parts(tmp_path, capacity=HOST, clock=FakeClock()) as daemon:
        long = await full_of_long_jobs(daemon)
        job = await urgent(daemon)
        await daemon.until_idle()
        (verb, victim) = daemon.node.verbs[-1]
        assert verb == "freeze" and victim in long
        assert (await record_of(daemon, victim)).preempted_by == job
        verdict = daemon.loop.verdict(job)
        assert isinstance(verdict, NotNow) and verdict.reasons[0].blockers == (victim,)
        later = await urgent(daemon, hold=False)
        await daemon.writer.propose(later, lambda record: ev.PriorityChanged(later, urgency=5))
        await daemon.node.frozen(daemon.writer, victim)
        await daemon.until_idle()
        assert daemon.node.verbs[-1] == ("start", job), "the room is not for whoever comes first"
        assert isinstance(daemon.loop.verdict(victim), NotNow)
        await daemon.node.started(daemon.writer, job)
        await daemon.node.exited(daemon.writer, job)
        await daemon.until_idle()
        assert daemon.node.verbs[-1] == ("thaw", victim), "before anybody less urgent starts"
        assert (await record_of(daemon, victim)).preempted_by == 0


async def test_a_freeze_that_fails_is_not_tried_again_at_once(tmp_path: Path) -> None:
    async with parts(tmp_path, capacity=HOST, clock=FakeClock()) as daemon:
        await full_of_long_jobs(daemon)
        await urgent(daemon)
        await daemon.until_idle()
        first = daemon.node.verbs[-1][1]
        await daemon.writer.report(ev.FreezeFailed(first, f"{first}.0.1", "in D state", 5.0, 0.0))
        await daemon.until_idle()
        assert daemon.node.verbs[-1][0] == "freeze" and daemon.node.verbs[-1][1] != first, "the other one is taken"


async def test_an_owners_pause_outlives_the_reason_of_the_scheduler(tmp_path: Path) -> None:
    async with parts(tmp_path, capacity=HOST, clock=FakeClock()) as daemon:
        await full_of_long_jobs(daemon)
        job = await urgent(daemon)
        await daemon.until_idle()
        victim = daemon.node.verbs[-1][1]
        await daemon.writer.propose(victim, lambda record: ev.PauseRequested(victim, "owner"))
        await daemon.node.frozen(daemon.writer, victim)
        await daemon.until_idle()
        await daemon.node.started(daemon.writer, job)
        await daemon.node.exited(daemon.writer, job)
        await daemon.until_idle()
        assert (await record_of(daemon, victim)).state is State.FROZEN
        await daemon.writer.propose(victim, lambda record: ev.ResumeRequested(victim, "owner"))
        await daemon.until_idle()
        assert daemon.node.verbs[-1] == ("thaw", victim)


async def test_a_rest_that_is_over_is_a_time_to_look_again(tmp_path: Path) -> None:
    async with parts(tmp_path, capacity=HOST, clock=FakeClock()) as daemon:
        for _ in range(2):
            await a_running_job(daemon, cpus=1, priority=10)
        job = await urgent(daemon)
        await daemon.until_idle()
        assert "freeze" not in [verb for verb, _ in daemon.node.verbs], "they have only begun"
        until = daemon.world.next_change()
        assert until is not None and until > daemon.clock.wall()
        daemon.clock.advance(until - daemon.clock.wall())
        await daemon.until_idle()
        assert daemon.node.verbs[-1][0] == "freeze"
        assert (await record_of(daemon, daemon.node.verbs[-1][1])).preempted_by == job


async def large_and_lazy(daemon: Parts) -> list[int]:
    """Two jobs that may take 3 GiB each, of the host's 8, and keep little; an urgent one that wants 4."""
    long = [await a_running_job(daemon, cpus=1, priority=10, memory=3 * GIB) for _ in range(2)]
    daemon.clock.advance(REST_S)  # type: ignore[attr-defined]
    await urgent(daemon, cpus=2, memory=4 * GIB)
    await daemon.until_idle()
    assert "freeze" not in [verb for verb, _ in daemon.node.verbs], "for all that is known they keep all that they may"
    daemon.node.resident = dict.fromkeys(long, 64 * MIB)
    sampling = Sampling(daemon.world, daemon.node, daemon.clock, daemon.loop.wake)  # type: ignore[arg-type]
    assert await sampling.look() and not await sampling.look(), "the second time nothing is news"
    await daemon.until_idle()
    assert sorted(daemon.node.verbs[-2:]) == [("freeze", job) for job in long]
    return long


async def test_what_victims_keep_counts_and_not_what_they_may_take(tmp_path: Path) -> None:
    async with parts(tmp_path, capacity=HOST, clock=FakeClock()) as daemon:
        long = await large_and_lazy(daemon)
        counted = [each.event async for each in daemon.store.events() if isinstance(each.event, ev.Preempted)]
        assert [event.resident_bytes for event in counted] == [64 * MIB] * 2, "what was counted on can be read later"
        for job in long:
            await daemon.node.frozen(daemon.writer, job, resident=64 * MIB)
        await daemon.until_idle()
        assert daemon.node.verbs[-1] == ("start", 3)


async def test_who_grew_until_it_stood_still_comes_back_and_is_not_asked_again(tmp_path: Path) -> None:
    async with parts(tmp_path, capacity=HOST, clock=FakeClock()) as daemon:
        long = await large_and_lazy(daemon)
        for job in long:
            await daemon.node.frozen(daemon.writer, job, resident=3 * GIB)
        await daemon.until_idle()
        assert sorted(daemon.node.verbs[-2:]) == [("thaw", job) for job in long]
        for job in long:
            await daemon.node.thawed(daemon.writer, job)
        daemon.clock.advance(REST_S)  # type: ignore[attr-defined]
        await daemon.until_idle()
        assert [verb for verb, _ in daemon.node.verbs].count("freeze") == 2


@pytest.mark.parametrize("killed_after", range(5))
async def test_a_daemon_killed_in_between_goes_on(tmp_path: Path, killed_after: int) -> None:
    """Steps: nothing but the submission; preempted; told; frozen; placed. The next daemon brings it to the same end."""
    clock = FakeClock()
    async with parts(tmp_path, capacity=HOST, clock=clock) as daemon:
        long = await full_of_long_jobs(daemon)
        job = await urgent(daemon)
        if killed_after:
            freeze, daemon.node.freeze = daemon.node.freeze, (lambda record: None)  # type: ignore[method-assign]
            if killed_after > 1:
                daemon.node.freeze = freeze  # type: ignore[method-assign]
            await daemon.loop.round()
        victims = [one for one in long if (await record_of(daemon, one)).preempted_by]
        if killed_after > 2:
            await daemon.node.frozen(daemon.writer, victims[0])
        if killed_after > 3:
            await daemon.loop.round()
    async with parts(tmp_path, capacity=HOST, clock=clock) as daemon:
        await daemon.until_idle()
        victims = [one for one in long if (await record_of(daemon, one)).preempted_by]
        assert len(victims) == 1
        if killed_after < 3:
            assert daemon.node.verbs == [("freeze", victims[0])]
            await daemon.node.frozen(daemon.writer, victims[0])
            await daemon.until_idle()
        assert ("start", job) in daemon.node.verbs
        await daemon.node.started(daemon.writer, job)
        await daemon.node.exited(daemon.writer, job)
        await daemon.until_idle()
        assert daemon.node.verbs[-1] == ("thaw", victims[0])
