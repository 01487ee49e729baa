"""In one round: for whom room is made by freezing others, and by whom. Pure.

What was begun in earlier rounds is in the records (`preempted_by`), so after a crash it goes on.

A round has an end: victims are sought for a few jobs, and among so many. Those whose turn it was in vain are remembered
(`World.in_vain`) and stand back until everybody had a turn; a round that left somebody out asks for the next one
(`World.next_change`). So nobody is left out for ever, and a job that comes anew has its turn in its first round.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from jobs.placement import Placement
from jobs.record import Record
from scheduler.actions import Preempt
from scheduler.backfill import Claim, Wish
from scheduler.capacity import Ledger
from scheduler.preempt import Head, choose, make_way
from scheduler.preemptible import Mode, Victim, order_of_running, queue_of
from scheduler.world import World

MOST_HEADS = 8  # for whom room is made anew in one round
MOST_POINTS = 1 << 40
MOST_ASKED = 2000  # running jobs that are looked at in one round, when not by one search; about 2 µs each


@dataclass(slots=True)
class MakingRoom:
    """`victims_of`: for whom, and who makes the room. `finish` ends the round."""

    world: World
    now: float
    actions: list[Preempt] = field(default_factory=list)
    victims_of: dict[int, tuple[int, ...]] = field(default_factory=dict)
    _chosen: set[int] = field(default_factory=set)
    _heads: int = 0
    _asked: int = 0
    _in_vain: set[int] = field(default_factory=set)
    _orders: tuple[list[int], list[int]] | None = None
    _left_out: bool = False

    def place_for(self, wish: Wish, free: Ledger, over: Sequence[Claim]) -> Placement | None:
        """Where the job will run once others are frozen for it; None when none are, nor are to be.

        `over`: what is kept for others and must stay so.
        """
        making = self.world.preemptible.making_room_for(wish.job)
        head = self._head(wish)
        asks = head is not None and next(self._running(head, wish.record), None) is not None
        if not (making or asks):
            return None
        later = free.copy()
        for claim in over:
            claim.keep(later)
        for victim in making:
            make_way(later, victim)
        place, victims = wish.room(later) if making else None, [victim.job for victim in making]
        if place is None and head is not None and asks and self._has_turn(wish.job):
            place, more = self._search(head, later, wish.record)
            victims += more
        if place is not None:
            self.victims_of[wish.job] = tuple(sorted(victims))
        return place

    def somebody_for(self, record: Record, points: int) -> bool:
        """Whether a running job may be frozen for it, by urgency and by order. Quick, and the same for all who ask."""
        if self._orders is None:
            self._orders = self._orders_of_running()
        known, least = self._orders
        place = bisect_right(known, points - self.world.policy.preemption.margin)
        return place > 0 and least[place - 1] < -self.world.standing(record)

    def _orders_of_running(self) -> tuple[list[int], list[int]]:
        """Points of those whose rest is over, ascending; the least order of those up to there."""
        known: list[int] = []
        least: list[int] = []
        for victim in self.world.preemptible.below(MOST_POINTS):
            order = order_of_running(victim.record, self.world.offset_of(victim.record), self.now)
            known.append(victim.points)
            least.append(min(order, least[-1]) if least else order)
        return known, least

    def finish(self) -> None:
        self.world.in_vain = self.world.in_vain | self._in_vain if self._left_out else set()

    def _has_turn(self, job: int) -> bool:
        if job in self.world.in_vain:
            return False
        left_out = self._heads >= MOST_HEADS or self._asked >= MOST_ASKED
        self._left_out |= left_out
        return not left_out

    def _search(self, head: Head, later: Ledger, for_whom: Record) -> tuple[Placement | None, list[int]]:
        world = self.world
        running = self._counted(self._running(head, for_whom))
        together = world.groups.running_with if world.groups.members else None
        choice = choose(later, head, running, world.policy, self.now, world.offset_of, together)
        self._heads += bool(choice.victims)
        if not choice.victims:
            self._in_vain.add(head.job)
        for chosen in choice.victims:
            self._chosen.add(chosen.job)
            self.actions.append(Preempt(chosen.job, chosen.record.version, head.job, chosen.resident_bytes,
                                        head.mode == "requeue"))  # fmt: skip
        return choice.placement, [chosen.job for chosen in choice.victims]

    def _head(self, wish: Wish) -> Head | None:
        """None when its queue may not do so, or CPUs are not what it lacks."""
        record, world = wish.record, self.world
        mates = world.groups.coming_with(record) if wish.frozen else (record,)
        queue = world.queue(record.spec.queue)
        if queue is None or queue.preempt == "never" or record.placement is not None:
            return None
        mode: Mode = "requeue" if queue.preempt == "requeue" else "freeze"
        home = record.home.mems if wish.frozen and record.home is not None else ()
        urgency, standing = max(map(world.urgency, mates)), min(map(world.standing, mates))
        return Head(wish.job, wish.demands, urgency + queue.points, -standing, mode,
                    headroom=not wish.frozen, prefer=home)  # fmt: skip

    def complete(self, torn: Sequence[tuple[Record, int]]) -> None:
        """Who runs while its group was frozen for somebody is frozen too; after a freeze that failed, not at once."""
        rest_s = self.world.policy.preemption.least_run_s
        for record, head in torn:
            may = record.job not in self._chosen and queue_of(self.world.policy, record).preemptible
            if may and max(record.preempted_lately, default=-rest_s) + rest_s <= self.now:
                self._chosen.add(record.job)
                keeps = self.world.resident.get(record.job, record.wanted.resources.memory_bytes)
                self.actions.append(Preempt(record.job, record.version, head, keeps, requeue=False))

    def _running(self, head: Head, for_whom: Record) -> Iterator[Victim]:
        """The least to regret first. Of a job that others wait for, their urgency counts. Nobody is frozen for one of
        its own group."""
        world, most = self.world, head.points - self.world.policy.preemption.margin
        for victim in world.preemptible.below(most, head.mode):
            record = victim.record
            if victim.job in self._chosen or world.groups.same(record, for_whom):
                continue
            if world.urgency(record) - record.urgency + victim.points <= most:
                yield victim

    def _counted(self, victims: Iterator[Victim]) -> Iterator[Victim]:
        for victim in victims:
            self._asked += 1
            yield victim
