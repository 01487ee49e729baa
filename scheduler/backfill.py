"""Who may pass whom: room that is kept for the first who found none, and for reserved times. Pure.

A *claim* is a place and a time from which it is kept. A job's claim begins at its shadow time: when, by the estimates
of what runs, it will have room. A later job takes what a claim needs only if it will have ended by then; else it must
leave the claim its room. "easy": the first who finds no room has a claim; "conservative": the first `backfill_depth`.
Nothing is kept for somebody who would have no room even if all running jobs had ended (frozen ones, which may stay for
ever, are in the way): the CPUs would idle as long.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from jobs.placement import Placement
from jobs.policy import Policy, Reservation
from jobs.record import Record
from scheduler.allocate import allocate, fits
from scheduler.capacity import NOTHING, Hold, Ledger, hold_for, hold_of
from scheduler.demand import Demand
from scheduler.earmark import keep
from scheduler.reservation import first_after, overlaps

MOST_LOOKED = 100  # times at which a claim that must avoid others is tried, after the first that could do

Due = tuple[float, int]  # (wall clock, job)


@dataclass(frozen=True, slots=True)
class Wish:
    """Somebody who wants room: a waiting job, or a frozen one that may come back."""

    record: Record
    demands: tuple[Demand, ...]  # alternatives
    estimate_s: float  # of what is left to run
    frozen: bool = False
    task: int = 0  # what stands in ledgers for the next task of an array, which has no id yet

    @property
    def job(self) -> int:
        return self.record.job

    @property
    def holder(self) -> int:
        return self.task or self.record.job

    @property
    def user(self) -> str:
        return self.record.user

    @property
    def held(self) -> Hold:
        """What it has already."""
        return hold_of(self.record) if self.frozen else NOTHING

    def fits(self, ledger: Ledger) -> bool:
        """Whether there is `room`; quicker."""
        if not self.frozen:
            return any(fits(ledger, demand) for demand in self.demands)
        if self.record.placement is not None:
            return self.room(ledger) is not None
        with self._let_go(ledger):
            return fits(ledger, self.demands[0], headroom=False)

    def room(self, ledger: Ledger) -> Placement | None:
        """Where it would run. Leaves the ledger as it was. Ports and the number of jobs are not looked at."""
        if not self.frozen:
            return next((found for demand in self.demands if (found := allocate(ledger, demand)) is not None), None)
        with self._let_go(ledger):
            if (kept := self.record.placement) is not None:  # its CPUs
                return None if ledger.refusal(kept) else kept
            home = self.record.home.mems if self.record.home is not None else ()
            return allocate(ledger, self.demands[0], headroom=False, prefer=home)

    @contextmanager
    def _let_go(self, ledger: Ledger) -> Iterator[None]:
        held = ledger.holds.get(self.job)
        ledger.release(self.job)
        yield
        if held is not None:
            ledger.charge(self.job, held)


@dataclass(slots=True, eq=False)
class Claim:
    """`ledger` is what will be free at `start`, but for the place itself; None when it is not known exactly."""

    key: int  # negative: charged to it in ledgers
    start: float
    place: Placement | None  # None: not chosen yet, in `ledger`
    wish: Wish | None = None
    ledger: Ledger | None = None
    reservation: Reservation | None = None
    made: bool = False  # others are being frozen for it: from now on, and no reservation of the backfill's

    @property
    def job(self) -> int:
        """0: of a reservation."""
        return self.wish.job if self.wish is not None else 0

    def concerns(self, user: str, start: float, end: float) -> bool:
        """Whether a job of this user that runs from `start` to `end` must leave it alone."""
        if self.reservation is not None:
            return user not in self.reservation.users and overlaps(self.reservation, start, end)
        assert self.wish is not None
        return start < self.start + self.wish.estimate_s and self.start < end

    def keep(self, ledger: Ledger) -> None:
        if self.place is None:
            assert self.wish is not None and self.ledger is not None
            self.place = self.wish.room(self.ledger)
        assert self.place is not None, "it fits, and nothing has taken it since"
        keep(ledger, self.key, self.place, self.wish.held if self.wish is not None else NOTHING)

    def might_bear(self, other: Wish) -> bool:
        """False when it can't, whatever the other takes; quick. `other` has room where this is not kept."""
        if self.wish is None or self.ledger is None:
            return False
        if other.record.placement is not None:
            return True  # it has its CPUs already
        least, wanted = (min(demand.cpus for demand in wish.demands) for wish in (other, self.wish))
        return self.ledger.most_free_cpus() - least >= wanted

    def bears(self, job: int, hold: Hold) -> bool:
        """Whether it has room, perhaps elsewhere, even if `job` takes this and keeps it. If so, it is taken."""
        if self.wish is None or self.ledger is None:
            return False
        before = self.ledger.holds.get(job)
        _replace(self.ledger, job, hold)
        if not self.wish.fits(self.ledger):
            _replace(self.ledger, job, before)
            return False
        self.place = None  # perhaps elsewhere now
        return True


def _replace(ledger: Ledger, job: int, hold: Hold | None) -> None:
    ledger.release(job)
    if hold is not None:
        ledger.charge(job, hold)


@dataclass(slots=True)
class Backfill:
    """The claims of one round."""

    policy: Policy
    now: float
    claims: list[Claim] = field(default_factory=list)

    @classmethod
    def of(cls, policy: Policy, reserved: dict[str, tuple[int, ...]], now: float) -> Backfill:
        this = cls(policy, now)
        for reservation in policy.reservations:
            times = first_after(reservation, now)
            if times is not None:
                place = Placement("", reserved[reservation.name], (), exclusive=True)
                this.claims.append(Claim(this._key(), times[0], place, reservation=reservation))
        return this

    def concerning(self, user: str, start: float, end: float, *, but: int = 0) -> list[Claim]:
        return [claim for claim in self.claims if not (but and claim.job == but) and claim.concerns(user, start, end)]

    def place(self, free: Ledger, wish: Wish, over: Sequence[Claim]) -> Placement | None:
        """A place in `free` that takes nothing from the claims `over`. Without them there is room."""
        if len(over) == 1 and over[0].might_bear(wish):
            first = wish.room(free)
            if first is not None and over[0].bears(wish.holder, hold_for(first)):
                return first
        place = kept(free, over, wish)
        if place is not None:
            for claim in over:  # their places are chosen by now
                claim.ledger = None  # it is not known any more what of it is left
        return place

    def may_reserve(self, *, frozen: bool) -> bool:
        """Whether one more has a claim. Frozen and waiting ones are counted apart."""
        depth = self.policy.backfill_depth if self.policy.backfill == "conservative" else 1
        waiting = (claim for claim in self.claims if not claim.made)
        return sum(claim.wish is not None and claim.wish.frozen == frozen for claim in waiting) < depth

    def reserve(self, wish: Wish, free: Ledger, ends: Sequence[Due], *, fits_now: bool) -> Claim | None:
        """Keeps a place from the earliest time on. `ends`: when those who hold CPUs in `free` will have ended."""
        found = shadow(free, ends, wish, self.now if fits_now else None)
        if found is None:
            return None
        for start, ledger in self._times(*found, ends):
            over = self.concerning(wish.user, start, start + wish.estimate_s, but=wish.job)
            place = kept(ledger, over, wish) if over else None
            if place is not None or (not over and wish.fits(ledger)):
                claim = Claim(self._key(), start, place, wish, None if over else ledger)
                self.claims.append(claim)
                return claim
        return None

    def make(self, wish: Wish, place: Placement) -> None:
        """Keeps a place that is about to be free."""
        self.claims.append(Claim(self._key(), self.now, place, wish, made=True))

    def keep(self, wish: Wish, place: Placement, start: float) -> None:
        """A place that is free now, kept from `start` on for who comes back together with others."""
        self.claims.append(Claim(self._key(), start, place, wish))

    def _times(self, start: float, ledger: Ledger, gone: int, ends: Sequence[Due]) -> Iterator[tuple[float, Ledger]]:
        yield start, ledger
        later = {end for end, _ in ends[gone : gone + MOST_LOOKED]}
        for claim in self.claims:
            if claim.wish is not None:
                later.add(claim.start + claim.wish.estimate_s)
            elif claim.reservation is not None and (times := first_after(claim.reservation, start)) is not None:
                later.add(times[1])
        for at in sorted(later)[:MOST_LOOKED]:
            if at > start:
                ledger = ledger.copy()
                while gone < len(ends) and ends[gone][0] <= at:
                    ledger.release(ends[gone][1])
                    gone += 1
                yield at, ledger

    def _key(self) -> int:
        return -1 - len(self.claims)


def kept(ledger: Ledger, over: Iterable[Claim], wish: Wish) -> Placement | None:
    """Room in the ledger beside the places of these claims."""
    keys = []
    for claim in over:
        claim.keep(ledger)
        keys.append(claim.key)
    place = wish.room(ledger)
    for key in keys:
        ledger.release(key)
    return place


def shadow(free: Ledger, ends: Sequence[Due], wish: Wish, now: float | None) -> tuple[float, Ledger, int] | None:
    """(when, what is free then, how many of `ends` are over) at the first time at which there is room; None: never.

    `now` when there is room already. Room only grows as jobs end, so the time is searched, not walked to; on one copy
    of the ledger, on which jobs end and are brought back.
    """
    ledger = free.copy()
    if now is not None:
        return now, ledger, 0
    holds, gone, step = free.holds, 0, 1

    def until(position: int) -> bool:
        """Whether there is room when so many of `ends` are over."""
        nonlocal gone
        for _, job in ends[gone:position]:
            ledger.release(job)
        for _, job in ends[position:gone]:
            if job in holds:
                ledger.charge(job, holds[job])
        gone = position
        return wish.fits(ledger)

    without = 0
    while not until(min(without + step, len(ends))):
        if gone == len(ends):
            return None
        without, step = gone, step * 2
    enough = gone
    while enough - without > 1:
        middle = (without + enough) // 2
        without, enough = (without, middle) if until(middle) else (middle, enough)
    when = ends[enough - 1][0]
    while enough < len(ends) and ends[enough][0] == when:  # what ends at the same moment is free too
        enough += 1
    until(enough)
    return when, ledger, enough
