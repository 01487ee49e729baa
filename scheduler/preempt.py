"""Making room for a more urgent job by freezing less urgent ones, or by queueing them again. Pure.

A frozen job gives its CPUs back and keeps what is resident; so the choice is tried out on a scratch ledger, whose rules
(the memory of all that run, of all that are frozen, and what the neediest of these may take again) hold for the victims
too. Of all sets of victims that make room, that one is taken whose worst victim is the least to regret, and of it
nobody is frozen who need not be. What keeps jobs from being frozen over and over: `jobs.policy.Preemption`.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from typing import Literal

from jobs.placement import Placement
from jobs.policy import Policy, Preemption, Queue
from jobs.record import Record, State
from jobs.states import HOUR_S, PREEMPTION
from scheduler.allocate import allocate
from scheduler.capacity import MILLI, Hold, Ledger, hold_of, milli_each, ports_of
from scheduler.demand import Demand
from scheduler.priority import POINT_MS

Mode = Literal["freeze", "requeue"]


@dataclass(frozen=True, slots=True)
class Head:
    """A job that waits for room: queued, or frozen and to come back (then without `headroom`)."""

    job: int
    demands: tuple[Demand, ...]  # alternatives, the first that works is taken
    points: int  # urgency with its queue's points
    order: int  # its priority: larger comes first
    mode: Mode = "freeze"
    headroom: bool = True
    prefer: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Victim:
    """A running job and what it may keep resident."""

    record: Record
    points: int
    resident_bytes: int

    @property
    def job(self) -> int:
        return self.record.job

    def regret(self, mode: Mode) -> tuple[float, ...]:
        """Larger is worse: urgency, how often it made room in the last hour, then what the coming back costs: pages
        that may have to move, by powers of two, or the work that is lost. Of equals the one that ran longest."""
        record = self.record
        cost = record.ran_s if mode == "requeue" else self.resident_bytes.bit_length()
        return self.points, len(record.preempted_lately), cost, record.running_since, record.job


@dataclass(frozen=True, slots=True)
class Choice:
    """`victims` is empty when nothing helps now."""

    victims: tuple[Victim, ...] = ()
    placement: Placement | None = None  # where the head will run


NOBODY = Choice()


# ── who may be frozen ───────────────────────────────────────────────────────────────────────────────────────────────


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

    def below(self, points: int, now: float) -> Iterator[Record]:
        """Those whose rest is over, the least urgent first, up to `points`."""
        while self._resting and self._resting[0][0] <= now:
            _, job, _, record = heappop(self._resting)
            if self._running.get(job) is record:
                insort(self._rested, (points_of(self.policy, record), job))
        for have, job in self._rested:
            if have > points:
                return
            yield self._running[job]

    def next_rested(self) -> float | None:
        """When the first rest of those that are left alone now is over; after `below`."""
        while self._resting and self._running.get(self._resting[0][1]) is not self._resting[0][3]:
            heappop(self._resting)
        return self._resting[0][0] if self._resting else None

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


def order_of_running(record: Record, points: int, now: float) -> int:
    """Where a running job would stand among those that wait, if it were frozen now: only waiting makes it older."""
    waited_s = record.running_since - record.submitted_at - record.ran_s
    return points * POINT_MS + round((waited_s - now) * 1000)


def rests_until(record: Record, rules: Preemption) -> float:
    """Wall time before which it is left alone."""
    lately = record.preempted_lately
    rested = max((record.running_since, *lately[-1:])) + rules.least_run_s
    if rules.most_per_hour and len(lately) >= rules.most_per_hour:
        return max(rested, lately[-rules.most_per_hour] + HOUR_S)
    return rested


# ── the choice ──────────────────────────────────────────────────────────────────────────────────────────────────────


def choose(
    free: Ledger,
    head: Head,
    running: Iterable[Record],
    policy: Policy,
    now: float,
    resident: Mapping[int, int] | None = None,
    share_ms: Mapping[int, int] | None = None,
) -> Choice:
    """`running`: those whose rest is over (`Preemptible.below`); `resident`: bytes observed, where unknown all that a
    job may take; `share_ms`: what each one's share adds to its priority. `free` is not changed; what makes way for
    `head` already is to have done so in it (`make_way`).
    """
    margin = policy.preemption.margin
    victims: list[Victim] = []
    for record in running:
        points = points_of(policy, record)
        if points + margin > head.points or (head.mode == "requeue" and record.spec.on_lost != "requeue"):
            continue
        if order_of_running(record, points, now) + (share_ms or {}).get(record.job, 0) >= head.order:
            continue
        victims.append(Victim(record, points, (resident or {}).get(record.job, _most(record))))
    victims.sort(key=lambda victim: victim.regret(head.mode))
    for demand in head.demands:
        trial = _Trial(free, head, demand)
        if victims and trial.could(victims) and (found := trial.least(victims)):
            return Choice(tuple(found), trial.placement())
    return NOBODY


def _most(record: Record) -> int:
    return record.spec.resources.memory_bytes


def hold_when_frozen(record: Record, resident_bytes: int) -> Hold:
    return hold_of(replace(record, state=State.FROZEN, placement=None, resident_bytes=resident_bytes))


def make_way(ledger: Ledger, record: Record, resident_bytes: int | None = None) -> None:
    """In a scratch ledger: what the job will hold when the node did what its record asks for."""
    ledger.release(record.job)
    stopped = record.cancel is not None and record.cancel.by == PREEMPTION
    resident = _most(record) if resident_bytes is None else resident_bytes
    ledger.charge(record.job, Hold(ports=ports_of(record)) if stopped else hold_when_frozen(record, resident))


@dataclass(slots=True)
class _Trial:
    """One demand, on a scratch ledger in which victims are frozen and thawed again."""

    free: Ledger
    head: Head
    demand: Demand
    _scratch: Ledger = field(init=False)
    _gone: dict[int, Victim] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._scratch = self.free.copy()
        self._scratch.release(self.head.job)

    def could(self, victims: Sequence[Victim]) -> bool:
        """False when even all of them have too few CPUs; quick."""
        return not self.demand.cpus or (
            self._scratch.most_free_cpus() + sum(_width(victim.record) for victim in victims) >= self.demand.wide
        )

    def least(self, victims: Sequence[Victim]) -> list[Victim]:
        """`victims`: the least to regret first. The shortest beginning of them that makes room, less who is not
        needed, the worst first; [] when all of them don't."""
        short, size = 0, 1
        while not self._fits(victims[:size]):
            if size >= len(victims):
                return []
            short, size = size, min(2 * size, len(victims))
        while size - short > 1:
            middle = (short + size) // 2
            short, size = (short, middle) if self._fits(victims[:middle]) else (middle, size)
        needed = list(victims[:size])
        if size > MOST_SPARED_SINGLY:
            needed = self._around(needed)
        for victim in reversed(needed[:-1]):  # the last one is needed, or the beginning were shorter
            fewer = [other for other in needed if other is not victim]
            if self._fits(fewer):
                needed = fewer
        self._freeze(needed)
        return needed

    def _around(self, victims: list[Victim]) -> list[Victim]:
        """Those on the CPUs and memory nodes that the head would get, if they suffice: the others are far from it."""
        self._fits(victims)
        place = self.placement()
        assert place is not None
        near = [victim for victim in victims[:-1] if _touches(victim.record, place)] + victims[-1:]
        return near if self._fits(near) else victims

    def placement(self) -> Placement | None:
        return allocate(self._scratch, self.demand, headroom=self.head.headroom, prefer=self.head.prefer)

    def _fits(self, victims: Sequence[Victim]) -> bool:
        self._freeze(victims)
        ports = any(self._scratch.ports.get(port) for port in self.demand.ports)
        room = self._scratch.jobs < self._scratch.capacity.max_jobs
        return room and not ports and self.placement() is not None

    def _freeze(self, victims: Sequence[Victim]) -> None:
        """Exactly these."""
        wanted = {victim.job: victim for victim in victims}
        for job in [job for job in self._gone if job not in wanted]:
            self._scratch.release(job)
            self._scratch.charge(job, self.free.holds[job])
            del self._gone[job]
        for job, victim in wanted.items():
            if job not in self._gone:
                self._scratch.release(job)
                self._scratch.charge(job, self._hold(victim))
                self._gone[job] = victim

    def _hold(self, victim: Victim) -> Hold:
        if self.head.mode == "requeue":
            return Hold(ports=ports_of(victim.record))
        return hold_when_frozen(victim.record, victim.resident_bytes)


MOST_SPARED_SINGLY = 64  # more victims than this are first narrowed to those near the place that was found


def _width(record: Record) -> int:
    place = record.placement
    return len(place.cpus) + len(place.idle) if place is not None else 0


def _touches(record: Record, place: Placement) -> bool:
    held = record.placement
    return held is not None and (
        not set(place.cpus).isdisjoint(held.cpus + held.idle) or not set(place.mems).isdisjoint(held.mems)
    )


# ── what is on its way ──────────────────────────────────────────────────────────────────────────────────────────────


def claim(free: Ledger, job: int, placement: Placement) -> None:
    """Takes out of a scratch ledger what is free already of a place that is being made, charged to -job."""
    each = MILLI if placement.exclusive else milli_each(placement.shares, len(placement.cpus))
    cpus = [(cpu, min(each, free.milli_left(cpu))) for cpu in (*placement.cpus, *placement.idle)]
    memory = [(node, min(size, max(0, free.free_memory(node, headroom=False)))) for node, size in placement.memory]
    pages = [(node, size, min(count, max(0, free.free_pages(node, size)))) for node, size, count in placement.hugepages]
    free.charge(-job, Hold(shared=tuple(pair for pair in cpus if pair[1]), memory=tuple(memory), pages=tuple(pages)))
