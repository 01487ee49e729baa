"""Why a job waits, when it will start, and what would start it now: all of it by asking `decide`. Pure.

The world is lent for the length of a call and is the same afterwards; a changed job is supposed, decided upon, undone.
`cheapest` yields after each round that it tries, so that the caller can let others run in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from jobs.placement import Placement
from jobs.policy import Queue
from jobs.record import Record, State
from jobs.units import render_duration
from jobs.verdict import Going, Never, NotNow, Reason, Verdict
from scheduler.actions import Place, ThawPlace
from scheduler.decide import decide
from scheduler.decision import WAITING
from scheduler.earliest import Start, ahead, earliest
from scheduler.world import World

SHORT_S = (60, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 43200, 86400, 172800, 345600, 604800)
STEPS = 64  # parts of the memory, from which the most that fits is chosen
MAY_FREEZE = {"urgency", "queue"}  # others are only frozen by who asks for that
UNCHANGEABLE = {"held", "begin", "dependency"}  # nothing that is asked for matters while one of these stands


@dataclass(frozen=True, slots=True)
class Explanation:
    """`verdict` is that of the round; None where the job does not wait. `placement`: where it starts now."""

    verdict: Verdict | None
    reasons: tuple[Reason, ...] = ()
    ahead: int = 0
    start: Start = field(default_factory=Start)
    placement: Placement | None = None

    @property
    def starts(self) -> bool:
        return self.placement is not None

    @property
    def blockers(self) -> tuple[int, ...]:
        return tuple(sorted({job for reason in self.reasons for job in reason.blockers}))


@dataclass(frozen=True, slots=True)
class Asked:
    """What a job would ask for instead; None: as it is. `memory` in bytes, `time_limit` in seconds of running time."""

    cpus: float | None = None
    memory: int | None = None
    numa: Literal["local", "spread", "any"] | None = None
    cores: Literal["shared", "whole"] | None = None
    time_limit: float | None = None
    urgency: int | None = None
    queue: str | None = None

    def of(self, record: Record) -> Record:
        """The record as it would be."""
        spec, wanted = record.spec, record.spec.resources
        wanted = replace(
            wanted,
            cpus=wanted.cpus if self.cpus is None else self.cpus,
            memory_bytes=wanted.memory_bytes if self.memory is None else self.memory,
        )
        spec = replace(
            spec,
            resources=wanted,
            numa=self.numa or spec.numa,
            cores=self.cores or spec.cores,
            time_limit_s=spec.time_limit_s if self.time_limit is None else self.time_limit,
            queue=self.queue or spec.queue,
        )
        urgency = record.urgency if self.urgency is None else self.urgency
        memory = record.memory_bytes if self.memory is None else 0
        return replace(record, spec=spec, urgency=urgency, memory_bytes=memory)


@dataclass(frozen=True, slots=True)
class Change:
    """One change that starts the job now. `cost`: what is given up, from 0 (nothing) to 1."""

    what: str  # a field of Asked
    value: str  # as it is written in a spec or on the command line
    asked: Asked
    cost: float
    freezes: tuple[int, ...] = ()  # jobs that make room for it


@dataclass(frozen=True, slots=True)
class Answer:
    """`ends`: when the jobs in the way are expected to have ended; wall clock."""

    at: float
    record: Record
    explanation: Explanation
    changes: tuple[Change, ...] = ()
    blockers: tuple[Record, ...] = ()
    ends: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()

    def with_changes(self, changes: Sequence[Change]) -> Answer:
        return replace(self, changes=tuple(changes))


def answer(world: World, record: Record, now: float) -> Answer:
    """Of a live job, without changes that would start it: `cheapest` finds those."""
    return _answer(world, record, explain(world, record, now), now)


def answer_if(world: World, record: Record, asked: Asked, now: float) -> Answer:
    """What would be said if the queued job asked for this instead."""
    changed = asked.of(record)
    with world.supposing(changed):
        return _answer(world, record, explain(world, changed, now), now)


def _answer(world: World, record: Record, explanation: Explanation, now: float) -> Answer:
    blockers = tuple(world.live[job] for job in explanation.blockers if job in world.live)
    ends = tuple(world.expected_end(each) if each.state is State.RUNNING else 0.0 for each in blockers)
    return Answer(now, record, explanation, blockers=blockers, ends=ends)


def explain(world: World, record: Record, now: float) -> Explanation:
    """Of a live job. `world` was brought to `now` by its tick."""
    decision = decide(world, now, {})
    verdict = decision.verdict(record)
    place = next(
        (each.placement for each in decision.actions if isinstance(each, Place | ThawPlace) and each.job == record.job),
        None,
    )
    if record.state not in WAITING:
        return Explanation(verdict, placement=place)
    match verdict:
        case Going():
            start = Start(now, "the clock") if place is not None else Start(why="this round ends it")
            return Explanation(verdict, start=start, placement=place)
        case Never(reason):
            return Explanation(verdict, start=Start(why=reason))
        case NotNow(reasons):
            start = earliest(world, decision, record, reasons, now)
            return Explanation(verdict, reasons, ahead(world, record), start)
    return Explanation(verdict, start=Start(why="the next round decides"))


def starts(world: World, record: Record, asked: Asked, now: float) -> tuple[int, ...] | None:
    """None: it would not. Else it starts now, or as soon as these jobs are frozen for it, as its queue allows."""
    changed = asked.of(record)
    with world.supposing(changed):
        decision = decide(world, now, {})
        if any(isinstance(each, Place) and each.job == record.job for each in decision.actions):
            return ()
        return decision.victims(record.job) or None


# ── what would start it now ─────────────────────────────────────────────────────────────────────────────────────────


def cheapest(world: World, record: Record, explained: Explanation, now: float) -> Iterator[Change | None]:
    """Changes that start it now, the least of each kind, in no order; None after each round that was tried.

    Ends early when the job's record changes meanwhile. `now` must stay that of the world's last tick or later.
    """
    dimensions = {reason.dimension.split(":")[0] for reason in explained.reasons}
    if record.state is not State.QUEUED or dimensions & UNCHANGEABLE:
        return
    for ladder in _ladders(world, record):
        low, high, found = 0, len(ladder), None
        middle = high - 1  # the costliest first: if that does not do, none does
        while low < high:
            if world.live.get(record.job) != record:
                return
            freezes = starts(world, record, ladder[middle].asked, now)
            if freezes is not None and (not freezes or ladder[middle].what in MAY_FREEZE):
                found, high = replace(ladder[middle], freezes=freezes), middle
            elif middle == len(ladder) - 1:
                break
            else:
                low = middle + 1
            yield None
            middle = (low + high) // 2
        yield found


def _ladders(world: World, record: Record) -> Iterator[list[Change]]:
    """Of each kind the changes by rising cost; if one does, so does every costlier one."""
    spec, wanted = record.spec, record.wanted.resources
    if spec.numa != "any":
        yield [Change("numa", '"any"', Asked(numa="any"), 0.05)]
    if spec.cores == "whole":
        yield [Change("cores", '"shared"', Asked(cores="shared"), 0.1)]
    estimate = world.estimate_s(record)
    yield [
        Change("time_limit", render_duration(limit), Asked(time_limit=float(limit)), 1 - limit / estimate)
        for limit in reversed(SHORT_S)
        if limit < estimate
    ]
    sizes = sorted({wanted.memory_bytes * part // STEPS >> 20 << 20 for part in range(1, STEPS)}, reverse=True)
    yield [
        Change("memory", _size(size), Asked(memory=size), 1 - size / wanted.memory_bytes)
        for size in sizes
        if 0 < size < wanted.memory_bytes
    ]
    counts = range(int(wanted.cpus) - 1, 0, -1) if wanted.whole_cpus else ()
    yield [Change("cpus", f"{count}", Asked(cpus=float(count)), 1 - count / wanted.cpus) for count in counts]
    yield [
        Change("urgency", f"{urgency}", Asked(urgency=urgency), 0.5 + (urgency - record.urgency) / 200)
        for urgency in range(record.urgency + 1, 101)
    ]
    for queue in world.policy.queues:
        if queue.name != spec.queue and may_use(queue, record):
            yield [Change("queue", queue.name, Asked(queue=queue.name), 0.3)]


def _size(size: int) -> str:
    """Of whole MiB, exactly: what is rounded up would not fit."""
    return f"{size >> 30}GiB" if size % (1 << 30) == 0 else f"{size >> 20}MiB"


def may_use(queue: Queue, record: Record) -> bool:
    """By name; who belongs to a group of the queue is not known here, so its jobs are not sent there."""
    return not (queue.users or queue.groups) or record.user in queue.users


def best(found: Iterable[Change]) -> list[Change]:
    """Cheapest first; of each kind only the cheapest."""
    chosen: dict[str, Change] = {}
    for change in sorted(found, key=lambda each: (each.cost, each.what, each.value)):
        chosen.setdefault(change.what, change)
    return list(chosen.values())
