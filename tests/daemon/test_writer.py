"""The writer on a real SQLite file: answers after the commit, once, in batches, whatever is cancelled or refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from jobs import events as ev
from jobs.errors import Conflict, HostError, NoSuchJob, NotAllowed, Unavailable, UserError, WrongState
from jobs.policy import Policy, Queue
from jobs.record import Record, State
from scheduler.journal.database import DiskFull
from scheduler.store import Store
from scheduler.writer import RETRY_S, Writer
from tests.builders import BOB, a_capacity, a_new_job, a_placement
from tests.fakes.clock import FakeClock
from tests.fakes.daemon import parts

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_an_answer_means_committed(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        ids = await daemon.writer.submit([a_new_job(name="one", digest="d", toml=b"x = 1"), a_new_job(name="two")])
        assert ids == [1, 2]
        # A second process sees it at once.
        other = Store(str(tmp_path / "journal.db"))
        await other.open()
        assert [record.spec.name for record in await other.records()] == ["one", "two"]
        assert await other.spec_text("d") == b"x = 1"
        await other.close()


async def test_a_repeated_request_is_one_submission(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        jobs = [a_new_job(request_id="r"), a_new_job(request_id="r"), a_new_job(request_id="s")]
        assert await daemon.writer.submit(jobs) == [1, 2, 3]
        before = await daemon.store.head()
        assert await daemon.writer.submit(jobs) == [1, 2, 3]
        assert await daemon.store.head() == before, "nothing was written"
        assert await daemon.writer.submit([a_new_job(request_id="r", owner=BOB)]) == [4], "ids are each user's own"
        assert await daemon.writer.submit([a_new_job(request_id="s"), a_new_job(request_id="s")]) == [3, 5]
    async with parts(tmp_path) as daemon:
        assert await daemon.writer.submit(jobs) == [1, 2, 3], "after a restart too"


async def test_a_request_that_is_repeated_while_the_first_is_under_way(tmp_path: Path) -> None:
    found: list[list[int]] = []
    async with parts(tmp_path) as daemon, anyio.create_task_group() as tasks:

        async def submit() -> None:
            found.append(await daemon.writer.submit([a_new_job(request_id="r")]))

        for _ in range(5):
            tasks.start_soon(submit)
    assert found == [[1]] * 5


async def test_what_queues_up_is_one_entry(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        async with anyio.create_task_group() as tasks:
            for _ in range(40):
                tasks.start_soon(daemon.writer.submit, [a_new_job()])
        assert len(await daemon.store.records()) == 40
        assert daemon.store.seq <= 2
        assert await daemon.store.verify(everything=True) == daemon.store.seq


async def test_a_large_submission_is_split_into_entries_of_one_transaction(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        await daemon.writer.submit([a_new_job(script="x" * 100_000) for _ in range(7)])
        assert daemon.store.seq == 4  # two of them fit in 256 KiB
        assert [stored.seq async for stored in daemon.store.events()] == [1, 1, 2, 2, 3, 3, 4]
        await daemon.store.verify(everything=True)


async def test_a_spec_that_fits_no_entry_is_refused_and_nothing_kept(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        with pytest.raises(UserError, match="too large"):
            await daemon.writer.submit([a_new_job(request_id="r"), a_new_job(script="x" * 300_000, request_id="r")])
        assert await daemon.store.records() == []
        assert await daemon.writer.submit([a_new_job(request_id="r")]) == [1]


async def test_proposals_see_the_newest_record_and_are_checked(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        await daemon.writer.submit([a_new_job()])
        seen: list[int] = []

        def pause(record: Record) -> ev.Event | None:
            seen.append(record.version)
            return ev.PauseRequested(record.job, "owner") if record.state is State.QUEUED else None

        results: list[Record] = []

        async def propose() -> None:
            results.append(await daemon.writer.propose(1, pause))

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(propose)
        assert seen == [1, 2, 2]
        assert {record.version for record in results} == {2}
        with pytest.raises(NoSuchJob):
            await daemon.writer.propose(9, pause)
        with pytest.raises(WrongState, match="job 1 is held"):
            await daemon.writer.propose(1, lambda record: ev.ResumeRequested(record.job, "owner"))

        def not_yours(record: Record) -> ev.Event:
            raise NotAllowed("not yours")

        with pytest.raises(NotAllowed):
            await daemon.writer.propose(1, not_yours)
        with pytest.raises(ZeroDivisionError):
            await daemon.writer.propose(1, lambda record: 1 // 0)  # type: ignore[arg-type,return-value]
        assert await daemon.writer.submit([a_new_job()]) == [2], "the writer lives on"


async def test_proposals_on_a_final_job_that_the_world_forgot(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        await daemon.writer.submit([a_new_job()])
        cancel = ev.CancelRequested(1, "owner", "TERM", 1.0, 0.0)
        await daemon.writer.propose(1, lambda record: cancel)
        assert 1 not in daemon.world.live
        with pytest.raises(WrongState, match="job 1 is cancelled"):
            await daemon.writer.propose(1, lambda record: cancel)


async def test_stale_reports_are_dropped_singly(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        await daemon.writer.submit([a_new_job(), a_new_job(), a_new_job(), a_new_job()])
        await daemon.loop.round()
        verdicts: dict[int, bool] = {}

        async def report(job: int, attempt: int) -> None:
            verdicts[job] = await daemon.writer.report(ev.Started(job, f"{job}.0.{attempt}", 0.0))

        async with anyio.create_task_group() as tasks:
            for job, attempt in ((1, 1), (2, 7), (3, 1), (99, 1)):
                tasks.start_soon(report, job, attempt)
        assert verdicts == {1: True, 2: False, 3: True, 99: False}
        assert not await daemon.writer.report(ev.Started(1, "1.0.1", 0.0)), "a duplicate"


async def test_what_is_not_free_is_not_given(tmp_path: Path) -> None:
    """The last line of defence: two placements on one CPU, even in one batch, and even if `decide` were wrong."""
    async with parts(tmp_path) as daemon:
        await daemon.writer.submit([a_new_job(), a_new_job()])
        outcome: dict[int, str] = {}

        async def place(job: int) -> None:
            try:
                await daemon.writer.propose(job, lambda record: ev.Placed(job, f"{job}.0.1", a_placement(3), 0.0))
                outcome[job] = "placed"
            except WrongState as error:
                outcome[job] = str(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(place, 1)
            tasks.start_soon(place, 2)
        assert outcome == {1: "placed", 2: "placed: CPU 3 is not free"}
        assert daemon.world.ledger.owner == {3: 1}


@pytest.mark.parametrize("exit_first", [True, False])
async def test_what_one_event_of_a_batch_frees_the_next_may_give(tmp_path: Path, exit_first: bool) -> None:
    async with parts(tmp_path, capacity=a_capacity(cpus_per_node=1)) as daemon:
        await daemon.writer.submit([a_new_job(), a_new_job()])
        await daemon.until_idle()
        await daemon.node.started(daemon.writer, 1)
        refused: list[WrongState] = []

        async def place() -> None:
            try:
                await daemon.writer.propose(2, lambda record: ev.Placed(2, "2.0.1", a_placement(0), 0.0))
            except WrongState as error:
                refused.append(error)

        async def exit() -> None:
            assert await daemon.node.exited(daemon.writer, 1)

        before = daemon.store.seq
        async with anyio.create_task_group() as tasks:
            for task in (exit, place) if exit_first else (place, exit):
                tasks.start_soon(task)
        assert daemon.store.seq == before + 1, "one batch"
        assert bool(refused) != exit_first
        assert daemon.world.ledger.owner == ({0: 2} if exit_first else {})


# ── cancellation ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_caller_that_leaves_does_not_take_its_commit_along(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        for hops in range(12):  # cancelled at each of its first steps
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(daemon.writer.submit, [a_new_job(name=f"left-{hops}")])
                for _ in range(hops):
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
        last = await daemon.writer.submit([a_new_job(name="last")])
        records = await daemon.store.records()
        assert [record.job for record in records] == list(range(1, last[0] + 1))
        assert {record.job for record in records} == set(daemon.world.live)
        await daemon.store.verify(everything=True)


async def test_a_writer_that_is_stopped_leaves_whole_commits(tmp_path: Path) -> None:
    for hops in range(0, 40, 3):
        async with parts(tmp_path) as daemon, anyio.create_task_group() as tasks:
            tasks.start_soon(_submit_or_hear, daemon.writer)
            for _ in range(hops):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        async with parts(tmp_path) as daemon:
            await daemon.store.verify(everything=True)


@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", "INSERT INTO entry", "INSERT INTO job", "COMMIT"])
async def test_a_stop_in_the_middle_of_a_commit_lets_it_end_and_answers_truly(tmp_path: Path, statement: str) -> None:
    """Without the shield the statement would still run in SQLite's thread, and the caller would hear of a failure."""
    answers: list[list[int]] = []
    async with parts(tmp_path) as daemon:
        stopping = anyio.Event()
        connection = daemon.store._writing
        assert connection is not None
        for name in ("execute", "executemany"):
            _before(connection, name, statement, stopping.set)

        async def submit() -> None:
            with anyio.CancelScope(shield=True):  # a caller that stays to hear the answer
                answers.append(await daemon.writer.submit([a_new_job()]))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(submit)
            await stopping.wait()
            daemon.stop()
    async with parts(tmp_path) as daemon:
        assert [[record.job for record in await daemon.store.records()]] == answers == [[1]]
        await daemon.store.verify(everything=True)


def _before(connection: Any, name: str, statement: str, do: Callable[[], None]) -> None:
    real = getattr(connection, name)

    def wrapped(sql: str, *values: Any) -> Any:
        if statement in sql:
            do()
        return real(sql, *values)

    setattr(connection, name, wrapped)


async def _submit_or_hear(writer: Writer) -> None:
    while True:
        try:
            await writer.submit([a_new_job(), a_new_job()])
        except Unavailable:
            return


async def test_after_the_stop_everyone_hears_of_it(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        writer = daemon.writer
    with pytest.raises(Unavailable, match="stopping"):
        await writer.submit([a_new_job()])


# ── other daemons ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_newer_daemon_deposes_the_older_one(tmp_path: Path) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with parts(tmp_path) as old:
            await old.writer.submit([a_new_job()])
            new = await Store(str(tmp_path / "journal.db")).open()  # a new epoch, no entry yet
            assert new.epoch == old.store.epoch + 1
            await new.close()
            with pytest.raises(Conflict, match="another daemon"):
                await old.writer.submit([a_new_job()])
            with pytest.raises(Conflict):
                await old.writer.report(ev.Started(1, "1.0.1", 0.0))
            assert 2 not in old.world.live
            await anyio.sleep_forever()
    assert caught.group_contains(Conflict)
    async with parts(tmp_path) as daemon:
        assert len(await daemon.store.records()) == 1
        await daemon.store.verify(everything=True)


# ── no space ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real filesystem of 2 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "jobs-test-writer", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> Path:
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (65536, 4096):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
    return path


async def test_a_full_disk_refuses_and_is_survived(small_disk: Path) -> None:
    clock = FakeClock()
    async with parts(small_disk, clock=clock) as daemon:
        await daemon.writer.submit([a_new_job(request_id="first")])
        await daemon.loop.round()
        filler = fill(small_disk)
        before = await daemon.store.head()
        big = [a_new_job(script="x" * 90_000, request_id="r") for _ in range(6)]
        with pytest.raises(DiskFull, match="no space left") as caught:
            await daemon.writer.submit(big)
        assert isinstance(caught.value, HostError) and caught.value.hint
        assert await daemon.store.head() == before, "nothing is half done"
        assert set(daemon.world.live) == {1}

        filler.unlink()
        assert await daemon.writer.submit(big) == [2, 3, 4, 5, 6, 7], "the same request, tried again"
        await daemon.store.verify(everything=True)


async def test_a_nodes_report_waits_for_space(small_disk: Path) -> None:
    async with parts(small_disk) as daemon:
        await daemon.writer.submit([a_new_job()])
        await daemon.loop.round()
        await daemon.node.started(daemon.writer, 1)
        filler = fill(small_disk)
        filled = await _use_up(daemon.writer)
        accepted: list[bool] = []

        async def report() -> None:
            accepted.append(await daemon.node.exited(daemon.writer, 1, status=7))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(report)
            with anyio.move_on_after(RETRY_S / 4):
                while not accepted:
                    with pytest.raises(DiskFull):
                        await daemon.writer.submit([a_new_job(script="x" * 90_000)])
            assert accepted == [], "no space yet"
            filler.unlink()
        assert accepted == [True]
        record = await daemon.store.record(1)
        assert record is not None and record.exit_status == 7
        assert filled >= 0


async def _use_up(writer: Writer) -> int:
    """What the write-ahead log had room for already."""
    count = 0
    try:
        while True:
            await writer.submit([a_new_job()])
            count += 1
    except DiskFull:
        return count


# ── power ───────────────────────────────────────────────────────────────────────────────────────────────────────────

_PROGRAM = """
import sys, anyio
from pathlib import Path
from tests.builders import a_new_job
from tests.fakes.daemon import parts

async def main():
    async with parts(Path(sys.argv[1])) as daemon:
        async def caller():
            while True:
                for job in await daemon.writer.submit([a_new_job(), a_new_job()]):
                    print(job, flush=True)
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(caller)

anyio.run(main)
"""


async def test_killed_in_the_middle_nothing_that_was_answered_is_lost(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    for answers in (1, 40, 173):
        with subprocess.Popen(  # noqa: ASYNC220  # it is the victim, nothing else runs meanwhile
            [sys.executable, "-c", _PROGRAM, str(tmp_path)], stdout=subprocess.PIPE, cwd=root, text=True
        ) as process:
            assert process.stdout is not None
            answered = [int(process.stdout.readline()) for _ in range(answers)]
            process.kill()
            answered += [int(line) for line in process.stdout.read().splitlines()]
        async with parts(tmp_path) as daemon:
            await daemon.store.verify(everything=True)
            records = await daemon.store.records()
            assert {record.job for record in records} >= set(answered)
            assert [record.job for record in records] == list(range(1, len(records) + 1))
            assert len(records) % 2 == 0, "a request is kept whole or not at all"


# ── the policy ──────────────────────────────────────────────────────────────────────────────────────────────────────


def the_file_says(*queues: str) -> Callable[[Policy], ev.PolicyEvent]:
    return lambda _: ev.PolicyChanged(0, Policy(queues=tuple(Queue(name) for name in queues)), 1.0)


async def test_a_queue_goes_when_its_last_job_has_ended(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        await daemon.writer.change(the_file_says("default", "night"))
        ids = await daemon.writer.submit([a_new_job(queue="night"), a_new_job(queue="night"), a_new_job()])
        with pytest.raises(WrongState, match="queue 'night' can't be removed: it has 2 jobs that did not end, first 1"):
            await daemon.writer.change(the_file_says("default"))
        assert [queue.name for queue in daemon.world.policy.queues] == ["default", "night"]
        for job in ids[:2]:
            await daemon.writer.propose(job, lambda record: ev.CancelRequested(record.job, "owner", "TERM", 0.0))
        assert len((await daemon.writer.change(the_file_says("default"))).queues) == 1
        with pytest.raises(WrongState, match="no queue 'night'; there are: default"):
            await daemon.writer.submit([a_new_job(queue="night")])
        assert await daemon.store.verify(everything=True) > 0


async def test_a_job_of_the_same_batch_keeps_its_queue(tmp_path: Path) -> None:
    """The queue is looked up when the job is written, not when it was checked."""
    refused: list[str] = []
    async with parts(tmp_path) as daemon:
        await daemon.writer.change(the_file_says("default", "night"))

        async def remove() -> None:
            try:
                await daemon.writer.change(the_file_says("default"))
            except WrongState as error:
                refused.append(str(error))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(daemon.writer.submit, [a_new_job(queue="night")])
            tasks.start_soon(remove)
        assert len(refused) == 1 and daemon.world.policy.queue("night").name == "night"


async def test_a_change_that_is_none_writes_nothing(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        before = await daemon.store.head()
        assert await daemon.writer.change(lambda policy: None) == Policy()
        assert await daemon.store.head() == before
