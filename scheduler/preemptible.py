"""Which running jobs may be frozen for more urgent ones, and when again. Pure.

The rules are `jobs.policy.Preemption`; the choice among them is scheduler/preempt.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush

from jobs.policy import Policy, Preemption, Queue
from jobs.record import Record, State
from jobs.states import HOUR_S
from scheduler.priority import POINT_MS


@dataclass(slots=True)
class Preemptible:
    """Running jobs by urgency, and those that make room already; kept by events. Asking costs what is found."""

    policy: Policy = field(default_factory=Policy)
    _running: dict[int, Record] = field(default_factory=dict)
    _making_room: dict[int, dict[int, Record]] = field(default_factory=dict)  # head → victims that still run
    # How far time has come is not a fact about the jobs, so two that differ in it only are equal.
    _resting: list[tuple[float, int, int, Record]] = field(
        default_factory=list, compare=False
    )  # heap, by end of the rest
    _rested: list[tuple[int, int]] = field(default_factory=list, compare=False)  # (points, job), sorted

    def enter(self, record: Record) -> None:
        if record.state is State.RUNNING and record.preempted_by:
            self._making_room.setdefault(record.preempted_by, {})[record.job] = record
        elif _may_be_frozen(record) and queue_of(self.policy, record).preemptible:
            self._running[record.job] = record
            heappush(self._resting, (rests_until(record, self.policy.preemption), record.job, record.version, record))

    def leave(self, record: Record) -> None:
        """`record` as it was when it entered, under the same policy."""
        if self._running.pop(record.job, None) is not None:
            entry = points_of(self.policy, record), record.job
            place = bisect_left(self._rested, entry)
            if self._rested[place : place + 1] == [entry]:
                del self._rested[place]
        makers = self._making_room.get(record.preempted_by, {})
        makers.pop(record.job, None)
        if not makers:
            self._making_room.pop(record.preempted_by, None)

    def tick(self, now: float) -> None:
        """Whose rest is over by now may be asked."""
        while self._resting and self._resting[0][0] <= now:
            _, job, _, record = heappop(self._resting)
            if self._running.get(job) is record:
                insort(self._rested, (points_of(self.policy, record), job))

    def below(self, points: int) -> Iterator[Record]:
        """Those whose rest is over, the least urgent first, up to `points`."""
        for have, job in self._rested:
            if have > points:
                return
            yield self._running[job]

    def any_between(self, above: int, points: int) -> bool:
        """Whether of `below(points)` somebody has more than `above`. Quick."""
        place = bisect_left(self._rested, (above + 1, 0))
        return place < len(self._rested) and self._rested[place][0] <= points

    def next_rested(self) -> float | None:
        """When the first rest of those that are left alone now is over."""
        while self._resting and self._running.get(self._resting[0][1]) is not self._resting[0][3]:
            heappop(self._resting)
        return self._resting[0][0] if self._resting else None

    def heads(self) -> set[int]:
        """For whom somebody makes room."""
        return set(self._making_room)

    def making_room_for(self, head: int) -> tuple[Record, ...]:
        return tuple(self._making_room.get(head, {}).values())


def _may_be_frozen(record: Record) -> bool:
    return record.state is State.RUNNING and not record.to_freeze and record.cancel is None


def queue_of(policy: Policy, record: Record) -> Queue:
    """A queue that is gone counts as one without rules."""
    try:
        return policy.queue(record.spec.queue)
    except KeyError:
        return Queue(record.spec.queue)


def points_of(policy: Policy, record: Record) -> int:
    return record.urgency + queue_of(policy, record).points


def order_of_running(record: Record, offset_ms: int, now: float) -> int:
    """How it would stand among those that wait if its running did not count as waiting. Who has waited long is not
    frozen for a newcomer; who has run long is.

    Larger comes first; `offset_ms` is what its queue and its user's share add."""
    waited_s = record.running_since - record.submitted_at - record.ran_s
    return record.urgency * POINT_MS + offset_ms + round((waited_s - now) * 1000)


def rests_until(record: Record, rules: Preemption) -> float:
    """Wall time before which it is left alone."""
    lately = record.preempted_lately
    rested = max((record.running_since, *lately[-1:])) + rules.least_run_s
    if rules.most_per_hour and len(lately) >= rules.most_per_hour:
        return max(rested, lately[-rules.most_per_hour] + HOUR_S)
    return rested
