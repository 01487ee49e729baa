"""What a round decided, and what it says to those who wait. Pure.

Verdicts are kept per line and worked out when asked for, from what was left at the end of the round.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from jobs.record import Record, State
from jobs.verdict import Going, Never, NotNow, Reason, Verdict
from scheduler import shortage
from scheduler.actions import Action
from scheduler.backfill import Claim
from scheduler.capacity import Ledger
from scheduler.demand import thaw_demand
from scheduler.limits import Limits, size_of
from scheduler.lines import BucketKey, GroupKey, LineKey
from scheduler.world import World


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why one did not get room in this round; of a line, its first one that did not."""

    ever: bool = True  # whether it fits an empty host
    kept: tuple[Claim, ...] = ()  # what it would have taken


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

    def expected_start(self, job: int) -> float | None:
        """Wall clock, by the estimates of what runs; only of those for whom room is kept."""
        return next((claim.start for claim in self.claims if claim.job == job), None)

    def verdict(self, record: Record) -> Verdict | None:
        """Of a job that waits; None for any other, and for one that came after this round."""
        if record.state not in (State.QUEUED, State.FROZEN) or self._world is None:
            return None
        if record.job in self._going:
            return self._going[record.job]
        if record.job in self._made:
            detail = "less urgent jobs make room for it"
            return NotNow((Reason("preemption", 1, 0, blockers=self._made[record.job], detail=detail),))
        if record.job in self._frozen:
            return self._not_now(record, self._frozen[record.job])
        if record.state is not State.QUEUED:
            waits = self._behind and record.cancel is None and not record.pause_holds
            return self._not_now(record, None) if waits else None
        if (reason := self._world.hindrance(record)) is not None:
            return NotNow((reason,))
        return self._of_line(record, self._world.bucket_key(record))

    def _of_line(self, record: Record, key: BucketKey) -> Verdict | None:
        assert self._world is not None and self._left is not None
        blocked = self._blocked.get((key.queue, key.shape)) or self._blocked.get((key.queue, key.shape.demands))
        never = blocked is None and self._behind and not any(map(self._world.ever, key.shape.demands))
        if never or (blocked is not None and not blocked.ever):
            return Never(shortage.all_impossible(self._left.capacity, key.shape.demands))
        queue = self._world.queue(key.queue)
        if queue is None:
            return NotNow((Reason("queue", 1, 0, detail=f"there is no queue '{key.queue}' any more"),))
        size = size_of(key.shape.demands)
        found = (
            self._shut.get(key.queue),
            self._limits.of_queue(queue, size),
            self._limits.of_user(queue, key.user, size),
        )
        if reasons := tuple(reason for reason in found if reason is not None):
            return NotNow(reasons)
        return self._not_now(record, blocked) if blocked is not None or self._behind else None

    def _not_now(self, record: Record, blocked: Blocked | None) -> NotNow:
        assert self._left is not None and self._world is not None
        if blocked is None:
            detail = "nobody passes a job that waits longer (backfill is off)"
            return NotNow((Reason("order", 1, 0, blockers=(self._behind,), detail=detail),))
        left = self._left.copy()
        left.release(record.job)  # what it holds itself is not in its way
        for claim in blocked.kept:
            claim.keep(left)
        frozen = record.state is State.FROZEN
        demands = (thaw_demand(record),) if frozen else self._world.shape(record).demands
        protected = next((claim.job for claim in blocked.kept if claim.job), 0)
        found = shortage.of_all(left, demands, record.job, protected, headroom=not frozen)
        return NotNow((*found, *(_reserved(claim) for claim in blocked.kept if claim.reservation is not None)))


def _reserved(claim: Claim) -> Reason:
    assert claim.reservation is not None
    begins = datetime.fromtimestamp(claim.start, UTC).isoformat(" ", "seconds")
    return Reason("reservation", 1, 0, detail=f"CPUs are reserved for '{claim.reservation.name}' from {begins}")
