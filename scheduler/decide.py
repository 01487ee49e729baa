"""One scheduling round: the world and the time in, a Decision out. Pure; nothing here awaits.

1 what running and frozen jobs ask for (cancel, time limit, pause, weights)   2 frozen jobs that may come back
3 queued jobs, in priority order, each where it fits now (first fit).
A job that does not fit lets later ones pass, until it has waited PATIENCE_S: then what is free where it will run is
earmarked for it, unless only frozen jobs are in its way. So nobody starves, and nothing idles for a newcomer's sake.
Actions are repeated every round until the record says they are done; all are safe to repeat.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from heapq import heapify, heappop, heappush

from jobs.placement import Placement
from jobs.record import Record, State
from jobs.verdict import Going, Never, NotNow, Verdict
from scheduler import shortage
from scheduler.allocate import allocate
from scheduler.capacity import Hold, Ledger, hold_for, hold_of, ports_of
from scheduler.demand import Demand, demand_of, thaw_demand
from scheduler.earmark import earmark
from scheduler.priority import order_key
from scheduler.world import World

DECIDE_VERSION = 1
PATIENCE_S = 300.0  # policy: short jobs may overtake for so long; five minutes is the order of a batch queue's latency


@dataclass(frozen=True, slots=True)
class Action:
    """`version` is that of the record it was decided on."""

    job: int
    version: int


class Start(Action):
    """Placed and committed, not yet running: the node builds the container."""


class Freeze(Action):
    pass


class Thaw(Action):
    """CPUs are committed; the node writes them and thaws."""


class Stop(Action):
    pass


class Reprioritise(Action):
    pass


class TimeUp(Action):
    """The time limit is over: a cancel is committed with the spec's own signal and grace."""


@dataclass(frozen=True, slots=True)
class Place(Action):
    placement: Placement


@dataclass(frozen=True, slots=True)
class ThawPlace(Action):
    placement: Placement


@dataclass(frozen=True, slots=True)
class Decision:
    """`actions` in the order of doing: ends and freezes, thaws, starts.

    Verdicts are kept per demand and worked out when asked for, from what was left at the end of the round.
    """

    actions: tuple[Action, ...] = ()
    _left: Ledger | None = None
    _protected: int = 0
    _going: Mapping[int, Going] = field(default_factory=dict)
    _blocked: Mapping[Demand, bool] = field(default_factory=dict)  # demand → whether it ever fits
    _thaws: frozenset[int] = frozenset()  # frozen jobs that wait for room

    def verdict(self, record: Record) -> Verdict | None:
        """Of a job that waits for resources; None for any other, and for one that came after this round."""
        if record.state not in (State.QUEUED, State.FROZEN):
            return None
        if record.job in self._going:
            return self._going[record.job]
        if record.job in self._thaws:
            return self._not_now(thaw_demand(record), record.job, headroom=False)
        demand = demand_of(record.spec)
        if record.state is not State.QUEUED or demand not in self._blocked or self._left is None:
            return None
        if not self._blocked[demand]:
            return Never(shortage.impossible(self._left.capacity, demand))
        return self._not_now(demand, record.job, headroom=True)

    def _not_now(self, demand: Demand, job: int, *, headroom: bool) -> NotNow:
        assert self._left is not None
        left = self._left.copy()
        for own in (job, -job):  # what it holds itself is not in its way
            left.release(own)
        return NotNow(shortage.reasons(left, demand, job, self._protected, headroom=headroom))


def decide(world: World, now: float, ran_s: Mapping[int, float]) -> Decision:
    """`now` is wall time, as in `submitted_at`; `ran_s` the running time of running jobs, by job id, from the node."""
    this = _Round(world, now, world.ledger.copy())
    for job in sorted(world.active):
        this.see_to(world.active[job], ran_s.get(job, world.active[job].ran_s))
    this.thaw_what_may_come_back()
    this.start_what_fits()
    return this.decision()


def next_deadline(world: World, ran_s: Mapping[int, float]) -> float | None:
    """Seconds until the first running job reaches its time limit; None when no limit is running."""
    left = [
        record.spec.time_limit_s - ran_s.get(job, record.ran_s)
        for job, record in world.active.items()
        if record.state is State.RUNNING and record.spec.time_limit_s and record.cancel is None
    ]
    return max(0.0, min(left)) if left else None


@dataclass(slots=True)
class _Round:
    """The state of one round: `free` is a scratch ledger, charged as actions are decided."""

    world: World
    now: float
    free: Ledger
    actions: list[Action] = field(default_factory=list)
    blocked: dict[Demand, bool] = field(default_factory=dict)
    thaws: set[int] = field(default_factory=set)
    protected: int = 0  # the job for which something is earmarked
    _when_all_ended: Ledger | None = None

    def see_to(self, record: Record, ran_s: float) -> None:
        """What a job on the node asks for, but for a thaw."""
        job, version, state = record.job, record.version, record.state
        if state is State.STARTING:
            self.actions.append(Start(job, version))
        if state is State.THAWING:
            self.actions.append(Thaw(job, version))
        if record.cancel is not None:
            if state is not State.FROZEN:  # a frozen one first needs CPUs to handle its signal on
                self.actions.append(Stop(job, version))
            return
        if state is State.RUNNING and 0 < record.spec.time_limit_s <= ran_s:
            self.actions.append(TimeUp(job, version))
        elif state is State.RUNNING and record.to_freeze:
            self.actions.append(Freeze(job, version))
        elif record.weights_version:
            self.actions.append(Reprioritise(job, version))

    def thaw_what_may_come_back(self) -> None:
        """In priority order, before any new start; the first that finds no room has what is free earmarked."""
        coming = [r for r in self.world.active.values() if r.state is State.FROZEN and (r.cancel or not r.pause_holds)]
        for record in sorted(coming, key=order_key):
            placement = self._room_again(record)
            if placement is not None:
                self.free.charge(record.job, hold_for(placement, ports_of(record)))
                self.actions.append(ThawPlace(record.job, record.version, placement))
                continue
            self.free.charge(record.job, hold_of(record))
            if record.cancel is not None:
                self.actions.append(Stop(record.job, record.version))
                continue
            self.thaws.add(record.job)
            if not self.protected:
                self._protect_thaw(record)

    def _protect_thaw(self, record: Record) -> None:
        """What it holds already, resident memory or kept CPUs, need not be earmarked again."""
        demand = thaw_demand(record)
        if record.placement is None:
            self._protect(record.job, replace(demand, memory_bytes=max(0, demand.memory_bytes - record.resident_bytes)))
            return
        growth = hold_of(record).growth
        free = {node: max(0, self.free.free_memory(node, headroom=False)) for node, _ in growth}
        self.free.charge(-record.job, Hold(memory=tuple((node, min(size, free[node])) for node, size in growth)))
        self.protected = record.job

    def _room_again(self, record: Record) -> Placement | None:
        """Releases what the frozen job holds in the scratch ledger; CPUs that it kept it gets again."""
        self.free.release(record.job)
        if record.placement is not None:
            return None if self.free.refusal(record.placement) else record.placement
        home = record.home.mems if record.home is not None else ()
        return allocate(self.free, thaw_demand(record), headroom=False, prefer=home)

    def start_what_fits(self) -> None:
        """Merges the queues of all demands by priority. When one job of a demand does not fit, none of it does."""
        heads = [(keys[0], position, demand) for position, (demand, keys) in enumerate(self.world.queue.items())]
        heapify(heads)
        taken: dict[Demand, int] = {}
        while heads:
            (_, job), position, demand = heappop(heads)
            if not self._try(job, demand):
                self.blocked[demand] = self.world.ever(demand)
                continue
            taken[demand] = taken.get(demand, 0) + 1
            waiting = self.world.queue[demand]
            if taken[demand] < len(waiting):
                heappush(heads, (waiting[taken[demand]], position, demand))

    def _try(self, job: int, demand: Demand) -> bool:
        record, free = self.world.live[job], self.free
        if free.jobs >= free.capacity.max_jobs or any(free.ports.get(port, set()) - {job} for port in demand.ports):
            return False
        placement = allocate(free, demand) if demand.cpus <= free.most_free_cpus() else None
        if placement is not None:
            free.release(job)  # the ports of its earlier, lost attempt
            free.charge(job, hold_for(placement, demand.ports))
            self.actions.append(Place(job, record.version, placement))
            return True
        patient = self.now - record.submitted_at >= PATIENCE_S
        if patient and not self.protected and allocate(self._ended(), demand) is not None:
            self._protect(job, demand)
        return False

    def _ended(self) -> Ledger:
        if self._when_all_ended is None:
            self._when_all_ended = self.world.frozen_only()
        return self._when_all_ended

    def _protect(self, job: int, demand: Demand) -> None:
        earmark(self.free, job, demand)
        self.protected = job

    def decision(self) -> Decision:
        going = {action.job: Going(type(action).__name__) for action in self.actions}
        return Decision(tuple(self.actions), self.free, self.protected, going, self.blocked, frozenset(self.thaws))
