"""The database: what is read was committed, what was changed behind our back is named, old and new are told apart."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from jobs import events as ev
from jobs.array import parse_array
from jobs.errors import HostError
from jobs.policy import Policy, Queue, Reservation
from scheduler.fairshare import Used
from scheduler.journal.database import SCHEMA_VERSION
from scheduler.ports import Stored
from scheduler.store import CHECKED_AT_START, Store
from tests.builders import BOB, a_new_job, a_placement
from tests.fakes.daemon import parts

pytestmark = pytest.mark.anyio
DATA = Path(__file__).parent.parent / "data"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def a_short_history(folder: Path) -> None:
    """Three jobs: one ended, one runs, one waits."""
    async with parts(folder) as daemon:
        await daemon.writer.submit([a_new_job(name="ended"), a_new_job(name="runs", owner=BOB)])
        await daemon.loop.round()
        await daemon.node.started(daemon.writer, 1)
        await daemon.node.started(daemon.writer, 2)
        await daemon.node.exited(daemon.writer, 1, status=3)
        await daemon.node.cleaned(daemon.writer, 1)
        await daemon.writer.submit([a_new_job(name="waits", hold=True)])


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_records_are_filtered_and_ordered(tmp_path: Path) -> None:
    await a_short_history(tmp_path)
    store = await Store(str(tmp_path / "journal.db")).open()

    async def names(**wanted: object) -> list[str]:
        return [record.spec.name for record in await store.records(**wanted)]  # type: ignore[arg-type]

    assert await names() == ["ended", "runs", "waits"]
    assert await names(newest=2) == ["runs", "waits"]
    assert await names(uid=1000) == ["ended", "waits"]
    assert await names(uid=1000, newest=1) == ["waits"]
    assert await names(states=["running", "held"]) == ["runs", "waits"]
    assert await names(uid=1001, states=["held"]) == []
    assert [record.spec.name for record in await store.live_records()] == ["runs", "waits"]
    ended = await store.record(1)
    assert ended is not None and (ended.exit_status, ended.usage.cpu_s, ended.version) == (3, 1.5, 5)
    assert await store.record(9) is None
    await store.close()


async def test_events_of_all_and_of_one(tmp_path: Path) -> None:
    await a_short_history(tmp_path)
    store = await Store(str(tmp_path / "journal.db")).open()
    everything = [stored async for stored in store.events()]
    assert [(stored.event.job, stored.event.kind) for stored in everything] == [
        (1, "submitted"), (2, "submitted"), (1, "placed"), (2, "placed"), (1, "started"), (2, "started"),
        (1, "exited"), (1, "cleaned_up"), (3, "submitted"),
    ]  # fmt: skip
    assert [stored.event.kind async for stored in store.events(job=2)] == ["submitted", "placed", "started"]
    assert [stored.seq for stored in everything] == [1, 1, 2, 2, 3, 4, 5, 6, 7]
    assert [stored.index for stored in everything][:4] == [0, 1, 0, 1]
    assert [stored async for stored in store.events(after=5)] == everything[7:]
    await store.close()


async def test_a_follower_hears_each_event_once_and_in_order(tmp_path: Path) -> None:
    heard: list[int] = []
    of_two: list[str] = []
    async with parts(tmp_path) as daemon:
        await daemon.writer.submit([a_new_job()])

        async def follow() -> None:
            async for stored in daemon.store.events(follow=True):
                heard.append(stored.event.job)
                if len(heard) == 401:
                    return

        async def follow_two() -> None:
            async for stored in daemon.store.events(follow=True, job=2):
                of_two.append(stored.event.kind)
                if stored.event.kind == "cancel_requested":
                    return

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            tasks.start_soon(follow_two)
            for _ in range(399):  # more entries than are read at a time
                await daemon.writer.submit([a_new_job()])
            await daemon.writer.propose(2, lambda record: ev.CancelRequested(2, "owner", "TERM", 0.0))
    assert heard == [*range(1, 401), 2]
    assert of_two == ["submitted", "cancel_requested"]


async def test_the_head_names_the_whole_past(tmp_path: Path) -> None:
    await a_short_history(tmp_path)
    heads = []
    for _ in range(2):
        store = await Store(str(tmp_path / "journal.db")).open()
        heads.append(await store.head())
        await store.close()
    assert heads[0] == heads[1] and heads[0][0] == 7 and len(heads[0][1]) == 64


async def test_an_empty_journal(tmp_path: Path) -> None:
    store = await Store(str(tmp_path / "journal.db")).open()
    assert await store.head() == (0, "00" * 32)
    assert (store.epoch, await store.last_job(), await store.records()) == (1, 0, [])
    assert await store.verify(everything=True) == 0
    assert (tmp_path / "journal.db").stat().st_mode & 0o777 == 0o600
    await store.close()


# ── damage ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def edited(sql: str) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        with sqlite3.connect(path) as connection:
            assert connection.execute(sql).rowcount == 1
        connection.close()

    return edit


def overwritten(path: Path) -> None:
    path.write_bytes(b"this is no database, although it is long enough to be looked at" * 100)


def torn(path: Path) -> None:
    """Pages in the middle are another file's."""
    data = bytearray(path.read_bytes())
    data[4096 : len(data)] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)


ANOTHER_NAME = "UPDATE entry SET payload = CAST(replace(payload, 'ended', 'xxxxx') AS BLOB) WHERE seq = 1"


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (edited(ANOTHER_NAME), "entry 1 does not match"),
        (edited("UPDATE entry SET at = at + 1 WHERE seq = 4"), "entry 4 does not match"),
        (edited("UPDATE entry SET epoch = 9 WHERE seq = 4"), "entry 4 does not match"),
        (edited("DELETE FROM entry WHERE seq = 3"), "entry 3 is missing; entry 4 follows"),
        (edited("UPDATE entry SET prev_hash = zeroblob(32) WHERE seq = 5"), "entry 5 does not follow entry 4"),
        (overwritten, "is damaged: file is not a database"),
        (torn, "is damaged: database disk image is malformed"),
    ],
)
async def test_damage_is_named_at_the_start_with_file_and_next_step(
    tmp_path: Path, damage: Callable[[Path], None], says: str
) -> None:
    await a_short_history(tmp_path)
    path = tmp_path / "journal.db"
    damage(path)
    with pytest.raises(HostError) as caught:
        await Store(str(path)).open()
    assert str(path) in caught.value.message and says in caught.value.message
    assert caught.value.hint


async def test_a_job_table_that_differs_from_the_journal_is_found_by_the_full_check(tmp_path: Path) -> None:
    await a_short_history(tmp_path)
    edited("UPDATE job SET record = replace(record, '\"urgency\":50', '\"urgency\":99') WHERE job = 2")(
        tmp_path / "journal.db"
    )
    store = await Store(str(tmp_path / "journal.db")).open()
    with pytest.raises(HostError, match="differs from its journal: first at job 2"):
        await store.verify(everything=True)
    await store.close()


async def test_the_check_at_the_start_looks_at_the_newest_only(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        for _ in range(CHECKED_AT_START + 5):
            await daemon.writer.submit([a_new_job()])
    edited("UPDATE entry SET at = 0 WHERE seq = 2")(tmp_path / "journal.db")
    store = await Store(str(tmp_path / "journal.db")).open()
    with pytest.raises(HostError, match="entry 2 does not match"):
        await store.verify(everything=True)
    await store.close()


# ── versions and places ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_database_of_a_later_version_is_refused_untouched(tmp_path: Path) -> None:
    await a_short_history(tmp_path)
    path = tmp_path / "journal.db"
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(HostError, match=f"schema {SCHEMA_VERSION + 1}, this version knows {SCHEMA_VERSION}") as caught:
        await Store(str(path)).open()
    assert "state_dir" in caught.value.hint
    assert path.read_bytes() == before


async def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"can't open the journal .*No such file") as caught:
        await Store(str(tmp_path / "missing" / "journal.db")).open()
    assert "state_dir" in caught.value.hint


async def test_a_path_with_strange_letters(tmp_path: Path) -> None:
    folder = tmp_path / "späte #1? 100%"
    folder.mkdir()
    await a_short_history(folder)
    store = await Store(str(folder / "journal.db")).open()
    assert len(await store.records()) == 3
    await store.close()


async def test_a_migration_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hook: a later schema is reached step by step; a step that fails leaves the old one."""
    from scheduler import statements
    from scheduler.journal import database

    await a_short_history(tmp_path)
    scripts = {"good.sql": "ALTER TABLE job ADD COLUMN a TEXT;", "bad.sql": "CREATE TABLE x (y); SELECT nonsense();"}
    monkeypatch.setattr(statements, "text", lambda name: scripts[name])
    now = SCHEMA_VERSION
    monkeypatch.setattr(database, "SCHEMA_VERSION", now + 2)
    monkeypatch.setattr(database, "MIGRATIONS", {now: "good.sql", now + 1: "bad.sql"})
    path = tmp_path / "journal.db"
    with pytest.raises(HostError, match="nonsense"):
        await Store(str(path)).open()

    def one(sql: str) -> object:
        with sqlite3.connect(path) as connection:
            return connection.execute(sql).fetchone()[0]

    assert one("PRAGMA user_version") == now + 1
    assert one("SELECT count(*) FROM sqlite_master WHERE name = 'x'") == 0
    scripts["bad.sql"] = "CREATE TABLE x (y);"
    store = await Store(str(path)).open()
    assert len(await store.records()) == 3
    await store.close()


async def test_a_database_from_before_policies_is_read_and_what_users_had_used_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with sqlite3.connect(path) as connection:
        connection.executescript((DATA / "journals" / "schema_1.sql").read_text())
    connection.close()
    for _ in range(2):  # made once, then kept
        store = await Store(str(path)).open()
        assert await store.policy() == Policy()
        assert await store.used() == {("alice", "alice"): Used(3.5, 0.0), ("bob", "bob"): Used(200.0, 0.0)}
        assert await store.verify(everything=True) > 0
        await store.close()
    async with parts(tmp_path) as daemon:
        assert daemon.world.shares.used[("bob", "bob")].cpu_s == 200.0


# ── the policy and what users have used ─────────────────────────────────────────────────────────────────────────────


async def test_policy_and_usage_are_changed_with_the_journal_and_survive_a_restart(tmp_path: Path) -> None:
    night, outage = Queue("night", points=-5), Reservation("outage", 2e9, 3600.0, by="root")
    async with parts(tmp_path) as daemon:
        changes = [
            ev.PolicyChanged(0, Policy(queues=(Queue(), night), half_life_s=100.0), 1.0),
            ev.QueueChanged(0, "night", "drained", 2.0, "root"),
            ev.ReservationAdded(0, outage, 3.0, "root"),
        ]
        for change in changes:
            policy = await daemon.writer.change(lambda _, change=change: change)  # type: ignore[misc]
        assert policy.queue("night").state == "drained" and policy.reservations == (outage,)
        await daemon.writer.submit([a_new_job(cpus=2)])
        await daemon.loop.round()
        await daemon.node.started(daemon.writer, 1)
        daemon.node.ran[1] = 50.0
        await daemon.node.exited(daemon.writer, 1)
        used = daemon.world.shares.used
        assert used == {("alice", "alice"): Used(100.0, 0.0)}
    async with parts(tmp_path) as daemon:
        assert (daemon.world.policy, daemon.world.shares.used) == (policy, used)
        again = ev.PolicyChanged(0, Policy(queues=(Queue(), night), half_life_s=50.0), 100.0)
        await daemon.writer.change(lambda _: again)
        assert daemon.world.policy.queue("night").state == "drained", "a new file opens nothing"
        assert daemon.world.policy.reservations == (outage,)
        assert daemon.world.shares.used == {("alice", "alice"): Used(50.0, 100.0)}, "faded by the old half-life"
        assert await daemon.store.used() == daemon.world.shares.used
        assert await daemon.store.verify(everything=True) > 0
        kinds = [stored.event.kind async for stored in daemon.store.events(job=0)]
        assert kinds == ["policy_changed", "queue_changed", "reservation_added", "policy_changed"]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("UPDATE used SET cpu_s = cpu_s + 1", "in what users have used"),
        ("UPDATE policy SET policy = '{\"backfill\":\"off\"}'", "in the policy"),
    ],
)
async def test_a_policy_or_usage_that_differs_is_found_by_the_full_check(
    tmp_path: Path, damage: str, says: str
) -> None:
    async with parts(tmp_path) as daemon:
        await daemon.writer.submit([a_new_job()])
        await daemon.loop.round()
        await daemon.node.started(daemon.writer, 1)
        daemon.node.ran[1] = 5.0
        await daemon.node.exited(daemon.writer, 1)
    edited(damage)(tmp_path / "journal.db")
    store = await Store(str(tmp_path / "journal.db")).open()
    with pytest.raises(HostError, match=says):
        await store.verify(everything=True)
    await store.close()


async def test_stored_events_carry_their_place(tmp_path: Path) -> None:
    async with parts(tmp_path) as daemon:
        await daemon.writer.submit([a_new_job(), a_new_job()])
        found = [stored async for stored in daemon.store.events()]
    assert isinstance(found[0], Stored)
    assert [(stored.seq, stored.index, stored.at) for stored in found] == [(1, 0, 1_000_000.0), (1, 1, 1_000_000.0)]


async def test_a_database_of_schema_1_is_brought_up_to_date(tmp_path: Path) -> None:
    path = str(tmp_path / "journal.db")
    async with parts(tmp_path) as daemon:
        await daemon.writer.submit([a_new_job(name="old"), a_new_job(name="older")])
    with sqlite3.connect(path) as old:
        for line in ("DROP TABLE policy", "DROP TABLE used",
                     "DROP INDEX job_of_array", "DROP INDEX job_named", "ALTER TABLE job DROP COLUMN array",
                     "ALTER TABLE job DROP COLUMN idx", "PRAGMA user_version = 1"):  # fmt: skip
            old.execute(line)
    old.close()
    async with parts(tmp_path) as daemon:
        found = await daemon.store.newest(1000, "old")
        assert found is not None and found.job == 1
        assert await daemon.store.tasks(0) == [] and await daemon.store.task(0, 0) is None
        (array,) = await daemon.writer.submit([a_new_job(array=parse_array("0-3"))])
        task = await daemon.writer.begin_task(array, 2, a_placement(0))
        assert await daemon.store.task(array, 2) == task
        assert await daemon.store.verify(everything=True) > 0
