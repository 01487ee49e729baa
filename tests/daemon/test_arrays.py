"""Arrays and dependencies in the writer, on a real SQLite file: one entry or none, names as the batch sees them."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs import events as ev
from jobs.array import Array, parse_array
from jobs.errors import NoSuchJob, UserError, WrongState
from jobs.needs import Need, Outcome
from jobs.record import Record, State
from jobs.runs import count
from jobs.spec import Depends
from scheduler.resolving import BadNeed
from tests.builders import BOB, a_capacity, a_new_job, a_placement
from tests.fakes.daemon import Parts, parts

pytestmark = pytest.mark.anyio

TEN = parse_array("0-9%3")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def ended(daemon: Parts, task: Record, status: int = 0) -> None:
    execution = str(task.execution)
    assert await daemon.writer.report(ev.Started(task.job, execution, 1.0))
    assert await daemon.writer.report(ev.Exited(task.job, execution, status, "", 1.0, ev.Usage(), 2.0))
    assert await daemon.writer.report(ev.CleanedUp(task.job, execution))


async def test_an_array_is_one_event_and_a_task_three_in_one_entry(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        (array,) = await daemon.writer.submit([a_new_job(array=parse_array("0-99999"))])
        assert daemon.store.seq == 1 and len([event async for event in daemon.store.events()]) == 1
        task = await daemon.writer.begin_task(array, 7, a_placement(0))
        assert (task.job, task.written, task.state) == (2, "1_7", State.STARTING)
        found = [stored async for stored in daemon.store.events(after=1)]
        assert [(stored.seq, stored.event.kind, stored.event.job) for stored in found] == [
            (2, "task_begun", 1), (2, "task_made", 2), (2, "placed", 2),
        ]  # fmt: skip
        record = daemon.world.live[array]
        assert record.progress is not None and (record.progress.live, count(record.progress.pending)) == (1, 99_999)
        assert await daemon.store.task(array, 7) == task and await daemon.store.task(array, 8) is None
        assert await daemon.store.verify(everything=True) == 2


async def test_an_array_ends_with_its_last_task(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        (array,) = await daemon.writer.submit([a_new_job(array=parse_array("3,5"))])
        one = await daemon.writer.begin_task(array, 3, a_placement(0))
        two = await daemon.writer.begin_task(array, 5, a_placement(1))
        assert daemon.world.live[array].state is State.UNDERWAY
        await ended(daemon, one)
        assert daemon.world.live[array].state is State.UNDERWAY
        await ended(daemon, two, 7)
        record = await daemon.store.record(array)
        assert record is not None and (record.state, record.exit_status) == (State.FAILED, 7)
        assert record.reason == "1 of 2 tasks did not complete" and record.cleaned
        assert not daemon.world.live
        assert [task.written for task in await daemon.store.tasks(array)] == ["1_3", "1_5"]
        assert await daemon.store.verify(everything=True) > 0


async def test_a_task_that_cannot_begin_leaves_nothing(tmp_path: Path) -> None:
    async with parts(tmp_path, capacity=a_capacity(cpus_per_node=1)) as daemon:
        array, other = await daemon.writer.submit([a_new_job(array=TEN), a_new_job()])
        await daemon.writer.begin_task(array, 0, a_placement(0))
        before = await daemon.store.head()
        with pytest.raises(WrongState, match="CPU 0"):
            await daemon.writer.begin_task(array, 1, a_placement(0))
        with pytest.raises(WrongState, match="1_0 is not pending"):
            await daemon.writer.begin_task(array, 0, a_placement(0))
        with pytest.raises(WrongState, match="no task 99"):
            await daemon.writer.begin_task(array, 99, a_placement(0))
        with pytest.raises(WrongState, match="no array"):
            await daemon.writer.begin_task(other, 0, a_placement(0))
        with pytest.raises(NoSuchJob):
            await daemon.writer.begin_task(77, 0, a_placement(0))
        assert await daemon.store.head() == before
        (following,) = await daemon.writer.submit([a_new_job()])
        assert following == 4, "no id was used up"


async def test_a_cancelled_array_drops_what_is_pending_and_waits_for_the_rest(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        (array,) = await daemon.writer.submit([a_new_job(array=TEN)])
        task = await daemon.writer.begin_task(array, 0, a_placement(0))
        record = await daemon.writer.propose(array, lambda r: ev.CancelRequested(r.job, "owner", "TERM", 1.0, 1.0))
        assert record.state is State.UNDERWAY and record.progress is not None and not record.progress.pending
        await ended(daemon, task)
        last = await daemon.store.record(array)
        assert last is not None and last.state is State.CANCELLED


async def test_a_held_array_begins_nothing(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        (array,) = await daemon.writer.submit([a_new_job(array=TEN)])
        await daemon.writer.propose(array, lambda r: ev.PauseRequested(r.job, "owner"))
        with pytest.raises(WrongState, match="is held"):
            await daemon.writer.begin_task(array, 0, a_placement(0))
        assert (await daemon.writer.propose(array, lambda r: ev.HoldReleased(r.job, "owner"))).state is State.QUEUED


async def test_dropped_tasks_count_as_not_completed(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        (array,) = await daemon.writer.submit([a_new_job(array=parse_array("0-2"))])
        task = await daemon.writer.begin_task(array, 1, a_placement(0))
        record = await daemon.writer.propose(array, lambda r: ev.TasksDropped(r.job, (0, 2), "cancelled by owner", 1.0))
        assert record.state is State.UNDERWAY
        await ended(daemon, task)
        last = await daemon.store.record(array)
        assert last is not None and last.state is State.FAILED
        assert last.reason == "2 of 3 tasks did not complete; cancelled by owner"


# ── dependencies ────────────────────────────────────────────────────────────────────────────────────────────────────


def needs(daemon: Parts, job: int) -> tuple[Need, ...]:
    return daemon.world.live[job].needs


async def test_a_name_is_a_sibling_else_the_newest_job_of_that_name(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        await daemon.writer.submit([a_new_job(name="a"), a_new_job(name="a"), a_new_job(name="a", owner=BOB)])
        after = Depends(afterok=("a",))
        one, other = await daemon.writer.submit([a_new_job(name="b", depends=after), a_new_job(name="a")])
        assert needs(daemon, one) == (Need("afterok", 2, "a", state="queued"),)
        (later,) = await daemon.writer.submit([a_new_job(name="c", depends=after)])
        assert needs(daemon, later) == (Need("afterok", other, "a", state="queued"),)
        family = [a_new_job(name="a"), a_new_job(name="a"), a_new_job(name="d", depends=after, siblings=(("a", 0),))]
        ids = await daemon.writer.submit(family)
        assert needs(daemon, ids[2]) == (Need("afterok", ids[0], "a"),)


async def test_a_task_does_not_stand_for_its_array(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        (array,) = await daemon.writer.submit([a_new_job(name="a", array=TEN)])
        await daemon.writer.begin_task(array, 0, a_placement(0))
        (job,) = await daemon.writer.submit([a_new_job(name="b", depends=Depends(afterany=("a",)))])
        assert needs(daemon, job) == (Need("afterany", array, "a", Outcome.BEGUN, "queued"),)


async def test_what_had_become_of_it_is_told_at_submission(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        (array,) = await daemon.writer.submit([a_new_job(name="a", array=parse_array("0-2"))])
        for index, status in ((0, 0), (1, 1), (2, 0)):
            await ended(daemon, await daemon.writer.begin_task(array, index, a_placement(0)), status)
        assert array not in daemon.world.live
        spec = {"array": Array(((0, 2, 1),)), "depends": Depends(aftercorr=(array,))}
        (job,) = await daemon.writer.submit([a_new_job(name="b", **spec)])
        assert needs(daemon, job) == (Need("aftercorr", array, "a", Outcome.BAD, "failed", ((0, 0), (2, 2))),)
        assert await daemon.store.verify(everything=True) > 0


async def test_singletons_wait_for_all_of_their_name(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        alone = Depends(singleton=True)
        await daemon.writer.submit([a_new_job(name="s"), a_new_job(name="other"), a_new_job(name="s", owner=BOB)])
        jobs = await daemon.writer.submit([a_new_job(name="s", depends=alone), a_new_job(name="s", depends=alone)])
        assert [[need.job for need in needs(daemon, job)] for job in jobs] == [[1], [1, jobs[0]]]


@pytest.mark.parametrize(
    ("depends", "said"),
    [
        (Depends(afterok=("nobody",)), "depends.afterok: no job of yours is called 'nobody', and none in this file"),
        (Depends(after=(77,)), "depends.after: no job 77"),
        (Depends(after=(2,)), "depends.after: no job 2"),
        (Depends(aftercorr=(1,)), "depends.aftercorr: 'a' is no array; needs the same indexes as here, 0-9%3"),
    ],
)
async def test_a_job_to_wait_for_that_is_not_there_refuses_the_whole_submission(
    tmp_path: Path, depends: Depends, said: str
) -> None:
    async with parts(tmp_path) as daemon:
        await daemon.writer.submit([a_new_job(name="a"), a_new_job(name="of-bob", owner=BOB)])
        before = await daemon.store.head()
        with pytest.raises(BadNeed) as caught:
            await daemon.writer.submit([a_new_job(name="good"), a_new_job(name="b", array=TEN, depends=depends)])
        assert str(caught.value) == said and isinstance(caught.value, UserError)
        assert await daemon.store.head() == before
        if depends.after == (2,):
            (job,) = await daemon.writer.submit([a_new_job(depends=depends, operates=True)])
            assert needs(daemon, job)[0].job == 2, "an operator may wait for anybody"
