"""The one database: journal and read model, changed together; committed state for everyone who asks.

Writing is for `writer` alone (`commit`); reading is on a second connection and never waits for it (ports.Reader).
Nothing here decides anything.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiosqlite
import anyio

from jobs import policy as policy_
from jobs import record as record_
from jobs import spec as spec_
from jobs import states
from jobs.errors import Conflict, HostError
from jobs.events import DaemonStarted, Event, PolicyEvent, TaskMade
from jobs.plain import encode as encode_json
from jobs.plain import encode_usual
from jobs.policy import Policy
from jobs.policy_changes import advance_policy
from jobs.record import FINAL, Record
from scheduler.fairshare import Key, Used, charged, faded
from scheduler.journal.database import DiskFull, failure, open_database, open_reader
from scheduler.journal.entry import GENESIS, Entry, Unknown, broken_link, decode, encode, encode_event, split
from scheduler.journal.history import History
from scheduler.journal.sqlite import SqliteJournal
from scheduler.ports import Stored
from scheduler.statements import READ, WRITE

CHECKED_AT_START = 1000  # newest entries whose hashes are compared at each start; verify(everything=True) compares all
_FINAL = json.dumps(sorted(FINAL))
_CHUNK = 200  # entries read at a time, so that a slow follower holds no read transaction open


@dataclass(slots=True)
class Batch:
    """What one commit changes. `texts` are the events, encoded, in order; `jobs_of` the job of each."""

    at: float
    texts: list[str] = field(default_factory=list)
    jobs_of: list[int] = field(default_factory=list)
    added: dict[int, Record] = field(default_factory=dict)
    changed: dict[int, Record] = field(default_factory=dict)
    requests: list[tuple[int, str, int, int]] = field(default_factory=list)  # uid, request id, ordinal, job
    spec_texts: dict[int, str] = field(default_factory=dict)  # of added jobs, where they are encoded already
    specs: dict[str, bytes] = field(default_factory=dict)
    policy: Policy | None = None  # when it changes
    used: dict[Key, Used] = field(default_factory=dict)


@dataclass(slots=True)
class _Replayed:
    """The read model as the journal says it is."""

    jobs: dict[int, Record] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
    used: dict[Key, Used] = field(default_factory=dict)

    def apply(self, event: Event) -> None:
        if isinstance(event, DaemonStarted):
            return
        if isinstance(event, PolicyEvent):
            self.used.update(faded(self.used, event, self.policy))
            self.policy = advance_policy(self.policy, event)
            return
        before = self.jobs.get(event.job)
        self.used.update(charged(self.used, event, before, self.policy.half_life_s))
        array = self.jobs.get(event.array) if isinstance(event, TaskMade) else None
        self.jobs[event.job] = states.advance(before, event, array)


class Store:
    """`await open()` before anything else. `epoch` counts the starts on this file; `seq` is the committed head."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.epoch = 0
        self.history: History | None = None  # for questions about the past, while it is open
        self._writing: aiosqlite.Connection | None = None
        self._reading: aiosqlite.Connection | None = None
        self._journal: SqliteJournal | None = None
        self._committed = anyio.Event()  # set and replaced at each commit: the followers' signal

    async def open(self) -> Store:
        """Opens, migrates, checks the newest entries, starts a new epoch. Raises HostError."""
        self._writing = await open_database(self.path)
        try:
            self._reading = await open_reader(self.path)
            self.history = History(self.path)
            await self.verify()
            await self._make_read_model()
            async with self._writing.execute(WRITE["next_epoch"]) as cursor:
                row = await cursor.fetchone()
                assert row is not None
            self.epoch = int(row[0])
            self._journal = SqliteJournal(self._writing, self.epoch, *await self._head())
        except sqlite3.Error as error:
            await self.close()
            raise failure(self.path, error) from error
        except BaseException:
            await self.close()
            raise
        return self

    async def close(self) -> None:
        if self.history is not None:
            self.history.close()
            self.history = None
        for connection in (self._reading, self._writing):
            if connection is not None:
                await connection.close()
        self._reading = self._writing = None

    # ── writing: for scheduler/writer alone ─────────────────────────────────────────────────────────────────────

    @property
    def seq(self) -> int:
        return self._journal.seq if self._journal else 0

    async def commit(self, expected: int, batch: Batch) -> list[Entry]:
        """All of the batch or nothing. Not to be cancelled: a cancelled statement still runs (writer shields it).

        Raises Conflict (deposed), DiskFull or another HostError (nothing was kept), Unknown (stop).
        """
        assert self._writing is not None and self._journal is not None
        try:
            await self._writing.execute("BEGIN IMMEDIATE")
            await self._write(expected, batch)
            await self._writing.execute("COMMIT")
        except sqlite3.Error as error:
            if not await self._happened():
                raise failure(self.path, error) from error
        except Conflict:
            await self._roll_back()
            raise
        entries = self._journal.settle(committed=True)
        committed, self._committed = self._committed, anyio.Event()
        committed.set()
        return entries

    async def _write(self, expected: int, batch: Batch) -> None:
        assert self._writing is not None and self._journal is not None
        position, mentions = 0, []
        for texts in split(batch.texts):
            entry = await self._journal.append(expected, batch.at, encode(texts))
            expected = entry.seq
            jobs = sorted(set(batch.jobs_of[position : position + len(texts)]))
            mentions += [{"job": job, "seq": entry.seq} for job in jobs]
            position += len(texts)
        rows: list[tuple[str, list[dict[str, Any]]]] = [
            ("add_job_entry", mentions),
            ("add_job", [_new_row(record, batch.spec_texts.get(job)) for job, record in batch.added.items()]),
            ("change_job", list(map(_job_row, batch.changed.values()))),
            ("add_request", [{"uid": uid, "request_id": request, "ordinal": ordinal, "job": job}
                             for uid, request, ordinal, job in batch.requests]),
            ("set_policy", [{"policy": encode_json(batch.policy)}] if batch.policy else []),
            ("set_used", _used_rows(batch.used)),
            ("add_spec", [{"digest": digest, "toml": toml} for digest, toml in batch.specs.items()]),
        ]  # fmt: skip
        for name, values in rows:
            if values:
                await self._writing.executemany(WRITE[name], values)

    async def _happened(self) -> bool:
        """Whether a commit that failed is there all the same: an error can come after the decisive write."""
        assert self._writing is not None and self._journal is not None
        try:
            if self._writing.in_transaction or self._journal.pending_hash != (await self._head())[1]:
                await self._roll_back()
                return False
        except (sqlite3.Error, HostError) as error:
            raise Unknown(
                f"it is not known whether the last commit to {self.path} happened: {error}",
                hint="the daemon stops; running jobs go on. Look at the disk (dmesg), then start it again",
            ) from error
        return True

    async def _roll_back(self) -> None:
        assert self._writing is not None and self._journal is not None
        self._journal.settle(committed=False)
        if self._writing.in_transaction:
            await self._writing.execute("ROLLBACK")

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def record(self, job: int) -> Record | None:
        rows = await self._rows(READ["job"], {"job": job})
        return _record(rows[0]) if rows else None

    async def records(
        self, *, uid: int | None = None, states: Sequence[str] = (), newest: int = 0, tasks: bool = True
    ) -> list[Record]:
        """Oldest first; `newest` keeps only the last so many, 0 all. Not `tasks`: without ended tasks of arrays."""
        name = "jobs_of_user" if uid is not None else "jobs_in_states" if states else "jobs"
        values = {"uid": uid, "states": json.dumps(list(states)) if states else None, "newest": newest or -1}
        rows = await self._rows(READ[name], values | {"tasks": int(tasks or bool(states)), "final": _FINAL})
        return [_record(row) for row in reversed(rows)]

    async def tasks(self, array: int, *, live: bool = False) -> list[Record]:
        """Of an array, those that have begun, by index."""
        return [_record(row) for row in await self._rows(READ["tasks"], {"array": array, "live": int(live)})]

    async def task(self, array: int, index: int) -> Record | None:
        rows = await self._rows(READ["task"], {"array": array, "idx": index})
        return _record(rows[0]) if rows else None

    async def newest(self, uid: int, name: str) -> Record | None:
        """The user's newest job of that name; tasks of arrays do not count."""
        rows = await self._rows(READ["newest_named"], {"uid": uid, "name": name})
        return _record(rows[0]) if rows else None

    async def unfinished(self, uid: int, name: str) -> list[int]:
        """The user's jobs of that name that have not ended, oldest first; tasks of arrays do not count."""
        rows = await self._rows(READ["unfinished"], {"uid": uid, "name": name, "final": _FINAL})
        return [int(row[0]) for row in rows]

    async def live_records(self) -> list[Record]:
        """Not final, or not cleaned up: what a start-up must know."""
        return [_record(row) for row in await self._rows(READ["live_jobs"])]

    async def policy(self) -> Policy:
        """In force."""
        return policy_.from_json(json.loads((await self._rows(READ["policy"]))[0][0]))

    async def used(self) -> dict[Key, Used]:
        """What each user of each account has used."""
        rows = await self._rows(READ["used"])
        return {(account, user): Used(cpu_s, at) for account, user, cpu_s, at in rows}

    async def last_job(self) -> int:
        return int((await self._rows(READ["last_job"]))[0][0])

    async def requested(self, uid: int, request_id: str) -> dict[int, int]:
        """Ordinal → job of an earlier submission with this request id."""
        return dict(await self._rows(READ["request"], {"uid": uid, "request_id": request_id}))

    async def spec_text(self, digest: str) -> bytes | None:
        """The TOML as submitted; None when it was erased."""
        rows = await self._rows(READ["spec"], {"digest": digest})
        return rows[0][0] if rows else None

    async def events(self, after: int = 0, job: int | None = None, follow: bool = False) -> AsyncIterator[Stored]:
        """Committed events of entries later than `after`, in order; with `follow` never ends."""
        name = "entries" if job is None else "entries_of_job"
        while True:
            signal = self._committed  # taken before reading: a commit in between is not missed
            entries = await self._entries(name, after, job)
            for entry, _ in entries:
                for index, event in enumerate(decode(entry.payload)):
                    if job is None or event.job == job:
                        yield Stored(entry.seq, index, entry.at, event)
                after = entry.seq
            if not entries:
                if not follow:
                    return
                await signal.wait()

    async def head(self) -> tuple[int, str]:
        seq, found = await self._head()
        return seq, found.hex()

    # ── checking ────────────────────────────────────────────────────────────────────────────────────────────────

    async def verify(self, *, everything: bool = False) -> int:
        """Compares hashes, of all entries or of the newest; everything: the read model too. Returns how many entries.

        Raises HostError that names the first entry that is wrong.
        """
        last = (await self._head())[0]
        after = 0 if everything else max(0, last - CHECKED_AT_START)
        first, prev_hash = after, GENESIS if not after else None
        replayed = _Replayed()
        while entries := await self._entries("entries", after, None):
            if flaw := broken_link(entries, prev_hash, after):
                raise HostError(
                    f"the journal {self.path} was changed or is damaged: {flaw}",
                    hint="restore a backup; `sqlite3` shows the entry in the table `entry`",
                )
            if everything:
                for entry, _ in entries:
                    for event in decode(entry.payload):
                        replayed.apply(event)
            after, prev_hash = entries[-1][0].seq, entries[-1][1]
        if everything:
            await self._compare(replayed)
        return after - first

    async def _compare(self, replayed: _Replayed) -> None:
        stored = {record.job: record for record in await self.records()}
        jobs = [job for job in sorted({*stored, *replayed.jobs}) if stored.get(job) != replayed.jobs.get(job)]
        wrong = [f"first at job {job}" for job in jobs[:1]]
        if await self.policy() != replayed.policy:
            wrong.append("in the policy")
        if await self.used() != replayed.used:
            wrong.append("in what users have used")
        if wrong:
            raise HostError(f"the read model of {self.path} differs from its journal: {', '.join(wrong)}",
                            hint="this is a bug, or the file was edited; the journal is right")  # fmt: skip

    async def _make_read_model(self) -> None:
        """After the migration of a database that had no policy: all of it from its journal, once."""
        assert self._writing is not None
        if await self._rows(READ["policy"]):
            return
        replayed, after = _Replayed(), 0
        while entries := await self._entries("entries", after, None):
            for entry, _ in entries:
                for event in decode(entry.payload):
                    replayed.apply(event)
            after = entries[-1][0].seq
        await self._writing.execute("BEGIN IMMEDIATE")
        await self._writing.execute(WRITE["add_policy"], {"policy": encode_json(replayed.policy)})
        await self._writing.executemany(WRITE["set_used"], _used_rows(replayed.used))
        rows = map(_job_row, replayed.jobs.values())
        await self._writing.executemany(WRITE["change_job"], rows)  # with what later versions count
        await self._writing.execute("COMMIT")

    # ── rows ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _head(self) -> tuple[int, bytes]:
        rows = await self._rows(READ["head"])
        return (int(rows[0][0]), bytes(rows[0][1])) if rows else (0, GENESIS)

    async def _entries(self, name: str, after: int, job: int | None) -> list[tuple[Entry, bytes]]:
        rows = await self._rows(READ[name], {"after": after, "job": job, "most": _CHUNK})
        return [(Entry(seq, epoch, at, prev, payload), stored) for seq, epoch, at, prev, stored, payload in rows]

    async def _rows(self, sql: str, values: dict[str, Any] | None = None) -> list[Any]:
        if self._reading is None:
            raise HostError(f"the journal {self.path} is not open")
        try:
            return list(await self._reading.execute_fetchall(sql, values or {}))
        except sqlite3.Error as error:
            raise failure(self.path, error) from error


def _used_rows(used: dict[Key, Used]) -> list[dict[str, Any]]:
    return [{"account": account, "user": user, "cpu_s": each.cpu_s, "at": each.at}
            for (account, user), each in used.items()]  # fmt: skip


def _job_row(record: Record) -> dict[str, Any]:
    return {
        "job": record.job,
        "state": str(record.state),
        "live": int(not (record.state.final and record.cleaned)),
        "version": record.version,
        "record": encode_json(record_.to_json(record)),
    }


def _new_row(record: Record, spec: str | None) -> dict[str, Any]:
    more = {"uid": record.owner.uid, "spec": spec or encode_usual(record.spec)}
    return {**_job_row(record), **more, "array": record.array, "idx": record.index}


def _record(row: Any) -> Record:
    spec, record = row
    return record_.from_json(json.loads(record), spec_.from_json(json.loads(spec)))


__all__ = ["Batch", "DiskFull", "Store", "encode_event"]
