"""The loop with a real writer and store: commit first, then the node; each verb told once; time limits; full disks."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from jobs import events as ev
from jobs.record import Record, State
from jobs.spec import Moment, Warn
from jobs.verdict import NotNow
from scheduler.journal.database import DiskFull
from scheduler.loop import GAP_S, RETRY_S
from tests.builders import GIB, a_capacity, a_new_job
from tests.fakes.clock import FakeClock
from tests.fakes.daemon import Parts, parts

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def pause(daemon: Parts, job: int, *, keep_cpus: bool = False) -> None:
    await daemon.writer.propose(job, lambda record: ev.PauseRequested(job, "owner", keep_cpus))


async def resume(daemon: Parts, job: int) -> None:
    await daemon.writer.propose(job, lambda record: ev.ResumeRequested(job, "owner"))


async def cancel(daemon: Parts, job: int) -> None:
    await daemon.writer.propose(job, lambda record: ev.CancelRequested(job, "owner", "TERM", 30.0, 0.0))


async def a_running_job(daemon: Parts, **spec: object) -> int:
    (job,) = await daemon.writer.submit([a_new_job(**spec)])  # type: ignore[arg-type]
    await daemon.until_idle()
    await daemon.node.started(daemon.writer, job)
    return job


async def test_a_placement_is_committed_before_the_node_hears_of_it(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        await daemon.writer.submit([a_new_job(cpus=2)])
        on_disk: list[str] = []

        def start(record: Record) -> None:
            with sqlite3.connect(f"file:{tmp_path}/journal.db?mode=ro", uri=True) as other:
                on_disk.append(other.execute("SELECT state FROM job WHERE job = 1").fetchone()[0])
            assert record.placement is not None and record.placement.cpus == (0, 1)

        daemon.node.start = start  # type: ignore[method-assign]
        await daemon.loop.round()
        assert on_disk == ["starting"]


async def test_each_verb_is_told_once(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        job = await a_running_job(daemon)
        await pause(daemon, job)
        for _ in range(3):
            await daemon.loop.round()
        assert daemon.node.verbs == [("start", 1), ("freeze", 1)]
        await daemon.node.frozen(daemon.writer, job)
        await resume(daemon, job)
        for _ in range(3):
            await daemon.loop.round()
        assert daemon.node.verbs[2:] == [("thaw", 1)]
        await daemon.node.thawed(daemon.writer, job)
        await daemon.until_idle()
        assert daemon.node.verbs[3:] == []


async def test_a_second_pause_after_a_failed_one_is_told_again(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        job = await a_running_job(daemon)
        await pause(daemon, job)
        await daemon.until_idle()
        await daemon.writer.report(ev.FreezeFailed(job, "1.0.1", "in D state", 5.0, 0.0))
        await pause(daemon, job)  # before any round saw the failure
        await daemon.until_idle()
        assert daemon.node.verbs == [("start", 1), ("freeze", 1), ("freeze", 1)]


async def test_a_pause_while_starting_freezes_as_soon_as_it_runs(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        (job,) = await daemon.writer.submit([a_new_job()])
        await daemon.until_idle()
        await pause(daemon, job)
        await daemon.until_idle()
        assert daemon.node.verbs == [("start", 1)]
        await daemon.node.started(daemon.writer, job)
        await daemon.until_idle()
        assert daemon.node.verbs == [("start", 1), ("freeze", 1)]


async def test_what_a_frozen_job_gave_back_is_used_and_it_waits_for_room(tmp_path: Path) -> None:
    async with parts(tmp_path, capacity=a_capacity(cpus_per_node=2)) as daemon:
        first = await a_running_job(daemon, cpus=2)
        (second,) = await daemon.writer.submit([a_new_job(cpus=2)])
        await daemon.until_idle()
        verdict = daemon.loop.verdict(second)
        assert isinstance(verdict, NotNow) and verdict.reasons[0].blockers == (first,)
        await pause(daemon, first)
        await daemon.until_idle()
        await daemon.node.frozen(daemon.writer, first)
        await daemon.until_idle()
        await daemon.node.started(daemon.writer, second)
        await resume(daemon, first)
        await daemon.until_idle()
        verdict = daemon.loop.verdict(first)
        assert isinstance(verdict, NotNow) and verdict.reasons[0].blockers == (second,)
        await daemon.node.exited(daemon.writer, second)
        await daemon.until_idle()
        assert daemon.node.verbs == [("start", 1), ("freeze", 1), ("start", 2), ("thaw", 1)]
        assert daemon.loop.verdict(first) is None, "it has what it waited for"


async def test_a_stop_is_told_once_and_again_when_it_is_stronger(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        job = await a_running_job(daemon)
        await cancel(daemon, job)
        await daemon.until_idle()
        await daemon.writer.propose(job, lambda record: ev.PriorityChanged(job, urgency=1))
        await daemon.until_idle()
        assert daemon.node.verbs == [("start", 1), ("stop", 1)], "the signal is not repeated"
        await daemon.writer.propose(job, lambda record: ev.CancelRequested(job, "owner", "KILL", 0.0, 0.0))
        await daemon.until_idle()
        assert daemon.node.verbs == [("start", 1), ("stop", 1), ("stop", 1)]


async def test_a_frozen_job_that_is_cancelled_gets_cpus_for_its_signal_or_is_killed(tmp_path: Path) -> None:
    async with parts(tmp_path, capacity=a_capacity(cpus_per_node=2)) as daemon:
        first = await a_running_job(daemon, cpus=2)
        await pause(daemon, first)
        await daemon.until_idle()
        await daemon.node.frozen(daemon.writer, first)
        second = await a_running_job(daemon, cpus=2)
        await cancel(daemon, first)
        await daemon.until_idle()
        assert daemon.node.verbs[-1] == ("stop", first)
        assert daemon.node.records[first].placement is None  # the node kills at once
        await daemon.node.exited(daemon.writer, first, status=137, cause="cancelled")

        await pause(daemon, second)
        await daemon.until_idle()
        await daemon.node.frozen(daemon.writer, second)
        await cancel(daemon, second)
        await daemon.until_idle()
        assert daemon.node.verbs[-2:] == [("thaw", second), ("stop", second)]
        assert daemon.node.records[second].placement is not None


async def test_weights_are_told_to_the_node_frozen_or_not(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        job = await a_running_job(daemon)

        async def weight(value: int) -> None:
            await daemon.writer.propose(job, lambda record: ev.PriorityChanged(job, cpu_weight=value))
            await daemon.until_idle()

        await weight(7)
        assert daemon.node.verbs[-1] == ("reprioritise", job) and daemon.node.records[job].cpu_weight == 7
        await pause(daemon, job)
        await daemon.until_idle()
        await daemon.node.frozen(daemon.writer, job)
        await weight(9)
        assert daemon.node.verbs == [("start", 1), ("reprioritise", 1), ("freeze", 1), ("reprioritise", 1)]


async def test_after_a_restart_everything_is_told_again(tmp_path: Path) -> None:
    async with parts(tmp_path, capacity=a_capacity(cpus_per_node=8)) as daemon:
        one, two = await a_running_job(daemon), await a_running_job(daemon)
        await pause(daemon, one)
        await cancel(daemon, two)
        await daemon.writer.submit([a_new_job()])
        await daemon.until_idle()
        world = daemon.world
    async with parts(tmp_path, capacity=a_capacity(cpus_per_node=8)) as daemon:
        assert daemon.world == world
        await daemon.until_idle()
        assert daemon.node.verbs == [("freeze", one), ("stop", two), ("start", 3)]


async def test_the_time_limit_counts_running_time_only(tmp_path: Path) -> None:
    clock = FakeClock()
    async with parts(tmp_path, clock=clock, run_loop=True) as daemon:
        (job,) = await daemon.writer.submit([a_new_job(time_limit_s=60.0)])
        await quiet(daemon, clock)
        await daemon.node.started(daemon.writer, job)
        clock.advance(59.0)
        daemon.node.ran[job] = 40.0  # it was frozen in between
        await quiet(daemon, clock)
        assert daemon.node.verbs == [("start", job)]
        daemon.node.ran[job] = 60.0
        clock.advance(20.0)  # the loop's own timer, nobody wakes it
        await quiet(daemon, clock)
        assert daemon.node.verbs == [("start", job), ("stop", job)]
        record = await daemon.store.record(job)
        assert record is not None and record.cancel is not None
        assert (record.cancel.by, record.cancel.signal, record.cancel.grace_s) == ("time_limit", "TERM", 30.0)
        await daemon.node.exited(daemon.writer, job, status=143, cause="time_limit")
        record = await daemon.store.record(job)
        assert record is not None and record.state is State.TIMED_OUT


WARNED = {"warn": Warn("USR2", before_s=10.0)}
BY_LIMIT, BY_DEADLINE = {"time_limit_s": 60.0}, {"deadline": Moment(after_s=60.0)}


@pytest.mark.parametrize(("end", "by"), [(BY_LIMIT, "time_limit"), (BY_DEADLINE, "deadline")])
async def test_a_warning_is_told_once_and_then_the_end(tmp_path: Path, end: dict[str, object], by: str) -> None:
    clock = FakeClock()
    async with parts(tmp_path, clock=clock, run_loop=True) as daemon:
        (job,) = await daemon.writer.submit([a_new_job(at=clock.wall(), **WARNED, **end)])
        await quiet(daemon, clock)
        await daemon.node.started(daemon.writer, job)
        clock.advance(49.0)
        daemon.node.ran[job] = 49.0
        await quiet(daemon, clock)
        assert daemon.node.verbs == [("start", job)]
        for _ in range(2):
            clock.advance(1.0)
            daemon.node.ran[job] += 1.0
            await quiet(daemon, clock)
            assert daemon.node.verbs == [("start", job), ("warn", job)]
        await daemon.node.warned(daemon.writer, job)
        clock.advance(9.0)
        daemon.node.ran[job] += 9.0
        await quiet(daemon, clock)
        assert daemon.node.verbs == [("start", job), ("warn", job), ("stop", job)]
        record = await record_of(daemon, job)
        assert record.warned and record.cancel is not None and record.cancel.by == by


async def test_who_waits_until_its_deadline_cannot_be_met_ends(tmp_path: Path) -> None:
    clock = FakeClock()
    async with parts(tmp_path, capacity=a_capacity(cpus_per_node=1), clock=clock, run_loop=True) as daemon:
        for spec in ({}, {**BY_LIMIT, "deadline": Moment(after_s=100.0)}):
            await daemon.writer.submit([a_new_job(at=clock.wall(), **spec)])  # type: ignore[arg-type]
        await quiet(daemon, clock)
        clock.advance(39.0)
        await quiet(daemon, clock)
        assert (await record_of(daemon, 2)).state is State.QUEUED
        clock.advance(1.0)
        await quiet(daemon, clock)
        record = await record_of(daemon, 2)
        assert record.state is State.TIMED_OUT and "before its deadline" in record.reason


@pytest.mark.parametrize("end", [BY_LIMIT, BY_DEADLINE])
async def test_a_daemon_killed_between_the_signal_and_its_report_warns_again(
    tmp_path: Path, end: dict[str, object]
) -> None:
    clock = FakeClock()
    async with parts(tmp_path, clock=clock) as daemon:
        (job,) = await daemon.writer.submit([a_new_job(at=clock.wall(), **WARNED, **end)])
        await daemon.until_idle()
        await daemon.node.started(daemon.writer, job)
        clock.advance(50.0)
        daemon.node.ran[job] = 50.0
        await daemon.until_idle()
        assert daemon.node.verbs[-1] == ("warn", job), "sent, and nobody was told"
    for reported in (False, True):
        async with parts(tmp_path, clock=clock) as daemon:
            daemon.node.ran[job] = 50.0
            await daemon.until_idle()
            assert daemon.node.verbs == ([] if reported else [("warn", job)])
            if not reported:
                await daemon.node.warned(daemon.writer, job)
                assert (await record_of(daemon, job)).warned


async def record_of(daemon: Parts, job: int) -> Record:
    found = await daemon.store.record(job)
    assert found is not None
    return found


async def quiet(daemon: Parts, clock: FakeClock) -> None:
    """Lets the loop run until it rests, giving it its gaps and nothing more."""
    resting = 0
    while resting < 3:
        resting = resting + 1 if daemon.loop.phase == "rest" else 0
        if daemon.loop.phase == "gap":
            clock.advance(GAP_S)
        await daemon.store.head()  # to the database's thread and back: everyone else gets a turn


class SlowClock(FakeClock):
    """Each look at it takes 5 ms, so each round seems to take that long."""

    def monotonic(self) -> float:
        self._monotonic += 0.005
        return self._monotonic


async def test_events_are_coalesced_into_one_round_per_gap(tmp_path: Path) -> None:
    clock = SlowClock()
    async with parts(tmp_path, clock=clock, run_loop=True) as daemon:
        await quiet(daemon, clock)
        before = daemon.loop.rounds
        for _ in range(30):
            await daemon.writer.submit([a_new_job(hold=True)])  # 30 commits, and time stands still
        assert daemon.loop.rounds <= before + 1
        await quiet(daemon, clock)
        assert before + 1 <= daemon.loop.rounds <= before + 2


async def test_a_short_round_delays_nobody(tmp_path: Path) -> None:
    clock = FakeClock()  # deciding takes no time, and time stands still
    async with parts(tmp_path, clock=clock, run_loop=True) as daemon:
        for job in range(1, 5):
            await daemon.writer.submit([a_new_job()])
            while daemon.node.verbs[-1:] != [("start", job)]:
                await daemon.store.head()


async def test_a_stale_decision_is_dropped(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        await daemon.writer.submit([a_new_job()])
        async with anyio.create_task_group() as tasks:  # the hold is committed while the round proposes the placement
            tasks.start_soon(pause, daemon, 1)
            await anyio.lowlevel.checkpoint()
            await daemon.loop.round()
        record = await daemon.store.record(1)
        assert record is not None and record.state is State.HELD
        assert daemon.node.verbs == []


async def test_a_decision_on_an_older_record_is_dropped_even_where_it_would_be_legal(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        await daemon.writer.submit([a_new_job()])

        async def less_urgent() -> None:
            await daemon.writer.propose(1, lambda record: ev.PriorityChanged(1, urgency=1))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(less_urgent)
            await anyio.lowlevel.checkpoint()
            await daemon.loop.round()
        assert daemon.node.verbs == [], "the order may be another one now"
        await daemon.loop.round()
        assert daemon.node.verbs == [("start", 1)]


async def test_a_round_that_finds_no_space_is_tried_again(tmp_path: Path) -> None:
    clock = FakeClock()
    async with parts(tmp_path, clock=clock, run_loop=True) as daemon:
        (job,) = await daemon.writer.submit([a_new_job(time_limit_s=60.0)])
        await quiet(daemon, clock)
        await daemon.node.started(daemon.writer, job)
        await quiet(daemon, clock)
        await _most_pages(daemon, full=True)
        for small in (lambda record: ev.PriorityChanged(job, urgency=record.urgency % 100 + 1),
                      lambda record: ev.ResumeRequested(job, "owner")):  # fmt: skip
            with pytest.raises(DiskFull):
                while True:  # what the last pages still hold
                    await daemon.writer.propose(job, small)
        await quiet(daemon, clock)
        daemon.node.ran[job] = 60.0
        clock.advance(60.0)
        await quiet(daemon, clock)
        assert daemon.node.verbs == [("start", job)], "the end of its time could not be written"
        await _most_pages(daemon, full=False)
        clock.advance(RETRY_S)
        await quiet(daemon, clock)
        assert daemon.node.verbs == [("start", job), ("stop", job)]


async def _most_pages(daemon: Parts, *, full: bool) -> None:
    """As on a full disk: the file can't grow."""
    connection = daemon.store._writing
    assert connection is not None
    await connection.execute(f"PRAGMA max_page_count = {1 if full else 1 << 30}")


async def test_verdicts_of_what_is_not_waiting(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        job = await a_running_job(daemon, memory=GIB)
        assert daemon.loop.verdict(job) is None
        assert daemon.loop.verdict(99) is None
