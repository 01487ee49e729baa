"""What `decide` looks at: live records, the lines of waiting jobs, and who holds what. Pure.

Changed by `apply` with events, by `set_policy` and by `tick` with what time alone changes; lent read-only to `decide`.
A world that was applied to equals the one rebuilt from its records (a property test says so), so a restart decides the
same. Final and cleaned-up jobs are not here. Every change costs by what changed, never by what waits or runs.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice

from jobs.events import Event, Frozen, PolicyEvent
from jobs.policy import Policy, Queue
from jobs.policy_changes import advance_policy
from jobs.record import Record, State
from jobs.runs import each
from jobs.verdict import Reason
from scheduler.allocate import allocate
from scheduler.capacity import NOTHING, Capacity, Ledger, hold_of
from scheduler.demand import Demand, demands_of
from scheduler.dependency import Became, Standing, Waits, became, reason
from scheduler.eligible import due, hindrance, left_at_once, not_before
from scheduler.fairshare import FairShare, Key, Used
from scheduler.groups import Groups
from scheduler.limits import Limits, limited, size_of, used_by
from scheduler.lines import BucketKey, Lines, Rank, Shape
from scheduler.preemptible import Preemptible
from scheduler.priority import POINT_MS, own_rank, urgency_in
from scheduler.reservation import first_after, reserved_cpus
from scheduler.windows import is_open, next_change

Due = tuple[float, int]  # (wall clock, job)


@dataclass(slots=True)
class World:
    """`active`: on the node; of these `asking` want something of the round, `frozen` may come back, `limited` run
    against a time limit, `ends` are expected to end, soonest first."""

    capacity: Capacity
    ledger: Ledger
    policy: Policy = field(default_factory=Policy)
    now: float = field(default=0.0, compare=False)  # of the last tick
    live: dict[int, Record] = field(default_factory=dict)
    active: dict[int, Record] = field(default_factory=dict)
    asking: dict[int, Record] = field(default_factory=dict)
    frozen: dict[int, Record] = field(default_factory=dict)
    limited: dict[int, Record] = field(default_factory=dict)
    ends: list[Due] = field(default_factory=list)
    begins: list[Due] = field(default_factory=list)  # queued jobs that may not start yet, by when they may
    deadlines: list[Due] = field(default_factory=list)  # by when something is due for it (eligible.due)
    overdue: dict[int, Record] = field(default_factory=dict)  # for which it is due
    lines: Lines = field(default_factory=Lines)
    waits: Waits = field(default_factory=Waits)
    hopeless: dict[int, Standing] = field(default_factory=dict)  # waiting jobs of which something can never start
    limits: Limits = field(default_factory=Limits)
    shares: FairShare = field(default_factory=lambda: FairShare(Policy()))
    shut: dict[str, Reason] = field(default_factory=dict)  # queues of which nothing starts now
    reserved: dict[str, tuple[int, ...]] = field(default_factory=dict)  # reservation → its CPUs
    preemptible: Preemptible = field(default_factory=Preemptible)
    groups: Groups = field(init=False)  # of jobs on the node: freeze_with
    resident: dict[int, int] = field(default_factory=dict, compare=False)  # job on the node → bytes seen last, if any
    in_vain: set[int] = field(default_factory=set, compare=False)  # making_room's: who stands back in the next round
    _queues: dict[str, Queue] = field(default_factory=dict)
    _until: float = 0.0  # when `shut` may change next
    _raised: dict[int, Rank] = field(default_factory=dict)  # in line by the urgency of those who wait for it
    _expected: dict[int, float] = field(default_factory=dict)  # job → its entry in `ends`
    _fits_empty: dict[Demand, bool] = field(default_factory=dict, compare=False)  # memos, not facts
    _no_room: dict[Demand, int] = field(default_factory=dict, compare=False)  # demand → generation of the ledger

    def __post_init__(self) -> None:
        self.groups = Groups(self.capacity)

    @classmethod
    def of(
        cls,
        capacity: Capacity,
        records: Iterable[Record] = (),
        policy: Policy | None = None,
        now: float = 0.0,
        known: Mapping[int, Became] | None = None,
        used: Mapping[Key, Used] | None = None,
    ) -> World:
        """Rebuilt from records, the policy in force and what was used, as after a restart. `known`: what became of jobs
        that these wait for (`needed`)."""
        policy = policy or Policy()
        world = cls(capacity, Ledger(capacity), now=now, shares=FairShare.of(policy, used or {}))
        world.set_policy(policy)
        for record in records:
            world._enter(record)
            world.shares.see(record)
        for record in world.live.values():
            world._depend(None, record, known or {})
        for record in world.live.values():
            world._wait(record)  # when everybody's usage is known
        world.tick(now)
        return world

    # ── changes ─────────────────────────────────────────────────────────────────────────────────────────────────

    def apply(self, event: Event, before: Record | None, after: Record) -> None:
        """Called once for each committed event, in the journal's order. `event` is what made `after` of `before`."""
        assert event.job == after.job and (before is None or before.job == after.job)
        if before is not None:
            self._leave(before)
        self._enter(after)
        others = self._depend(before, after, {})
        self._wait(after)
        for job in sorted(others & self.live.keys()):
            self.reconsider(job)
        self.shares.apply(event, before, after)
        if isinstance(event, Frozen) and after.state is State.FROZEN:
            self.resident[after.job] = event.resident_bytes
        elif not after.state.on_node:
            self.resident.pop(after.job, None)

    def observe(self, job: int, resident_bytes: int) -> bool:
        """What a running job keeps in memory now: counted on when it is to make room. No fact: what was counted on is
        in the journal (`Preempted`), and a ledger knows limits and what froze. Whether it is less than counted on."""
        record = self.active.get(job)
        if record is None or record.state is not State.RUNNING:
            return False
        before = self.resident.get(job, record.wanted.resources.memory_bytes)
        self.resident[job] = resident_bytes
        self.preemptible.observe(record, resident_bytes, self.now)
        return resident_bytes < before

    def change_policy(self, event: PolicyEvent) -> None:
        """As `apply`, for the events that are of no job."""
        policy = advance_policy(self.policy, event)
        self.shares.charge_until(event)
        self.set_policy(policy)

    def _depend(self, before: Record | None, after: Record, known: Mapping[int, Became]) -> set[int]:
        """The jobs that must be reconsidered."""
        if after.needs and after.job not in self.waits.waiting:
            here = {need.job: became(self.live[need.job]) for need in after.needs if need.job in self.live}
            known = {**known, **here}
        return self.waits.change(before, after, known)

    def set_policy(self, policy: Policy) -> None:
        """Everybody stands in line anew."""
        self.policy, self._queues = policy, {queue.name: queue for queue in policy.queues}
        self.reserved = reserved_cpus(policy.reservations, self.capacity)
        self._until = self.now
        self.preemptible = Preemptible(policy)
        self.shares.set_policy(policy)
        self.lines, self.begins, self.ends, self._expected = Lines(), [], [], {}
        self._raised = {}
        for record in self.live.values():
            self._wait(record)
            self._expect(record)
            self.preemptible.enter(record, self.resident.get(record.job))
        self._shut_queues()

    def tick(self, now: float) -> None:
        """What time alone changes: begin times, windows of queues, standings, outlived estimates."""
        self.now = now
        self.preemptible.tick(now)
        while self.begins and self.begins[0][0] <= now:
            self.reconsider(self.begins[0][1])
        while self.ends and self.ends[0][0] <= now:
            self._expect(self.live[self.ends[0][1]])
        while self.deadlines and self.deadlines[0][0] <= now:
            _, job = self.deadlines.pop(0)
            self.overdue[job] = self.live[job]
            self.reconsider(job)
        if now >= self._until:
            self._shut_queues()
        if now >= self.shares.next_step_at:
            self.step_shares()

    def step_shares(self) -> None:
        """Brings the standings up to date; `tick` does it in its steps."""
        for user in {user for _, user in self.shares.step(self.now, {})}:
            self.lines.update(user, self._bucket)

    def reconsider(self, job: int) -> None:
        """Something other than its record decides whether the job may start, and has changed."""
        record = self.live[job]
        self._unwait(record)
        self._wait(record)

    @contextmanager
    def supposing(self, record: Record) -> Iterator[None]:
        """As if the waiting job's record were this one; undone at the end. Inside nothing may await."""
        before = self.live[record.job]
        self._replace(before, record)
        try:
            yield
        finally:
            self._replace(record, before)
            for demand in {*self.shape(record).demands} - {*self.shape(before).demands}:
                self._fits_empty.pop(demand, None)
                self._no_room.pop(demand, None)

    def _replace(self, before: Record, after: Record) -> None:
        self._leave(before)
        self._enter(after)
        self._wait(after)

    def next_change(self) -> float | None:
        """When `tick`, or a reserved time, changes what a round would decide; wall clock, None: never."""
        times = [dues[0][0] for dues in (self.begins, self.deadlines, self.ends if len(self.lines) else []) if dues]
        times += [self.now] if self.in_vain else []
        times += [record.deadline_at for record in self.overdue.values() if record.deadline_at > self.now]
        if (len(self.lines) or self.frozen) and (rested := self.preemptible.next_rested()) is not None:
            times.append(rested)
        if len(self.lines):
            times += [self._until] if self._until < float("inf") else []
            times += [self.shares.next_step_at] if self.shares.moves else []
            for reservation in self.policy.reservations:
                times += [at for at in first_after(reservation, self.now) or () if at > self.now]
        return min(times, default=None)

    def _enter(self, record: Record) -> None:
        job, state = record.job, record.state
        hold = hold_of(record)
        if hold != NOTHING:
            self.ledger.charge(job, hold)
        if not state.final or not record.cleaned:
            self.live[job] = record
        if state.on_node:
            self.active[job] = record
            self._index(record)
            self._expect(record)
            self.preemptible.enter(record, self.resident.get(record.job))
            self.groups.enter(record)
        if at := due(record):
            insort(self.deadlines, (at, job))
        self._count(record, 1)

    def _index(self, record: Record) -> None:
        job, state = record.job, record.state
        marked = record.cancel is not None or record.to_freeze or record.weights_version
        if marked or state in (State.STARTING, State.THAWING):
            self.asking[job] = record
        if state is State.FROZEN:
            self.frozen[job] = record
        if state is State.RUNNING and record.spec.time_limit_s and record.cancel is None:
            self.limited[job] = record

    def _leave(self, record: Record) -> None:
        job = record.job
        self.ledger.release(job)
        for index in (self.live, self.active, self.asking, self.frozen, self.limited, self.overdue):
            index.pop(job, None)
        _discard(self.deadlines, (due(record), job))
        self._count(record, -1)
        self.preemptible.leave(record)
        self.groups.leave(record)
        self._unexpect(job)
        self._unwait(record)

    def _count(self, record: Record, sign: int) -> None:
        used = used_by(record)
        if not used[0]:
            return
        queue, user = record.spec.queue, record.user
        self.limits.add(queue, user, used, sign)
        if queue in self._queues and limited(self._queues[queue].per_user):
            self.lines.update(user, self._bucket)

    # ── waiting ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _wait(self, record: Record) -> None:
        if record.needs and _is_hopeless(record, standing := self.waits.standing(record)):
            self.hopeless[record.job] = standing
        if record.state is not State.QUEUED:
            return
        if self.hindrance(record) is None:
            rank = self.rank(record)
            if rank != own_rank(record):
                self._raised[record.job] = rank
            self.lines.add(self.bucket_key(record), rank, self._bucket, urgency_in(rank, record))
        elif (begins := not_before(record)) > self.now:
            insort(self.begins, (begins, record.job))

    def _unwait(self, record: Record) -> None:
        self.hopeless.pop(record.job, None)
        if record.job in self.lines:
            rank = self._raised.pop(record.job, own_rank(record))
            self.lines.remove(record.job, rank, urgency_in(rank, record))
        elif begins := not_before(record):
            _discard(self.begins, (begins, record.job))

    def hindrance(self, record: Record) -> Reason | None:
        """Why a queued job may not start even if there is room."""
        return next(iter(self.hindrances(record)), None)

    def hindrances(self, record: Record) -> tuple[Reason, ...]:
        """All of them: at most one of its begin and one of its dependencies."""
        found = hindrance(record, self.now), reason(self.waits.standing(record))
        return tuple(each for each in found if each is not None)

    def startable(self, array: Record) -> Iterator[int]:
        """Positions of its tasks that may begin now, as far as `at_once` goes."""
        progress, spec = array.progress, array.spec.array
        assert progress is not None and spec is not None
        tasks = self.waits.standing(array).tasks
        return islice(each(progress.pending if tasks is None else tasks), left_at_once(array))

    def urgency(self, record: Record) -> int:
        """Its own, or more: that of who waits for it."""
        return self.waits.urgency(record)

    def rank(self, record: Record) -> Rank:
        """The order inside a bucket."""
        return own_rank(record, self.waits.urgency(record))

    def bucket_key(self, record: Record) -> BucketKey:
        return BucketKey(record.spec.queue, record.account, record.user, self.shape(record))

    def shape(self, record: Record) -> Shape:
        return Shape(demands_of(record), self.estimate_s(record), record.spec.freeze_with)

    def _bucket(self, key: BucketKey) -> tuple[int, bool]:
        """(offset, open) of a bucket now."""
        queue = self._queues.get(key.queue)
        if queue is None:
            return 0, True
        offset = self.offset(key.queue, key.account, key.user)
        return offset, not limited(queue.per_user) or self.limit_of_user(key) is None

    def offset(self, queue: str, account: str, user: str) -> int:
        """What a job's queue and its user's standing add to its priority, in ms."""
        points = self._queues[queue].points if queue in self._queues else 0
        return points * POINT_MS + self.shares.points_ms(account, user)

    def offset_of(self, record: Record) -> int:
        return self.offset(record.spec.queue, record.account, record.user)

    def standing(self, record: Record) -> int:
        """Its place in the one order of priority: smaller comes first."""
        return self.rank(record)[0] - self.offset_of(record)

    def standing_of_frozen(self, record: Record, behind: frozenset[int] = frozenset()) -> int:
        """The best of its group; behind the one that they made room for, while that waits for it, and so behind whom
        that one made room for since. `behind`: who stands behind it for that reason."""
        mates = self.groups.coming_with(record)
        behind = behind.union(mate.job for mate in mates)
        found = min(map(self.standing, mates))
        for mate in mates:
            head = self._made_room_for(mate)
            if head is not None:
                frozen = head.state is State.FROZEN and head.job not in behind
                found = max(found, 1 + (self.standing_of_frozen(head, behind) if frozen else self.standing(head)))
        return found

    def _made_room_for(self, record: Record) -> Record | None:
        """Who waits for it still. In a circle the room came back to the first: that one waits for nobody."""
        found = self._waiting(record.preempted_by)
        head, path = found, {record.job: record}
        while head is not None and head.job not in path and head.state is State.FROZEN:
            path[head.job] = head
            head = self._waiting(head.preempted_by)
        if head is None or head.job != record.job:
            return found
        first = min(path.values(), key=lambda each: (each.frozen_at, each.job))
        return None if first is record else found

    def _waiting(self, job: int) -> Record | None:
        record = self.live.get(job)
        if record is None or job in self.lines or (record.state is State.FROZEN and not record.pause_holds):
            return record
        return None

    def limit_of_user(self, key: BucketKey, limits: Limits | None = None) -> Reason | None:
        queue = self._queues.get(key.queue)
        size = size_of(key.shape.demands)
        return (limits or self.limits).of_user(queue, key.user, size) if queue is not None else None

    def queue(self, name: str) -> Queue | None:
        """None when the policy has it no more."""
        return self._queues.get(name)

    def _shut_queues(self) -> None:
        policy, now = self.policy, self.now
        self.shut, self._until = {}, float("inf")
        for queue in policy.queues:
            if queue.state == "drained":
                self.shut[queue.name] = Reason("queue", 1, 0, detail=f"queue '{queue.name}' is drained")
            elif not is_open(queue.windows, now, policy.timezone):
                detail = f"queue '{queue.name}' is outside its hours"
                self.shut[queue.name] = Reason("queue", 1, 0, detail=detail)
            if queue.windows and (change := next_change(queue.windows, now, policy.timezone)) is not None:
                self._until = min(self._until, change)

    # ── expecting ───────────────────────────────────────────────────────────────────────────────────────────────

    def estimate_s(self, record: Record) -> float:
        """Of running time: its limit, else what its queue says."""
        queue = self._queues.get(record.spec.queue)
        return max(1.0, record.spec.time_limit_s or (queue.estimate_s if queue is not None else 3600.0))

    def expected_end(self, record: Record) -> float:
        """Wall clock. Frozen time does not count. One that outlived its estimate may take as long again."""
        left = self.estimate_s(record) - record.ran_s
        since = record.running_since if record.state is State.RUNNING else self.now
        end, again = since + left, max(1.0, self.estimate_s(record))
        while end <= self.now:
            end, again = end + again, again * 2
        return end

    def _expect(self, record: Record) -> None:
        """Only of running ones: when the others will go on is the round's to say."""
        self._unexpect(record.job)
        if record.state is State.RUNNING:
            end = self._expected[record.job] = self.expected_end(record)
            insort(self.ends, (end, record.job))

    def _unexpect(self, job: int) -> None:
        if (end := self._expected.pop(job, None)) is not None:
            _discard(self.ends, (end, job))

    # ── memos ───────────────────────────────────────────────────────────────────────────────────────────────────

    def ever(self, demand: Demand) -> bool:
        """Whether the demand would fit if this host were empty."""
        known = self._fits_empty.get(demand)
        if known is None:
            known = self._fits_empty[demand] = allocate(Ledger(self.capacity), demand) is not None
        return known

    def no_room(self, demand: Demand) -> bool:
        """Known not to fit: nothing was given back since it did not."""
        return self._no_room.get(demand) == self.ledger.generation

    def found_no_room(self, demand: Demand) -> None:
        self._no_room[demand] = self.ledger.generation


def _is_hopeless(record: Record, standing: Standing) -> bool:
    return record.spec.depends.on_never == "cancel" and bool(standing.never or standing.lost)


def _discard(dues: list[Due], due: Due) -> None:
    position = bisect_left(dues, due)
    if position < len(dues) and dues[position] == due:
        del dues[position]
