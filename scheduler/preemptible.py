"""Which running jobs may be frozen for more urgent ones, and when again. Pure.

The rules are `jobs.policy.Preemption`; the choice among them is scheduler/preempt.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Literal

from jobs.policy import Policy, Preemption, Queue
from jobs.record import Record, State
from jobs.states import HOUR_S
from scheduler.priority import POINT_MS

Mode = Literal["freeze", "requeue"]
Regret = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Victim:
    """A running job and what it may keep resident: what was observed, where unknown all that it may take."""

    record: Record
    points: int
    resident_bytes: int = field(compare=False)  # an observation: a daemon that starts anew has none
    mates: tuple[Victim, ...] = ()  # frozen with it or not at all

    @property
    def all(self) -> tuple[Victim, ...]:
        return self, *self.mates

    @property
    def job(self) -> int:
        return self.record.job

    def regret(self, mode: Mode) -> Regret:
        """Larger is worse: urgency, how often it made room in the last hour, then what the coming back costs: pages
        that may have to move, by powers of two, or the work that is lost. Of equals the one that ran longest."""
        record = self.record
        cost = record.ran_s if mode == "requeue" else self.resident_bytes.bit_length()
        return self.points, len(record.preempted_lately), cost, record.running_since, record.job


@dataclass(slots=True)
class Preemptible:
    """Running jobs by regret, and those that make room already; kept by events. Asking costs what is found."""

    policy: Policy = field(default_factory=Policy)
    _running: dict[int, Victim] = field(default_factory=dict)
    _making_room: dict[int, dict[int, Record]] = field(default_factory=dict)  # head → victims that still run
    # How far time has come is not a fact about the jobs, so two that differ in it only are equal.
    _resting: list[tuple[float, int, int, Victim]] = field(
        default_factory=list, compare=False
    )  # heap, by end of the rest
    _rested: dict[Mode, list[tuple[Regret, int]]] = field(
        default_factory=lambda: {"freeze": [], "requeue": []}, compare=False
    )  # (regret, job), sorted

    def enter(self, record: Record, resident_bytes: int | None = None) -> None:
        if record.state is State.RUNNING and record.preempted_by:
            self._making_room.setdefault(record.preempted_by, {})[record.job] = record
        elif _may_be_frozen(record) and queue_of(self.policy, record).preemptible:
            most = record.wanted.resources.memory_bytes
            keeps = most if resident_bytes is None else min(most, resident_bytes)
            victim = Victim(record, points_of(self.policy, record), keeps)
            self._running[record.job] = victim
            heappush(self._resting, (rests_until(record, self.policy.preemption), record.job, record.version, victim))

    def leave(self, record: Record) -> None:
        """`record` as it was when it entered, under the same policy."""
        if (victim := self._running.pop(record.job, None)) is not None:
            for mode, rested in self._rested.items():
                entry = victim.regret(mode), record.job
                place = bisect_left(rested, entry)
                if rested[place : place + 1] == [entry]:
                    del rested[place]
        makers = self._making_room.get(record.preempted_by, {})
        makers.pop(record.job, None)
        if not makers:
            self._making_room.pop(record.preempted_by, None)

    def observe(self, record: Record, resident_bytes: int, now: float) -> None:
        """What it keeps in memory changes its regret."""
        if record.job in self._running:
            self.leave(record)
            self.enter(record, resident_bytes)
            self.tick(now)

    def tick(self, now: float) -> None:
        """Whose rest is over by now may be asked."""
        while self._resting and self._resting[0][0] <= now:
            _, job, _, victim = heappop(self._resting)
            if self._running.get(job) is not victim:
                continue
            for mode, rested in self._rested.items():
                if mode == "freeze" or victim.record.spec.on_lost == "requeue":
                    insort(rested, (victim.regret(mode), job))

    def below(self, points: int, mode: Mode = "freeze") -> Iterator[Victim]:
        """Those whose rest is over, the least to regret first, up to `points`."""
        for _, job in self._rested[mode]:
            victim = self._running[job]
            if victim.points > points:
                return
            yield victim

    def any_between(self, above: int, points: int) -> bool:
        """Whether of `below(points)` somebody has more than `above`. Quick."""
        rested = self._rested["freeze"]
        place = bisect_left(rested, ((above + 1,), 0))
        return place < len(rested) and rested[place][0][0] <= points

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
