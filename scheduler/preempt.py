"""Making room for a more urgent job by freezing less urgent ones, or by queueing them again. Pure.

A frozen job gives its CPUs back and keeps what is resident; so the choice is tried out on a scratch ledger, whose rules
(the memory of all that run, of all that are frozen, and what the neediest of these may take again) hold for the victims
too. Of all sets of victims that make room, that one is taken whose worst victim is the least to regret, and of it
nobody is frozen who need not be. What keeps jobs from being frozen over and over: `jobs.policy.Preemption`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from jobs.placement import Placement
from jobs.policy import Policy
from jobs.record import Record, State
from jobs.states import PREEMPTION
from scheduler.allocate import allocate
from scheduler.capacity import Hold, Ledger, hold_of, ports_of
from scheduler.demand import Demand
from scheduler.preemptible import order_of_running, points_of
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
    mates: tuple[Victim, ...] = ()  # frozen with it or not at all

    @property
    def all(self) -> tuple[Victim, ...]:
        return self, *self.mates

    @property
    def job(self) -> int:
        return self.record.job

    def regret(self, mode: Mode) -> tuple[float, ...]:
        """Larger is worse: urgency, how often it made room in the last hour, then what the coming back costs: pages
        that may have to move, by powers of two, or the work that is lost. Of equals the one that ran longest."""
        record = self.record
        cost = record.ran_s if mode == "requeue" else self.resident_bytes.bit_length()
        own = self.points, len(record.preempted_lately), cost, record.running_since, record.job
        return max((own, *(mate.regret(mode) for mate in self.mates)))


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
    running: Iterable[Record],
    policy: Policy,
    now: float,
    resident: Mapping[int, int] | None = None,
    offset_ms: Callable[[Record], int] | None = None,
    together: Callable[[Record], Iterable[Record]] | None = None,
) -> Choice:
    """`running`: those whose rest is over (`Preemptible.below`); `resident`: bytes observed, where unknown all that a
    job may take; `offset_ms`: what a queue and a share add to a priority; `together`: who must be frozen with a job, of
    whom each must be one that may be. `free` is not changed; what makes way for
    `head` already is to have done so in it (`make_way`).
    """
    margin = policy.preemption.margin
    single: dict[int, Victim] = {}
    for record in running:
        points = points_of(policy, record)
        if points + margin > head.points or (head.mode == "requeue" and record.spec.on_lost != "requeue"):
            continue
        offset = offset_ms(record) if offset_ms is not None else (points - record.urgency) * POINT_MS
        if order_of_running(record, offset, now) >= head.order:
            continue
        single[record.job] = Victim(record, points, min(_most(record), (resident or {}).get(record.job, _most(record))))
    victims = _grouped(single, together) if together is not None else list(single.values())
    victims.sort(key=lambda victim: victim.regret(head.mode))
    for demand in head.demands:
        trial = _Trial(free, head, demand)
        if victims and trial.could(victims) and (found := trial.least(victims)):
            return Choice(tuple(each for victim in found for each in victim.all), trial.placement())
    return NOBODY


def _grouped(single: Mapping[int, Victim], together: Callable[[Record], Iterable[Record]]) -> list[Victim]:
    """A group of which one may not be frozen is nobody's victim."""
    found: list[Victim] = []
    seen: set[int] = set()
    for job, victim in single.items():
        if job not in seen:
            mates = [mate.job for mate in together(victim.record) if mate.job != job]
            seen.update((job, *mates))
            if all(mate in single for mate in mates):
                found.append(replace(victim, mates=tuple(single[mate] for mate in mates)))
    return found


def _most(record: Record) -> int:
    return record.wanted.resources.memory_bytes


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
    _gone: dict[int, Victim] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._scratch = self.free.copy()
        self._scratch.release(self.head.job)

    def could(self, victims: Sequence[Victim]) -> bool:
        """False when even all of them have too few CPUs; quick."""
        return not self.demand.cpus or (
            self._scratch.most_free_cpus() + sum(_width(each.record) for victim in victims for each in victim.all)
            >= self.demand.wide
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
        near = [one for one in victims[:-1] if any(_touches(each.record, place) for each in one.all)] + victims[-1:]
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


def _width(record: Record) -> int:
    place = record.placement
    return len(place.cpus) + len(place.idle) if place is not None else 0


def _touches(record: Record, place: Placement) -> bool:
    held = record.placement
    return held is not None and (
        not set(place.cpus).isdisjoint(held.cpus + held.idle) or not set(place.mems).isdisjoint(held.mems)
    )
