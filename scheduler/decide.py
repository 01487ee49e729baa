"""One scheduling round: the world and the time in, a Decision out. Pure; nothing here awaits.

1 what jobs on the node ask for (cancel, time limit, pause, weights)
2 frozen jobs that may come back and the heads of the lines, in one order of priority, each where it fits now.
One that finds no room closes its line for this round and may have room kept for it (backfill); so nobody starves.
Actions are repeated every round until the record says they are done; all are safe to repeat.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice

from jobs.array import MOST_TASKS
from jobs.placement import Placement
from jobs.policy import Queue
from jobs.record import Record, State
from jobs.runs import each
from jobs.verdict import Going
from scheduler.actions import (
    Action,
    Freeze,
    GiveUp,
    Overdue,
    Place,
    Reprioritise,
    Start,
    Stop,
    Thaw,
    ThawPlace,
    TimeUp,
    Warn,
)  # fmt: skip
from scheduler.backfill import Backfill, Claim, Due, Wish
from scheduler.candidates import Candidates, Cursor
from scheduler.capacity import Ledger, hold_for, ports_of
from scheduler.decision import Blocked, Decision
from scheduler.demand import Demand, thaw_demand
from scheduler.dependency import why_dropped
from scheduler.eligible import warning_at
from scheduler.groups import may_come_back
from scheduler.limits import Limits, size_of
from scheduler.lines import BucketKey, Group, GroupKey, LineKey, Rank
from scheduler.making_room import MakingRoom
from scheduler.world import World

DECIDE_VERSION = 2
MOST_IN_VAIN = 4  # of one urgency, the oldest first: the others stand behind them
MOST_OVERTAKING = 8  # for whom, in one round, room is sought although somebody less urgent stands before them
MOST_DROPPED = 10_000  # tasks of an array in one event; an entry of the journal has its size


def decide(world: World, now: float, seen: Mapping[int, float]) -> Decision:
    """`now` is wall time, as in `submitted_at`, and that of the world's last tick; `seen` the running time, by job id,
    of running jobs that may have reached a limit, from the node."""
    this = _Round(world, now, world.ledger.copy(), world.limits.copy(), Backfill.of(world.policy, world.reserved, now),
                  MakingRoom(world, now))  # fmt: skip
    for job in sorted(world.asking.keys() | world.overdue.keys() | seen.keys()):
        if (record := world.active.get(job)) is not None:
            this.see_to(record, seen.get(job, record.ran_s))
    this.give_up()
    for job in sorted(world.overdue.keys() - world.active.keys()):
        this.actions.append(Overdue(job, world.live[job].version))
    this.thaw_what_ends()
    this.give_room()
    this.making.finish()
    return this.decision()


def clock_points(record: Record) -> tuple[float, ...]:
    """The running times at which a running job's clock asks for something: the warning, the time limit."""
    limit_s, before_s = record.spec.time_limit_s, record.spec.warn.before_s
    if record.state is not State.RUNNING or not limit_s or record.cancel is not None:
        return ()
    return (limit_s,) if record.warned or not before_s else (max(0.0, limit_s - before_s), limit_s)


@dataclass(slots=True)
class _Back:
    """An attempt to bring frozen jobs back together."""

    mates: tuple[Record, ...]
    placed: list[tuple[Wish, Placement]] = field(default_factory=list)
    missing: Wish | None = None  # the first who has no room
    over: list[Claim] = field(default_factory=list)  # what is kept for others where it would have room
    fits_now: bool = False


@dataclass(slots=True)
class _Round:
    """The state of one round: `free` and `limits` are scratch copies, charged as actions are decided."""

    world: World
    now: float
    free: Ledger
    limits: Limits
    backfill: Backfill
    making: MakingRoom
    actions: list[Action] = field(default_factory=list)
    blocked: dict[LineKey | GroupKey, Blocked] = field(default_factory=dict)
    frozen: dict[int, Blocked] = field(default_factory=dict)
    tasks: dict[int, deque[int]] = field(default_factory=dict)  # array → positions that may still begin
    asked: set[int] = field(default_factory=set)  # who was a candidate
    closed: dict[GroupKey, tuple[Group, int]] = field(default_factory=dict)  # and the urgency of who closed it
    overtook: set[int] = field(default_factory=set)  # who had what was made for them, before anybody's turn
    behind: int = 0  # the job that nobody may pass any more
    clean: bool = True  # nothing was given yet, so what does not fit does not fit the world's ledger either
    failed: dict[tuple[tuple[Demand, ...], tuple[int, ...]], bool] = field(default_factory=dict)
    _ends: list[Due] = field(default_factory=list)

    # ── 1 ───────────────────────────────────────────────────────────────────────────────────────────────────────

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
            return
        if 0 < record.deadline_at <= self.now:
            self.actions.append(Overdue(job, version))
            return
        if self._warns(record, ran_s):
            self.actions.append(Warn(job, version))
        if state is State.RUNNING and record.to_freeze:
            self.actions.append(Freeze(job, version))
        elif record.weights_version:
            self.actions.append(Reprioritise(job, version))

    def _warns(self, record: Record, ran_s: float) -> bool:
        points = clock_points(record)
        return (len(points) == 2 and points[0] <= ran_s) or 0 < warning_at(record) <= self.now

    def thaw_what_ends(self) -> None:
        """Frozen jobs that are cancelled come first: CPUs to handle their signal on, or the end as they are."""
        for record in sorted(self.world.frozen.values(), key=self.world.rank):
            if record.cancel is None:
                continue
            place = self._wish_of_frozen(record).room(self.free)
            if place is not None:
                self._thaw(record, place)
            else:
                self.actions.append(Stop(record.job, record.version))

    def give_up(self) -> None:
        """Waiting jobs, or tasks of arrays, whose dependencies can never hold."""
        for job, found in sorted(self.world.hopeless.items()):
            record = self.world.live[job]
            if found.never:
                self.actions.append(GiveUp(job, record.version, found.never))
            elif (array := record.spec.array) is not None:
                indexes = tuple(array.index(position) for position in islice(each(found.lost), MOST_DROPPED))
                self.actions.append(GiveUp(job, record.version, why_dropped(record, found.lost), indexes))

    # ── 2 ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def give_room(self) -> None:
        world = self.world
        coming: dict[int, tuple[int, Record]] = {}  # of each group one
        for record in world.frozen.values():
            if may_come_back(record) and record.job not in coming:
                mates = world.groups.coming_with(record)
                coming |= dict.fromkeys((mate.job for mate in mates), (world.standing_of_frozen(record), mates[0]))
        self._ends = self._all_ends()
        self._take_what_was_made()
        firsts = [entry for job, entry in coming.items() if entry[1].job == job]
        candidates = Candidates.of(firsts, (group for group in world.lines if self._is_open(group.queue)))
        while not self.behind and (candidate := candidates.next()) is not None:
            if isinstance(candidate, Cursor):
                self._consider(candidates, candidate)
            elif candidate.job not in self.overtook:
                self._consider_frozen(candidate)
        if not self.behind:
            self._let_overtake()
        thawed = {action.job for action in self.actions if isinstance(action, ThawPlace)}
        self.making.complete(world.groups.torn(thawed))

    def _is_open(self, queue: str) -> bool:
        return queue not in self.world.shut and self.world.queue(queue) is not None

    def _all_ends(self) -> list[Due]:
        """When whoever owns CPUs will have ended, by the estimates; of those that do not run yet, counted from now."""
        world = self.world
        ends = list(world.ends)
        for record in world.asking.values():
            if record.state in (State.STARTING, State.THAWING):
                insort(ends, (world.expected_end(record), record.job))
        return ends

    def _consider(self, candidates: Candidates, cursor: Cursor) -> None:
        """The head of a line."""
        assert cursor.current is not None
        _, job, bucket, _ = cursor.current
        line, queue = cursor.line, self.world.queue(cursor.line.queue)
        assert queue is not None
        record, size = self.world.live[job], size_of(line.shape.demands)
        self.asked.add(job)
        if job in self.overtook:
            candidates.take(cursor)
            return
        if self.world.groups.kept_by(record):
            candidates.skip(cursor)
            return
        if self.limits.of_queue(queue, size) is not None:
            return
        if self.limits.of_user(queue, bucket.key.user, size) is not None:
            candidates.skip(cursor)
        elif (position := self._next_task(record)) is None:
            candidates.take(cursor)
        elif (blocked := self._start(record, bucket.key, position)) is None:
            self.limits.add(queue.name, bucket.key.user, size)
            if record.progress is None:
                candidates.take(cursor)
            else:
                self.tasks[record.job].popleft()
                candidates.again(cursor)
        elif job in self.making.victims_of:
            self.limits.add(queue.name, bucket.key.user, size)
            candidates.take(cursor)
        else:
            self._block(candidates, cursor, blocked)

    def _block(self, candidates: Candidates, cursor: Cursor, blocked: Blocked) -> None:
        """Where nothing that is kept is in the way, there is no room for any estimate."""
        if blocked.ever and cursor.current is not None:
            urgency = self.world.urgency(self.world.live[cursor.current[1]])
            self.closed.setdefault((cursor.group.queue, cursor.group.demands), (cursor.group, urgency))
        if not blocked.kept:
            self.blocked[cursor.group.queue, cursor.group.demands] = blocked
            return
        self.blocked.setdefault(cursor.line.key, blocked)
        candidates.close_line(cursor, self._privileged(blocked))

    def _let_overtake(self) -> None:
        """Who stands behind one that waits, and is more urgent, may freeze jobs which that one may not."""
        world, margin, left = self.world, self.world.policy.preemption.margin, MOST_OVERTAKING
        for group, urgency in self.closed.values():
            queue = world.queue(group.queue)
            if queue is None or queue.preempt != "freeze":  # whoever is queued again leaves no mark of the room it made
                continue
            least = urgency + queue.points - margin
            for level, jobs in group.more_urgent(urgency):
                if not left or not world.preemptible.any_between(least, level + queue.points - margin):
                    break
                left = self._let_some_overtake(queue, jobs, level + queue.points, left)

    def _let_some_overtake(self, queue: Queue, jobs: Iterable[Rank], points: int, left: int) -> int:
        """Of one urgency. Returns for how many of `left` nobody was sought."""
        in_vain = 0
        for _, job in jobs:
            if not left or in_vain == MOST_IN_VAIN:
                break
            if job in self.asked or job in self.overtook:
                continue
            if self.making.somebody_for(self.world.live[job], points):
                left -= 1
                self._overtake(queue, job)
            else:
                in_vain += 1
        return left

    def _overtake(self, queue: Queue, job: int) -> None:
        """It starts, or others make room for it; nothing is kept for it otherwise."""
        record, key = self.world.live[job], self.world.lines.where[job].key
        size, position = size_of(key.shape.demands), self._next_task(record)
        passed = self.limits.of_queue(queue, size) or self.limits.of_user(queue, key.user, size)
        wish = self._wish(record, key, position or 0)
        if position is None or passed is not None or self._full(wish) or self.world.groups.kept_by(record):
            return
        over = self.backfill.concerning(wish.user, self.now, self.now + wish.estimate_s)
        _, place = self._find(wish, over)
        if place is not None:
            self._place(wish, place, position)
        elif (place := self.making.place_for(wish, self.free, over)) is not None:
            self.backfill.make(wish, place)
        else:
            return
        self.overtook.add(job)
        self.limits.add(queue.name, key.user, size)

    def _take_what_was_made(self) -> None:
        """Room that others make, or made, for somebody is not for whoever stands before."""
        world = self.world
        heads = world.preemptible.heads() | {record.preempted_by for record in world.frozen.values()}
        for record in sorted((world.live[job] for job in heads & world.live.keys()), key=self._standing):
            queue = world.queue(record.spec.queue)
            if record.job in world.lines and queue is not None and self._is_open(queue.name):
                self._overtake(queue, record.job)
            elif may_come_back(record) and record.job not in self.overtook and not world.groups.stopping(record):
                self._come_back(record)

    def _standing(self, record: Record) -> Rank:
        frozen = record.state is State.FROZEN
        return (self.world.standing_of_frozen if frozen else self.world.standing)(record), record.job

    def _come_back(self, record: Record) -> None:
        """As `_consider_frozen`, of one for whom others make room; nothing is kept for it otherwise."""
        back = self._back(record)
        if back.missing is not None:
            over = self.backfill.concerning(back.missing.user, self.now, self.now + back.missing.estimate_s)
            place = self.making.place_for(back.missing, self.free, over)
            if place is not None:
                self.backfill.make(back.missing, place)
                self._blocked_back(back, Blocked())
            self._undo(back)
            if place is None:
                return
        self.overtook.update(mate.job for mate in self.world.groups.coming_with(record))

    def _privileged(self, blocked: Blocked) -> set[str]:
        """Users who may use what others of the same line must leave alone."""
        return {user for claim in blocked.kept if claim.reservation is not None for user in claim.reservation.users}

    def _start(self, record: Record, key: BucketKey, position: int) -> Blocked | None:
        """None: it starts."""
        wish = self._wish(record, key, position)
        if self._full(wish):
            return Blocked()
        over = self.backfill.concerning(wish.user, self.now, self.now + wish.estimate_s)
        first, place = self._find(wish, over)
        if place is None:
            return self._wait(wish, over if first else [], fits_now=first)
        self._place(wish, place, position)
        return None

    def _wish(self, record: Record, key: BucketKey, position: int) -> Wish:
        task = -(MOST_TASKS * (record.job + 1) + position) if record.progress is not None else 0
        return Wish(record, key.shape.demands, key.shape.estimate_s, task=task)

    def _full(self, wish: Wish) -> bool:
        taken = any(self.free.ports.get(port, set()) - {wish.job} for port in wish.demands[0].ports)
        return taken or self.free.jobs >= self.free.capacity.max_jobs

    def _place(self, wish: Wish, place: Placement, position: int) -> None:
        record = wish.record
        array = record.spec.array if record.progress is not None else None
        self.free.release(record.job)  # the ports of its earlier, lost attempt
        self.free.charge(wish.holder, hold_for(place, ports_of(record)))
        self.clean = False
        insort(self._ends, (self.now + wish.estimate_s, wish.holder))
        index = array.index(position) if array is not None else None
        self.actions.append(Place(record.job, record.version, place, index))

    def _next_task(self, record: Record) -> int | None:
        """Position of the task of an array that may begin next, 0 of a single job; None: none in this round."""
        if record.progress is None:
            return 0
        left = self.tasks.get(record.job)
        if left is None:
            left = self.tasks[record.job] = deque(islice(self.world.startable(record), self.free.capacity.max_jobs))
        return left[0] if left else None

    def _find(self, wish: Wish, over: list[Claim]) -> tuple[bool, Placement | None]:
        """(whether it fits now if nothing is kept for others, its place). What failed once fails in the whole round,
        because rounds only give."""
        keys = tuple(claim.key for claim in over)
        if (wish.demands, ()) in self.failed or all(map(self.world.no_room, wish.demands)):
            return False, None
        if keys and (wish.demands, keys) in self.failed:
            return True, None
        if not wish.fits(self.free):
            self.failed[wish.demands, ()] = True
            if self.clean:
                for demand in wish.demands:
                    self.world.found_no_room(demand)
            return False, None
        place = self._room(wish, over)
        if place is None:
            self.failed[wish.demands, keys] = True
        return True, place

    def _room(self, wish: Wish, over: list[Claim]) -> Placement | None:
        return self.backfill.place(self.free, wish, over) if over else wish.room(self.free)

    def _consider_frozen(self, record: Record) -> None:
        """With its whole group, or not at all."""
        if stopping := self.world.groups.stopping(record):
            for mate in self.world.groups.coming_with(record):
                self.frozen[mate.job] = Blocked(mates=stopping)
            return
        back = self._back(record)
        if back.missing is None:
            return
        claims = len(self.backfill.claims)
        blocked = self._wait(back.missing, back.over, fits_now=back.fits_now)
        for claim in self.backfill.claims[claims:]:  # what the others of the group have now is kept as long
            for wish, place in back.placed:
                self.backfill.keep(wish, place, claim.start)
        self._blocked_back(back, blocked)
        self._undo(back)

    def _back(self, record: Record) -> _Back:
        """All of its group thaw; or nobody does, and who had room before one `missing` has it until `_undo`."""
        back = _Back(self.world.groups.coming_with(record))
        for mate in back.mates:
            wish = self._wish_of_frozen(mate)
            over = self.backfill.concerning(wish.user, self.now, self.now + wish.estimate_s)
            first, place = self._room_of_frozen(wish, over)
            if place is None:
                back.missing, back.over, back.fits_now = wish, over if first else [], first
                return back
            self.free.release(mate.job)
            self.free.charge(mate.job, hold_for(place, ports_of(mate)))
            back.placed.append((wish, place))
        for wish, place in back.placed:
            self._thaw(wish.record, place)
            insort(self._ends, (self.now + wish.estimate_s, wish.job))
        return back

    def _undo(self, back: _Back) -> None:
        for wish, _ in back.placed:
            self.free.release(wish.job)
            self.free.charge(wish.job, wish.held)

    def _blocked_back(self, back: _Back, blocked: Blocked) -> None:
        assert back.missing is not None
        for mate in back.mates:
            others = tuple(other.job for other in back.mates if other is not mate)
            kept = blocked.kept if mate.job == back.missing.job else ()
            self.frozen[mate.job] = Blocked(kept=kept, mates=others)

    def _room_of_frozen(self, wish: Wish, over: list[Claim]) -> tuple[bool, Placement | None]:
        """(whether it fits now if nothing is kept for others, its place)"""
        first = wish.fits(self.free)
        return first, self._room(wish, over) if first else None

    def _wish_of_frozen(self, record: Record) -> Wish:
        left = max(1.0, self.world.expected_end(record) - self.now)
        return Wish(record, (thaw_demand(record),), left, frozen=True)

    def _thaw(self, record: Record, place: Placement) -> None:
        self.free.release(record.job)
        self.free.charge(record.job, hold_for(place, ports_of(record)))
        self.clean = False
        self.actions.append(ThawPlace(record.job, record.version, place))

    def _wait(self, wish: Wish, over: list[Claim], *, fits_now: bool) -> Blocked:
        """It found no room. Here others could be frozen to make some; else room is kept for it."""
        if not wish.frozen and not any(map(self.world.ever, wish.demands)):
            return Blocked(ever=False)
        concerning = self.backfill.concerning(wish.user, self.now, self.now + wish.estimate_s)
        if (place := self.making.place_for(wish, self.free, concerning)) is not None:
            self.backfill.make(wish, place)
            return Blocked(kept=tuple(over))
        if self.backfill.may_reserve(frozen=wish.frozen):
            claim = self.backfill.reserve(wish, self.free, self._ends, fits_now=fits_now)
            if claim is not None and self.world.policy.backfill == "off":
                self.behind = wish.job
        return Blocked(kept=tuple(over))

    def decision(self) -> Decision:
        actions = (*self.actions, *self.making.actions)
        going = {each.job: Going(type(each).__name__) for each in actions if not isinstance(each, Reprioritise)}
        return Decision(actions, tuple(self.backfill.claims), self.world, self.free, self.limits, self.world.shut,
                        going, self.blocked, self.frozen, self.making.victims_of, self.behind, self._ends)  # fmt: skip
