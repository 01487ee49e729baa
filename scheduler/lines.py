"""The waiting jobs, in order: lines of buckets. A round looks at the heads of lines, however many wait behind. Pure.

A *bucket* holds jobs of one queue, account, user and shape, in the order of what is the job's own (urgency and age),
which no passing of time changes. A *line* holds the buckets of one queue and shape by the priority of their heads.
What a whole bucket has in common, the points of its queue and the standing of its user, is one offset: when it changes,
heads move, not jobs. A *group* holds the lines of one queue and demand, whatever their estimates: what finds no room
closes all of it. A closed bucket (its user is at a limit) has no head in its line.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from scheduler.demand import Demand

Rank = tuple[int, int]  # (what sorts first is smaller, job)


@dataclass(frozen=True, slots=True)
class Shape:
    """Equal shapes fit or fail together."""

    demands: tuple[Demand, ...]  # alternatives, the first that fits wins
    estimate_s: float  # of running time
    freeze_with: str = ""  # a user's jobs of one group start, or don't, together


@dataclass(frozen=True, slots=True)
class BucketKey:
    queue: str
    account: str
    user: str
    shape: Shape


@dataclass(slots=True)
class Bucket:
    """`waiting` by rank; `offset` is subtracted from it: the larger, the earlier."""

    key: BucketKey
    waiting: list[Rank] = field(default_factory=list)
    offset: int = 0
    open: bool = True

    @property
    def head(self) -> Rank:
        return self.at(0)

    def at(self, position: int) -> Rank:
        own, job = self.waiting[position]
        return own - self.offset, job


Head = tuple[int, int, Bucket]  # the tuple's order is that of rank: jobs are unique, buckets are never compared
LineKey = tuple[str, Shape]


@dataclass(slots=True)
class Line:
    queue: str
    shape: Shape
    buckets: dict[tuple[str, str], Bucket] = field(default_factory=dict)  # (account, user)
    heads: list[Head] = field(default_factory=list)  # of open buckets, sorted

    @property
    def key(self) -> LineKey:
        return self.queue, self.shape

    def show(self, bucket: Bucket) -> None:
        if bucket.open and bucket.waiting:
            insort(self.heads, (*bucket.head, bucket))

    def hide(self, bucket: Bucket) -> None:
        if bucket.open and bucket.waiting:
            del self.heads[bisect_left(self.heads, bucket.head)]


GroupKey = tuple[str, tuple[Demand, ...]]


@dataclass(slots=True)
class Group:
    queue: str
    demands: tuple[Demand, ...]
    lines: dict[LineKey, Line] = field(default_factory=dict)
    heads: list[tuple[int, int, Line]] = field(default_factory=list)  # the first of each line, sorted
    urgent: dict[int, list[Rank]] = field(default_factory=dict)  # urgency → who has it, by rank without offsets

    def more_urgent(self, urgency: int) -> Iterator[tuple[int, Sequence[Rank]]]:
        """Urgencies above that one, the highest first; jobs of each, in closed buckets too."""
        for level in sorted((level for level in self.urgent if level > urgency), reverse=True):
            yield level, self.urgent[level]

    def show(self, line: Line) -> None:
        if line.heads:
            insort(self.heads, (*line.heads[0][:2], line))

    def hide(self, line: Line) -> None:
        if line.heads:
            del self.heads[bisect_left(self.heads, line.heads[0][:2])]


@dataclass(slots=True)
class Lines:
    """`of_user[user]`: every bucket with jobs of that user, for what changes with the user."""

    groups: dict[GroupKey, Group] = field(default_factory=dict)
    lines: dict[LineKey, Line] = field(default_factory=dict)
    of_user: dict[str, dict[BucketKey, Bucket]] = field(default_factory=dict)
    where: dict[int, Bucket] = field(default_factory=dict)  # job → its bucket

    def __len__(self) -> int:
        """Jobs."""
        return len(self.where)

    def __contains__(self, job: object) -> bool:
        return job in self.where

    def __iter__(self) -> Iterator[Group]:
        return iter(self.groups.values())

    def line(self, key: BucketKey) -> Line:
        """Raises KeyError."""
        return self.lines[key.queue, key.shape]

    def add(self, key: BucketKey, rank: Rank, make: Callable[[BucketKey], tuple[int, bool]], urgency: int = 0) -> None:
        """`make` gives (offset, open) of a bucket that is new; `urgency` is in the rank already."""
        line = self.lines.get((key.queue, key.shape))
        if line is None:
            line = self.lines[key.queue, key.shape] = Line(key.queue, key.shape)
            group = self.groups.setdefault((key.queue, key.shape.demands), Group(key.queue, key.shape.demands))
            group.lines[line.key] = line
        bucket = line.buckets.get((key.account, key.user))
        if bucket is None:
            offset, is_open = make(key)
            bucket = line.buckets[key.account, key.user] = Bucket(key, offset=offset, open=is_open)
            self.of_user.setdefault(key.user, {})[key] = bucket
        if bucket.waiting and rank > bucket.waiting[0]:  # the head stays
            insort(bucket.waiting, rank)
        else:
            self._hide(line, bucket)
            bucket.waiting.insert(0, rank)
            self._show(line, bucket)
        self.where[rank[1]] = bucket
        insort(self._group(line).urgent.setdefault(urgency, []), rank)

    def remove(self, job: int, rank: Rank, urgency: int = 0) -> None:
        """`rank` and `urgency` as they were added. Raises KeyError when the job is in no line."""
        bucket = self.where.pop(job)
        key = bucket.key
        urgent = self._group(self.line(key)).urgent
        del urgent[urgency][bisect_left(urgent[urgency], rank)]
        if not urgent[urgency]:
            del urgent[urgency]
        position = bisect_left(bucket.waiting, rank)
        assert bucket.waiting[position] == rank, (rank, bucket.waiting[position])
        if position:
            del bucket.waiting[position]
            return
        line = self.line(key)
        self._hide(line, bucket)
        del bucket.waiting[0]
        self._show(line, bucket)
        if not bucket.waiting:
            self._drop(line, key)

    def _drop(self, line: Line, key: BucketKey) -> None:
        del line.buckets[key.account, key.user]
        if not line.buckets:
            del self.lines[line.key]
            group = self._group(line)
            del group.lines[line.key]
            if not group.lines:
                del self.groups[line.queue, line.shape.demands]
        del self.of_user[key.user][key]
        if not self.of_user[key.user]:
            del self.of_user[key.user]

    def update(self, user: str, make: Callable[[BucketKey], tuple[int, bool]]) -> None:
        """Asks again for (offset, open) of each bucket of the user, because a standing or a limit has changed."""
        for key, bucket in self.of_user.get(user, {}).items():
            offset, is_open = make(key)
            if (offset, is_open) == (bucket.offset, bucket.open):
                continue
            line = self.line(key)
            self._hide(line, bucket)
            bucket.offset, bucket.open = offset, is_open
            self._show(line, bucket)

    def _group(self, line: Line) -> Group:
        return self.groups[line.queue, line.shape.demands]

    def _hide(self, line: Line, bucket: Bucket) -> None:
        self._group(line).hide(line)
        line.hide(bucket)

    def _show(self, line: Line, bucket: Bucket) -> None:
        line.show(bucket)
        self._group(line).show(line)
