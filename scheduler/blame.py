"""Who delayed a job, and for how long: its wait in spans, each with the verdict of `decide` at its beginning. Pure.

The spans are all the time in which the job lived and did not run; they sum to its wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from jobs.record import Record, State
from jobs.verdict import Going, Never, NotNow, Reason, Verdict
from scheduler.decide import decide
from scheduler.decision import WAITING
from scheduler.past import Past

MOST_ASKED = 1000  # rounds for one answer
STARTING, ROUND, DAEMON, UNKNOWN = "starting", "round", "daemon", "unknown"


@dataclass(frozen=True, slots=True)
class Part:
    """Of the wait. `cause`: a dimension of a verdict, or "starting", "round", "daemon", "unknown", "never".

    `job`: who; 0: nobody by name, `text` says more."""

    cause: str
    job: int
    text: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Blame:
    """`until`: wall clock. `parts`: the longest first; they sum to `waited_s`. `blockers`: as they are now."""

    record: Record
    until: float
    waited_s: float
    parts: tuple[Part, ...] = ()
    blockers: tuple[Record, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class Blaming:
    """Of each entry: `until` before it happens to `past`, `entry` after it; at the end `finish`.

    `array`: whose task it is; until the task begins, it is the array that waits. `every`: of the entries of others only
    each so manieth is asked about.
    """

    past: Past
    job: int
    array: int = 0
    every: int = 1
    spans: dict[tuple[str, int, str], float] = field(default_factory=dict)
    asked: int = 0
    ended: bool = False
    restarts: list[float] = field(default_factory=list)
    _since: float = 0.0  # what is before it is told
    _shares: tuple[tuple[str, int, str], ...] | None = None  # who is to blame from then on, in equal parts
    _count: int = 0

    def until(self, at: float) -> None:
        """What time alone changes before that."""
        world = self.past.world
        if self._shares is None or world is None or self.ended:
            return
        while self.asked < MOST_ASKED and (record := self._record()) is not None and record.state in WAITING:
            change = world.next_change()
            if change is None or not self._since < change < at:
                return
            self._close(change)
            world.tick(change)
            self._look(change)

    def entry(self, at: float, *, own: bool, restarted: bool) -> None:
        """`own`: the entry is of the job itself; `restarted`: a daemon started in it."""
        if self.ended or (self._shares is None and not own):
            return
        if restarted:
            self.restarts.append(at)
        if restarted and self._shares == ((ROUND, 0, ""),):
            self._shares = ((DAEMON, 0, ""),)  # there was room, and nobody to see it
        self._count += 1
        if own or restarted or (self._count % self.every == 0 and self.asked < MOST_ASKED):
            self._close(at)
            self._look(at)

    def finish(self, at: float) -> None:
        if not self.ended:
            self.until(at)
            self._close(at)

    def parts(self) -> tuple[Part, ...]:
        told = (Part(*key, seconds) for key, seconds in self.spans.items() if seconds > 0)
        return tuple(sorted(told, key=lambda part: (-part.seconds, part.cause, part.job)))

    def _close(self, until: float) -> None:
        if self._shares is not None and until > self._since:
            each = (until - self._since) / len(self._shares)
            for key in self._shares:
                self.spans[key] = self.spans.get(key, 0.0) + each
        self._since = max(self._since, until)

    def _record(self) -> Record | None:
        found = self.past.record(self.job)
        if found is not None:
            self.array = 0
        return found or self.past.record(self.array)

    def _look(self, at: float) -> None:
        """Who is to blame from now on; None: it runs, or has ended."""
        record, self._shares = self._record(), None
        self.ended = record is None or record.state.final
        if record is None or record.state.final or record.state in (State.RUNNING, State.UNDERWAY):
            return
        if record.state not in WAITING:
            self._shares = ((STARTING, 0, ""),)
            return
        world = self.past.open(at)
        if world is None:
            self._shares = ((UNKNOWN, 0, "an older version wrote the journal then"),)
            return
        self.asked += 1
        self._shares = tuple(_shares(decide(world, at, {}).verdict(record)))


def _shares(verdict: Verdict | None) -> Iterator[tuple[str, int, str]]:
    """The first reason is the one that counts: the others only matter when it is gone."""
    match verdict:
        case NotNow(reasons):
            yield from _of_reason(reasons[0])
        case Never(reason):
            yield "never", 0, reason
        case Going() | None:
            yield ROUND, 0, ""


def _of_reason(reason: Reason) -> Iterator[tuple[str, int, str]]:
    """Who holds what it lacks, in equal parts; where nobody does, what the verdict says."""
    yield from ((reason.dimension, job, "") for job in reason.blockers)
    if reason.others:
        yield from [(reason.dimension, 0, "other jobs")] * reason.others
    if not reason.blockers:
        yield reason.dimension, 0, reason.detail
