"""What a round decided, and what it says to those who wait. Pure.

Verdicts are kept per line and worked out when asked for, from what was left at the end of the round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from jobs.record import Record, State
from jobs.verdict import MOST_BLOCKERS, Going, Never, NotNow, Reason, Verdict
from scheduler import shortage
from scheduler.actions import Action
from scheduler.allocate import allocate
from scheduler.backfill import Claim, Due
from scheduler.capacity import Ledger
from scheduler.demand import thaw_demand
from scheduler.limits import Limits, size_of
from scheduler.lines import BucketKey, GroupKey, LineKey
from scheduler.world import World

WAITING = frozenset({State.HELD, State.QUEUED, State.FROZEN})


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why one did not get room in this round; of a line, its first one that did not."""

    ever: bool = True  # whether it fits an empty host
    kept: tuple[Claim, ...] = ()  # what it would have taken
    mates: tuple[int, ...] = ()  # of a frozen one: without whom it does not come back


@dataclass(frozen=True, slots=True)
class Decision:
    """`actions` in the order of doing: ends and freezes, thaws and starts. `claims`: who has room kept, and when."""

    actions: tuple[Action, ...] = ()
    claims: tuple[Claim, ...] = ()
    _world: World | None = None
    _left: Ledger | None = None
    _limits: Limits = field(default_factory=Limits)
    _shut: Mapping[str, Reason] = field(default_factory=dict)
    _going: Mapping[int, Going] = field(default_factory=dict)
    _blocked: Mapping[LineKey | GroupKey, Blocked] = field(default_factory=dict)
    _frozen: Mapping[int, Blocked] = field(default_factory=dict)  # that may come back and found no room
    _made: Mapping[int, tuple[int, ...]] = field(default_factory=dict)  # for whom others are frozen, and which
    _behind: int = 0  # the job that nobody passes, with backfill "off"
    ends: Sequence[Due] = ()  # of those who have CPUs at the end of the round, soonest first

    @property
    def left(self) -> Ledger:
        """Who holds what at the end of the round."""
        assert self._left is not None
        return self._left

    @property
    def used(self) -> Limits:
        """What queues and users have at the end of the round."""
        return self._limits

    def victims(self, job: int) -> tuple[int, ...]:
        """Who is frozen, or ended and queued again, to make room for the job in this round."""
        return self._made.get(job, ())

    def expected_start(self, job: int) -> float | None:
        """Wall clock, by the estimates of what runs; only of those for whom room is kept."""
        return next((claim.start for claim in self.claims if claim.job == job), None)

    def verdict(self, record: Record) -> Verdict | None:
        """Of a job that waits: the first failing constraint of each dimension. None for any other job, and for one that
        came after this round."""
        if record.state not in WAITING or self._world is None:
            return None
        if record.job in self._going:
            return self._going[record.job]
        if record.job in self._made:
            detail = "less urgent jobs make room for it"
            return NotNow((Reason("preemption", 1, 0, blockers=self._made[record.job], detail=detail),))
        if record.job in self._frozen:
            return self._not_now(record, self._frozen[record.job])
        held = _held(record)
        if record.state is State.FROZEN:
            waits = self._behind and record.cancel is None and not held
            return self._not_now(record, None) if waits else NotNow(held) if held else None
        key = self._world.bucket_key(record)
        blocked = self._blocked.get((key.queue, key.shape)) or self._blocked.get((key.queue, key.shape.demands))
        never = blocked is None and self._behind and not any(map(self._world.ever, key.shape.demands))
        if never or (blocked is not None and not blocked.ever):
            return Never(shortage.all_impossible(self.left.capacity, key.shape.demands))
        reasons = (*held, *self._world.hindrances(record), *self._of_group(record), *self._of_queue(key))
        if blocked is not None or (self._behind and not reasons):
            reasons += self._not_now(record, blocked).reasons
        return NotNow(reasons) if reasons else None

    def _of_group(self, record: Record) -> tuple[Reason, ...]:
        assert self._world is not None
        mates = self._world.groups.kept_by(record)[:MOST_BLOCKERS]
        detail = f"others of '{record.spec.freeze_with}' (freeze_with) stand still for a more urgent job"
        return (Reason("group", 1, 0, blockers=mates, detail=detail),) if mates else ()

    def _of_mates(self, record: Record, mates: tuple[int, ...]) -> Reason:
        assert self._world is not None
        wide = sum(thaw_demand(self._world.live[job]).wide for job in (record.job, *mates))
        free = self.left.most_free_cpus()
        detail = f"all of '{record.spec.freeze_with}' (freeze_with) come back at once: {wide} CPUs wanted, {free} free"
        return Reason("group", wide, free, "cpus", mates[:MOST_BLOCKERS], detail)

    def _of_queue(self, key: BucketKey) -> tuple[Reason, ...]:
        assert self._world is not None
        queue = self._world.queue(key.queue)
        if queue is None:
            return (Reason("queue", 1, 0, detail=f"there is no queue '{key.queue}' any more"),)
        size = size_of(key.shape.demands)
        limit = self._limits.of_queue(queue, size) or self._limits.of_user(queue, key.user, size)
        return tuple(reason for reason in (self._shut.get(key.queue), limit) if reason is not None)

    def _not_now(self, record: Record, blocked: Blocked | None) -> NotNow:
        assert self._world is not None
        if blocked is not None and blocked.kept:  # there would be room
            jobs = tuple(sorted({claim.job for claim in blocked.kept if claim.job}))[:MOST_BLOCKERS]
            detail = "what is free is kept for one that waits longer"
            kept_for = (Reason("order", 1, 0, blockers=jobs, detail=detail),) if jobs else ()
            return NotNow((*kept_for, *(_reserved(claim) for claim in blocked.kept if claim.reservation is not None)))
        if blocked is not None and blocked.mates:
            return NotNow((self._of_mates(record, blocked.mates),))
        left = self.left.copy()
        left.release(record.job)  # what it holds itself is not in its way
        frozen = record.state is State.FROZEN
        demands = (thaw_demand(record),) if frozen else self._world.shape(record).demands
        if blocked is not None:
            return NotNow(shortage.of_all(left, demands, record.job, headroom=not frozen))
        detail = "nobody passes a job that waits longer (backfill is off)"
        order = Reason("order", 1, 0, blockers=(self._behind,), detail=detail)
        if any(allocate(left, demand, headroom=not frozen) is not None for demand in demands):
            return NotNow((order,))
        return NotNow((*shortage.of_all(left, demands, record.job, headroom=not frozen), order))


def _held(record: Record) -> tuple[Reason, ...]:
    if not record.pause_holds and record.state is not State.HELD:
        return ()
    by = "an operator" if "operator" in record.pause_holds else "its owner"
    return (Reason("held", 1, 0, detail=f"held by {by}"),)


def _reserved(claim: Claim) -> Reason:
    assert claim.reservation is not None
    begins = datetime.fromtimestamp(claim.start, UTC).isoformat(" ", "seconds")
    return Reason("reservation", 1, 0, detail=f"CPUs are reserved for '{claim.reservation.name}' from {begins}")
