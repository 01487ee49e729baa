"""The journal in SQLite: appends within the store's transaction, so that entry and read model change together.

Fences: the sequence number (another append since) and the epoch (another daemon started since). Either means deposed.
"""

from __future__ import annotations

import aiosqlite

from jobs.errors import Conflict
from scheduler.journal.entry import Entry
from scheduler.statements import WRITE


class SqliteJournal:
    """`seq` and `hash` are the committed head; `settle` moves them after the commit."""

    def __init__(self, connection: aiosqlite.Connection, epoch: int, seq: int, head: bytes) -> None:
        self._connection, self.epoch = connection, epoch
        self.seq, self.hash = seq, head
        self._pending: list[Entry] = []

    async def append(self, expected: int, at: float, payload: bytes) -> Entry:
        """Raises Conflict; the caller rolls back and stops."""
        entry = Entry(expected + 1, self.epoch, at, self.pending_hash, payload)
        row = {"seq": entry.seq, "epoch": entry.epoch, "at": entry.at, "prev_hash": entry.prev_hash,
               "hash": entry.hash, "payload": entry.payload}  # fmt: skip
        async with self._connection.execute(WRITE["append"], row) as cursor:
            if cursor.rowcount != 1:
                raise Conflict(
                    f"another daemon writes to this journal: it no longer ends at entry {expected}, epoch {self.epoch}",
                    hint="only one jobsd may use a state_dir; this one stops, the other goes on",
                )
        self._pending.append(entry)
        return entry

    @property
    def pending_hash(self) -> bytes:
        """What the head will be when the open transaction commits."""
        return self._pending[-1].hash if self._pending else self.hash

    def settle(self, committed: bool) -> list[Entry]:
        """After COMMIT or ROLLBACK; returns what became part of the journal."""
        entries, self._pending = self._pending, []
        if not committed:
            return []
        if entries:
            self.seq, self.hash = entries[-1].seq, entries[-1].hash
        return entries
