"""Answers questions about waiting jobs with the world that the scheduler decides on. It changes nothing.

A question costs rounds; between them others run. Nothing awaits while something is supposed.
"""

from __future__ import annotations

import anyio.lowlevel

from jobs.record import Record, State
from scheduler.clock import Clock
from scheduler.explain import Answer, Asked, Explanation, answer, answer_if, best, cheapest
from scheduler.world import World


class Explaining:
    def __init__(self, world: World, clock: Clock) -> None:
        self._world, self._clock = world, clock

    async def why(self, record: Record) -> Answer:
        world, now = self._world, self._clock.wall()
        live = world.live.get(record.job)
        if live is None:
            return Answer(now, record, Explanation(None))
        world.tick(now)
        found, changes = answer(world, live, now), []
        for change in cheapest(world, live, found.explanation, now):
            if change is not None:
                changes.append(change)
            await anyio.lowlevel.checkpoint()
        return found.with_changes(best(changes))

    async def what_if(self, record: Record, asked: Asked) -> Answer:
        """Of a queued job."""
        world, now = self._world, self._clock.wall()
        live = world.live.get(record.job)
        if live is None or live.state is not State.QUEUED:
            return Answer(now, record, Explanation(None))
        world.tick(now)
        return answer_if(world, live, asked, now)
