"""Making room for a more urgent job by freezing less urgent ones, or by queueing them again. Pure.

A frozen job gives its CPUs back and keeps what is resident; so the choice is tried out on a scratch ledger, whose rules
(the memory of all that run, of all that are frozen, and what the neediest of these may take again) hold for the victims
too. Of all sets of victims that make room, that one is taken whose worst victim is the least to regret, and of it
nobody is frozen who need not be. What keeps jobs from being frozen over and over: `jobs.policy.Preemption`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from jobs.placement import Placement
from jobs.policy import Policy
from jobs.record import Record, State
from jobs.states import PREEMPTION
from scheduler.allocate import allocate, fits
from scheduler.capacity import Hold, Ledger, hold_of, ports_of
from scheduler.demand import Demand
from scheduler.preemptible import Mode, Victim, order_of_running
from scheduler.priority import POINT_MS


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
class Choice:
    """`victims` is empty when nothing helps now; of a group each is named."""

    victims: tuple[Victim, ...] = ()
    placement: Placement | None = None  # where the head will run


NOBODY = Choice()


# ── the choice ──────────────────────────────────────────────────────────────────────────────────────────────────────


def choose(
    free: Ledger,
    head: Head,
    running: Iterable[Victim],
    policy: Policy,
    now: float,
    offset_ms: Callable[[Record], int] | None = None,
    together: Callable[[Record], Iterable[Record]] | None = None,
) -> Choice:
    """`running`: those whose rest is over, the least to regret first (`Preemptible.below`); no more of them is looked
    at than it takes. `offset_ms`: what a queue and a share add to a priority; `together`: who must be frozen with a
    job, of whom each must be one that may be. `free` is not changed; what makes way for `head` already is to have done
    so in it (`make_way`).
    """
    margin = policy.preemption.margin

    def may_be(victim: Victim) -> bool:
        record, points = victim.record, victim.points
        if points + margin > head.points:
            return False
        offset = offset_ms(record) if offset_ms is not None else (points - record.urgency) * POINT_MS
        return order_of_running(record, offset, now) < head.order

    allowed = filter(may_be, running)
    victims = _Asked(iter(allowed) if together is None else _grouped(allowed, together))
    for demand in head.demands:
        trial = _Trial(free, head, demand)
        if found := trial.least(victims):
            return Choice(tuple(each for victim in found for each in victim.all), trial.placement())
    return NOBODY


@dataclass(slots=True)
class _Asked:
    """Victims, each made once, and only as far as somebody came."""

    _more: Iterator[Victim]
    _known: list[Victim] = field(default_factory=list)

    def __iter__(self) -> Iterator[Victim]:
        yield from self._known
        for victim in self._more:
            self._known.append(victim)
            yield victim


def _grouped(victims: Iterable[Victim], together: Callable[[Record], Iterable[Record]]) -> Iterator[Victim]:
    """A group is one victim, in the place of its worst member; one of whom somebody may not be frozen is nobody's."""
    held: dict[int, Victim] = {}
    for victim in victims:
        mates = [mate.job for mate in together(victim.record) if mate.job != victim.job]
        if all(mate in held for mate in mates):
            yield replace(victim, mates=tuple(held[mate] for mate in mates)) if mates else victim
        else:
            held[victim.job] = victim


def hold_when_frozen(record: Record, resident_bytes: int) -> Hold:
    return hold_of(replace(record, state=State.FROZEN, placement=None, resident_bytes=resident_bytes))


def make_way(ledger: Ledger, record: Record) -> None:
    """In a scratch ledger: what a preempted job will hold when the node did what its record asks for."""
    ledger.release(record.job)
    stopped = record.cancel is not None and record.cancel.by == PREEMPTION
    hold = Hold(ports=ports_of(record)) if stopped else hold_when_frozen(record, record.resident_bytes)
    ledger.charge(record.job, hold)


@dataclass(slots=True)
class _Trial:
    """One demand, on a scratch ledger in which victims are frozen and thawed again."""

    free: Ledger
    head: Head
    demand: Demand
    _scratch: Ledger = field(init=False)
    _missing: tuple[int, int] = field(init=False)  # CPUs and bytes over all nodes, at least, before anybody is frozen
    _gone: dict[int, Victim] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._scratch = ledger = self.free.copy()
        ledger.release(self.head.job)
        memory = sum(max(0, ledger.free_memory(node, headroom=False)) for node in ledger.capacity.memory)
        cpus = self.demand.wide - ledger.most_free_cpus() if self.demand.cpus else 0
        self._missing = cpus, self.demand.memory_bytes - memory

    def least(self, victims: Iterable[Victim]) -> list[Victim]:
        """`victims`: the least to regret first. The shortest beginning of them that makes room, less who is not
        needed, the worst first; [] when all of them don't."""
        needed = self._beginning(victims)
        if len(needed) > MOST_SPARED_SINGLY:
            needed = self._around(needed)
        cpus, memory = self._missing
        for victim in needed:
            cpus, memory = cpus - _width(victim), memory - self._gives(victim)
        for victim in reversed(needed[:-1]):  # the last one is needed, or the beginning were shorter
            more_cpus, more_memory = cpus + _width(victim), memory + self._gives(victim)
            if more_cpus > 0 or more_memory > 0:
                continue
            fewer = [other for other in needed if other is not victim]
            if self._fits(fewer):
                needed, cpus, memory = fewer, more_cpus, more_memory
        self._freeze(needed)
        return needed

    def _beginning(self, victims: Iterable[Victim]) -> list[Victim]:
        """The shortest that makes room; [] when all of them don't. Nothing is tried out while the sums say no."""
        cpus, memory = self._missing
        asked: list[Victim] = []
        short, next_ = 0, 1
        for victim in victims:
            asked.append(victim)
            cpus, memory = cpus - _width(victim), memory - self._gives(victim)
            if cpus > 0 or memory > 0:
                short = len(asked)
            elif len(asked) >= next_:
                if self._fits(asked):
                    break
                short, next_ = len(asked), 2 * len(asked)
        else:
            if short == len(asked) or not self._fits(asked):
                return []
        size = len(asked)
        while size - short > 1:
            middle = (short + size) // 2
            short, size = (short, middle) if self._fits(asked[:middle]) else (middle, size)
        return asked[:size]

    def _gives(self, victim: Victim) -> int:
        """Bytes, at most."""
        freed = 0
        for each in victim.all:
            place, kept = each.record.placement, each.resident_bytes if self.head.mode == "freeze" else 0
            freed += sum(max(0, size - kept) for _, size in place.memory) if place is not None else 0
        return freed

    def _around(self, victims: list[Victim]) -> list[Victim]:
        """Those on the CPUs and memory nodes that the head would get, if they suffice: the others are far from it."""
        self._fits(victims)
        place = self.placement()
        assert place is not None
        near = [one for one in victims[:-1] if any(_touches(each.record, place) for each in one.all)] + victims[-1:]
        return near if self._fits(near) else victims

    def placement(self) -> Placement | None:
        return allocate(self._scratch, self.demand, headroom=self.head.headroom, prefer=self.head.prefer)

    def _fits(self, victims: Sequence[Victim]) -> bool:
        self._freeze(victims)
        ports = any(self._scratch.ports.get(port) for port in self.demand.ports)
        room = self._scratch.jobs < self._scratch.capacity.max_jobs
        return room and not ports and fits(self._scratch, self.demand, headroom=self.head.headroom)

    def _freeze(self, victims: Sequence[Victim]) -> None:
        """Exactly these."""
        wanted = {each.job: each for victim in victims for each in victim.all}
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


def _width(victim: Victim) -> int:
    """CPUs, at most."""
    places = (each.record.placement for each in victim.all)
    return sum(len(place.cpus) + len(place.idle) for place in places if place is not None)


def _touches(record: Record, place: Placement) -> bool:
    held = record.placement
    return held is not None and (
        not set(place.cpus).isdisjoint(held.cpus + held.idle) or not set(place.mems).isdisjoint(held.mems)
    )
