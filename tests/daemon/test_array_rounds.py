"""Arrays and dependencies through rounds: real loop, writer and store, a fake node; with restarts in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs import events as ev
from jobs.array import parse_array
from jobs.record import Record, State
from jobs.spec import Depends
from jobs.verdict import NotNow
from tests.builders import a_capacity, a_job, a_new_job
from tests.fakes.daemon import Parts, parts
from tests.fakes.simulation import Simulation

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def settle(daemon: Parts, *, status: int = 0) -> list[Record]:
    """Rounds until nothing new begins; then whatever began ends with this status. Gives what began."""
    await daemon.until_idle()
    begun = [record for record in daemon.world.active.values() if record.state is State.STARTING]
    for record in begun:
        execution = str(record.execution)
        await daemon.writer.report(ev.Started(record.job, execution, 1.0))
        await daemon.writer.report(ev.Exited(record.job, execution, status, "", 1.0, ev.Usage(), 2.0))
        await daemon.writer.report(ev.CleanedUp(record.job, execution))
    return begun


async def state(daemon: Parts, job: int) -> str:
    record = await daemon.store.record(job)
    assert record is not None
    return str(record.state)


async def test_an_array_runs_as_many_at_once_as_it_may(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        (array,) = await daemon.writer.submit([a_new_job(array=parse_array("0-9%3"))])
        waves = []
        while begun := await settle(daemon):
            waves.append([task.index for task in begun])
        assert waves == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
        assert await state(daemon, array) == "completed"
        assert ("start", array) not in daemon.node.verbs and len(daemon.node.verbs) == 10
        assert await daemon.store.verify(everything=True) > 0


async def test_a_restart_goes_on_where_the_array_was(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        (array,) = await daemon.writer.submit([a_new_job(array=parse_array("0-4%2"))])
        await settle(daemon)
        await daemon.until_idle()
        assert sorted(record.index for record in daemon.world.active.values()) == [2, 3]
    async with parts(tmp_path) as daemon:
        assert [task.index for task in await settle(daemon)] == [2, 3], "told again"
        assert [task.index for task in await settle(daemon, status=1)] == [4]
        record = await daemon.store.record(array)
        assert record is not None and (record.state, record.exit_status) == (State.FAILED, 1)


async def test_why_an_array_waits(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        (array,) = await daemon.writer.submit([a_new_job(array=parse_array("0-9%3"))])
        await daemon.until_idle()
        verdict = daemon.loop.verdict(array)
        assert isinstance(verdict, NotNow)
        assert [str(reason) for reason in verdict.reasons] == ["3 tasks of this array live, at most 3 at once"]


async def test_a_dag_runs_in_its_order(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        family = [
            a_new_job(name="prepare"),
            a_new_job(name="left", depends=Depends(afterok=("prepare",)), siblings=(("prepare", 0),)),
            a_new_job(name="right", depends=Depends(afterok=("prepare",)), siblings=(("prepare", 0),)),
            a_new_job(name="join", depends=Depends(afterok=("left", "right")), siblings=(("left", 1), ("right", 2))),
        ]
        await daemon.writer.submit(family)
        await daemon.until_idle()
        verdict = daemon.loop.verdict(4)
        assert isinstance(verdict, NotNow) and verdict.reasons[0].dimension == "dependency"
        assert str(verdict.reasons[0]) == "waits for afterok left, afterok right, held by job 2, job 3"
        waves = []
        while begun := await settle(daemon):
            waves.append([record.spec.name for record in begun])
        assert waves == [["prepare"], ["left", "right"], ["join"]]


async def test_what_was_waited_for_ended_before_the_restart(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        await daemon.writer.submit([a_new_job(name="a")])
        after = Depends(afterok=("a",))
        await daemon.writer.submit([a_new_job(name="b", depends=after, hold=True), a_new_job(name="c", depends=after)])
        assert [record.spec.name for record in await settle(daemon)] == ["a"]
    async with parts(tmp_path) as daemon:
        assert 1 not in daemon.world.live
        await daemon.writer.propose(2, lambda record: ev.HoldReleased(2, "owner"))
        assert sorted(record.spec.name for record in await settle(daemon)) == ["b", "c"]


async def test_a_job_whose_dependency_can_never_hold_is_cancelled_and_so_is_who_waits_for_it(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        await daemon.writer.submit([a_new_job(name="a")])
        await daemon.writer.submit([a_new_job(name="b", depends=Depends(afterok=("a",)))])
        await daemon.writer.submit([a_new_job(name="c", depends=Depends(afterok=("b",)), hold=True)])
        await daemon.writer.submit([a_new_job(name="d", depends=Depends(afterok=("a",), on_never="wait"))])
        await daemon.writer.submit([a_new_job(name="e", depends=Depends(afternotok=("b",)))])
        await settle(daemon, status=1)
        assert [record.spec.name for record in await settle(daemon)] == []
        await daemon.until_idle()
        assert [await state(daemon, job) for job in (2, 3, 4)] == ["cancelled", "cancelled", "queued"]
        record = await daemon.store.record(2)
        assert record is not None
        assert record.reason == "job 1 (a) failed; it waited for its success" and record.cleaned
        verdict = daemon.loop.verdict(4)
        assert isinstance(verdict, NotNow) and "can never hold" in str(verdict.reasons[0])
        assert [record.spec.name for record in daemon.world.active.values()] == ["e"]
        assert await daemon.store.verify(everything=True) > 0


async def test_tasks_follow_their_counterparts(tmp_path: Path) -> None:
    async with parts(tmp_path, capacity=a_capacity(cpus_per_node=8)) as daemon:
        await daemon.writer.submit([a_new_job(name="one", array=parse_array("0-3%2"))])
        two = Depends(aftercorr=("one",))
        await daemon.writer.submit([a_new_job(name="two", array=parse_array("0-3"), depends=two)])
        assert [record.written for record in await settle(daemon)] == ["1_0", "1_1"]
        assert sorted(record.written for record in await settle(daemon, status=1)) == ["1_2", "1_3", "2_0", "2_1"]
        await daemon.until_idle()
        record = await daemon.store.record(2)
        assert record is not None and record.state is State.FAILED
        assert record.reason == "4 of 4 tasks did not complete; tasks 2-3 of what they waited for did not complete"


# ── by one round ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_job_is_as_urgent_as_who_waits_for_it() -> None:
    sim = Simulation(a_capacity(cpus_per_node=1))
    first, low = sim.submit(a_job(priority=40)), sim.submit(a_job(priority=10))
    middle = sim.submit(a_job(priority=5), needs=[("afterany", low)])
    assert [action.job for action in sim.decide().actions] == [first]
    urgent = sim.submit(a_job(priority=90), needs=[("afterok", middle)])
    assert [action.job for action in sim.decide().actions] == [low], "passed on through the one in the middle"
    sim.happen(ev.CancelRequested(urgent, "owner", "TERM", 1.0, 0.0))
    assert [action.job for action in sim.decide().actions] == [first]
    sim.happen(ev.PriorityChanged(middle, urgency=80))
    assert [action.job for action in sim.decide().actions] == [low]


def test_tasks_of_one_round_take_nothing_from_a_claim() -> None:
    sim = Simulation(a_capacity(cpus_per_node=4))
    sim.submit(a_job(cpus=2, time_limit_s=100.0))
    sim.round()
    sim.settle()
    wide = sim.submit(a_job(cpus=3, time_limit_s=100.0, priority=60))
    sim.submit(a_job(cpus=1, time_limit_s=1000.0, array=parse_array("0-9")))
    actions = [action for action in sim.decide().actions if action.job != 1]
    assert len(actions) == 1, "a second one would be in the way when the wide job has its CPUs"
    assert sim.decide().expected_start(wide) is not None
