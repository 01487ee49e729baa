"""When a waiting job will start at the earliest, by the same future that backfill uses: expected ends and claims. Pure.

What cannot be known (a hold, somebody else's queue) is said, not guessed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import merge
from itertools import takewhile

from jobs.record import Record, State
from jobs.verdict import Reason
from scheduler.backfill import Backfill, Wish
from scheduler.decision import Decision
from scheduler.demand import thaw_demand
from scheduler.eligible import not_before
from scheduler.limits import size_of, used_by
from scheduler.lines import Bucket, Rank
from scheduler.windows import is_open, next_change
from scheduler.world import World

MOST_AHEAD = 50  # jobs before it whose places are worked out, each at up to 100 times


@dataclass(frozen=True, slots=True)
class Start:
    """`at`: wall clock; None: not known, and `why` says why. `by`: what it rests on: "time limits", "estimates",
    "freezing" (as soon as others stand still) or "the clock". `open_ended`: running jobs whose end is only estimated,
    lowest id first."""

    at: float | None = None
    by: str = ""
    why: str = ""
    open_ended: tuple[int, ...] = ()


def earliest(world: World, decision: Decision, record: Record, reasons: Sequence[Reason], now: float) -> Start:
    """`reasons`: why it does not start now, of `decision` and this world."""
    at = now
    used: list[int] = []
    for reason in reasons:
        match reason.dimension.split(":")[0]:
            case "preemption":
                return Start(now, "freezing")
            case "held":
                return Start(why="somebody must release it")
            case "dependency":
                known = [_expected_end(world, decision, job) for job in reason.blockers]
                ends = [end for end in known if end is not None]
                if not known:
                    return Start(why="what it depends on can never hold; cancel it, or submit it again without that")
                if len(ends) < len(known):
                    return Start(why="nobody knows when what it depends on will have ended")
                at = max(at, *ends)
                used += reason.blockers
            case "begin":
                at = max(at, not_before(record))
            case "queue":
                opens = _opens(world, record.spec.queue, now)
                if opens is None:
                    return Start(why="an operator must open its queue")
                at = max(at, opens)
            case "limit":
                free_at, ended = _within_limits(world, decision, record)
                if free_at is None:
                    return Start(why="nobody knows when the limit will leave room for it")
                at = max(at, free_at)
                used += ended
    behind = ahead(world, record)
    if behind > MOST_AHEAD:
        return Start(why=f"{behind} jobs are before it; that is too far ahead")
    room_at, ended = _room_at(world, decision, record, now)
    if room_at is None:
        return Start(why="frozen jobs or a port are in its way, and may stay")
    return _judged(world, max(at, room_at), [*used, *ended], now)


def ahead(world: World, record: Record) -> int:
    """Waiting jobs before it in the order of priority, of queues and users from whom a job may start now."""
    mine = _rank(world, record)
    return sum(bisect_left(bucket.waiting, (mine[0] + bucket.offset, mine[1])) for bucket in _buckets(world))


def _rank(world: World, record: Record) -> Rank:
    own, job = world.rank(record)
    return own - world.offset(record.spec.queue, record.account, record.user), job


def _buckets(world: World) -> Iterator[Bucket]:
    for line in world.lines.lines.values():
        if line.queue not in world.shut:
            yield from (bucket for bucket in line.buckets.values() if bucket.open)


def _before(world: World, record: Record) -> Iterator[int]:
    """Jobs, first ones first."""
    mine = _rank(world, record)
    entries = merge(*(map(bucket.at, range(len(bucket.waiting))) for bucket in _buckets(world)))
    return (job for _, job in takewhile(lambda entry: entry < mine, entries))


def _room_at(world: World, decision: Decision, record: Record, now: float) -> tuple[float | None, list[int]]:
    """(when there is room, jobs that must have ended) if everybody before it has room kept, one after the other."""
    everybody = replace(world.policy, backfill="conservative", backfill_depth=MOST_AHEAD + len(decision.claims) + 1)
    plan = Backfill.of(everybody, world.reserved, now)
    for claim in decision.claims:
        if claim.wish is not None and claim.wish.frozen and claim.job != record.job:
            plan.claims.append(replace(claim, key=-1 - len(plan.claims), ledger=None))
    going = {action.job for action in decision.actions}
    at: float | None = None
    for job in (*_before(world, record), record.job):
        if job in going and job != record.job:
            continue
        wish = _wish(world, world.live[job], now)
        free = decision.left
        found = plan.reserve(wish, free, decision.ends, fits_now=wish.room(free) is not None)
        at = found.start if found is not None else None
    if at is None:
        return None, []
    return at, [job for end, job in decision.ends if end <= at]


def _wish(world: World, record: Record, now: float) -> Wish:
    if record.state is State.FROZEN:
        left = max(1.0, world.expected_end(record) - now)
        return Wish(record, (thaw_demand(record),), left, frozen=True)
    shape = world.shape(record)
    return Wish(record, shape.demands, shape.estimate_s)


def _expected_end(world: World, decision: Decision, job: int) -> float | None:
    return next((end for end, other in decision.ends if other == job), None)


def _opens(world: World, name: str, now: float) -> float | None:
    queue = world.queue(name)
    if queue is None or queue.state != "open":
        return None
    if is_open(queue.windows, now, world.policy.timezone):
        return now
    return next_change(queue.windows, now, world.policy.timezone)


def _within_limits(world: World, decision: Decision, record: Record) -> tuple[float | None, list[int]]:
    queue = world.queue(record.spec.queue)
    limits, size, ended = decision.used.copy(), size_of(world.shape(record).demands), []
    if queue is None:
        return None, []
    for end, job in decision.ends:
        other = world.live[job]
        if other.spec.queue != queue.name:
            continue
        used = used_by(other) if other.placement is not None else size_of(world.shape(other).demands)
        limits.add(queue.name, other.user, used, -1)
        ended.append(job)
        if limits.of_queue(queue, size) is None and limits.of_user(queue, record.user, size) is None:
            return end, ended
    return None, []


def _judged(world: World, at: float, used: Sequence[int], now: float) -> Start:
    open_ended = sorted(
        job for job in set(used) if (other := world.live.get(job)) is not None and not other.spec.time_limit_s
    )
    by = "estimates" if open_ended else "time limits" if used else "the clock"
    return Start(max(at, now), by, open_ended=tuple(open_ended[:8]))
