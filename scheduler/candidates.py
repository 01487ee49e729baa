"""Who is next in a round: frozen jobs that may come back and the heads of all groups, in one order of priority. Pure.

The world's lines are only read: what a round takes from them is remembered here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from jobs.record import Record
from scheduler.lines import Bucket, Group, Line

Entry = tuple[int, int, Bucket, int]  # (rank, job, bucket, position in it); jobs are unique, the rest is not compared


@dataclass(slots=True)
class Along:
    """Along one line. `current` is the entry that was given last."""

    line: Line
    current: Entry | None = None
    _position: int = 0
    _more: list[Entry] = field(default_factory=list)  # of buckets whose head was taken

    def advance(self) -> Entry | None:
        heads = self.line.heads
        fresh = heads[self._position] if self._position < len(heads) else None
        if self._more and (fresh is None or self._more[0][:2] < fresh[:2]):
            self.current = heappop(self._more)
        elif fresh is not None:
            self._position += 1
            self.current = (*fresh, 0)
        else:
            self.current = None
        return self.current

    def take(self) -> None:
        """The current one starts: the next of its bucket stands in its place."""
        assert self.current is not None
        _, _, bucket, position = self.current
        if position + 1 < len(bucket.waiting):
            heappush(self._more, (*bucket.at(position + 1), bucket, position + 1))

    def only(self, users: Collection[str]) -> None:
        """From now on, of the buckets that were not come to yet, only those of these users."""
        passed = self._position
        self._position = len(self.line.heads)
        for rank, job, bucket in self.line.heads[passed:]:
            if bucket.key.user in users:
                heappush(self._more, (rank, job, bucket, 0))
        self._more = [entry for entry in self._more if entry[2].key.user in users]
        heapify(self._more)


@dataclass(slots=True)
class Cursor:
    """Through one group. `current` is the entry that was given last, of the line `along`."""

    group: Group
    current: Entry | None = None
    _along: Along | None = None
    _position: int = 0
    _more: list[tuple[int, int, Along]] = field(default_factory=list)  # lines that were looked at already

    @property
    def line(self) -> Line:
        assert self._along is not None
        return self._along.line

    def advance(self) -> Entry | None:
        heads = self.group.heads
        fresh = heads[self._position] if self._position < len(heads) else None
        if self._more and (fresh is None or self._more[0][:2] < fresh[:2]):
            self._along = heappop(self._more)[2]
            self.current = self._along.current
        elif fresh is not None:
            self._position += 1
            self._along = Along(fresh[2])
            self.current = self._along.advance()
        else:
            self.current = None
        return self.current

    def take(self) -> None:
        """The current one starts: the next of its bucket stands in its place."""
        assert self._along is not None
        self._along.take()
        self.skip()

    def skip(self) -> None:
        """The current one stays and has been looked at; its line goes on."""
        assert self._along is not None
        if (entry := self._along.advance()) is not None:
            heappush(self._more, (entry[0], entry[1], self._along))

    def only(self, users: Collection[str]) -> None:
        """The current line goes on for these users only."""
        assert self._along is not None
        self._along.only(users)
        self.skip()


@dataclass(slots=True)
class Candidates:
    """`next` until None. After each waiting one say what became of it: `take`, `again`, `skip`, `close_line`,
    or nothing, which closes the whole group."""

    _heap: list[tuple[int, int, int, Record | Cursor]] = field(default_factory=list)

    @classmethod
    def of(cls, frozen: Iterable[tuple[int, Record]], groups: Iterable[Group]) -> Candidates:
        """`frozen`: (rank, record). At the same rank a frozen one comes first."""
        this = cls([(rank, 0, record.job, record) for rank, record in frozen])
        heapify(this._heap)
        for group in groups:
            this._push(Cursor(group))
        return this

    def next(self) -> Record | Cursor | None:
        return heappop(self._heap)[3] if self._heap else None

    def take(self, cursor: Cursor) -> None:
        cursor.take()
        self._push(cursor)

    def again(self, cursor: Cursor) -> None:
        """The current one has more to start: an array its next task."""
        assert cursor.current is not None
        heappush(self._heap, (cursor.current[0], 1, cursor.current[1], cursor))

    def skip(self, cursor: Cursor) -> None:
        """This bucket has no more candidates in this round; the line goes on."""
        cursor.skip()
        self._push(cursor)

    def close_line(self, cursor: Cursor, but: Collection[str] = ()) -> None:
        """The line has no more candidates in this round, but those of some users."""
        if but:
            cursor.only(but)
        self._push(cursor)

    def _push(self, cursor: Cursor) -> None:
        if (entry := cursor.advance()) is not None:
            heappush(self._heap, (entry[0], 1, entry[1], cursor))
