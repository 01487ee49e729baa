"""In one round: for whom room is made by freezing others, and by whom. Pure.

What was begun in earlier rounds is in the records (`preempted_by`), so after a crash it goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from jobs.placement import Placement
from jobs.record import Record
from scheduler.actions import Preempt
from scheduler.backfill import Claim, Wish
from scheduler.capacity import Ledger
from scheduler.preempt import Head, Mode, choose, make_way
from scheduler.preemptible import points_of, queue_of
from scheduler.world import World

MOST_HEADS = 20  # for which victims are sought in one round; the rest have their turn in the next


@dataclass(slots=True)
class MakingRoom:
    """`victims_of`: for whom, and who makes the room."""

    world: World
    now: float
    actions: list[Preempt] = field(default_factory=list)
    victims_of: dict[int, tuple[int, ...]] = field(default_factory=dict)
    _chosen: set[int] = field(default_factory=set)

    def place_for(self, wish: Wish, free: Ledger, over: Sequence[Claim]) -> Placement | None:
        """Where the job will run once others are frozen for it; None when none are, nor are to be.

        `over`: what is kept for others and must stay so.
        """
        making = self.world.preemptible.making_room_for(wish.job)
        head = self._head(wish)
        running = self._running(head, wish.record) if head is not None else []
        if len(self.victims_of) >= MOST_HEADS or not (making or running):
            return None
        later = free.copy()
        for claim in over:
            claim.keep(later)
        for victim in making:
            make_way(later, victim)
        place = wish.room(later) if making else None
        if place is None and head is not None:
            world = self.world
            choice = choose(later, head, running, world.policy, self.now, world.resident, world.offset_of,
                            world.groups.running_with if world.groups.members else None)  # fmt: skip
            place = choice.placement
            for chosen in choice.victims:
                self._chosen.add(chosen.job)
                self.actions.append(Preempt(chosen.job, chosen.record.version, wish.job, chosen.resident_bytes,
                                            head.mode == "requeue"))  # fmt: skip
            making = (*making, *(chosen.record for chosen in choice.victims))
        if place is not None:
            self.victims_of[wish.job] = tuple(sorted(victim.job for victim in making))
        return place

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

    def _running(self, head: Head, for_whom: Record) -> list[Record]:
        """Of a job that others wait for, their urgency counts. Nobody is frozen for one of its own group."""
        world, most = self.world, head.points - self.world.policy.preemption.margin
        return [
            record
            for record in world.preemptible.below(most)
            if record.job not in self._chosen
            and not world.groups.same(record, for_whom)
            and world.urgency(record) - record.urgency + points_of(world.policy, record) <= most
        ]
