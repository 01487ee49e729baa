"""Looks at what running jobs keep in memory, because it is that, not their limit, which stays when they are frozen.

A frozen one needs no look: it is measured as it stands still, and cannot grow. No policy; nothing is journaled here.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio.lowlevel

from jobs.record import State
from scheduler.clock import Clock
from scheduler.ports import Node
from scheduler.world import World

PERIOD_S = 5.0  # as long as a job is left alone after its start (jobs.policy.Preemption); a look costs some 50 us a job


class Sampling:
    """`await run()` until cancelled. `wake`: somebody waits, and there may be room now."""

    def __init__(self, world: World, node: Node, clock: Clock, wake: Callable[[], None]) -> None:
        self._world, self._node, self._clock, self._wake = world, node, clock, wake

    async def run(self) -> None:
        while True:
            if await self.look():
                self._wake()
            await self._clock.sleep_until(self._clock.monotonic() + PERIOD_S)

    async def look(self) -> bool:
        """At each running job once. Whether less is kept than was known, and somebody waits."""
        less = False
        for job in sorted(self._world.active):
            record = self._world.active.get(job)
            if record is None or record.state is not State.RUNNING:
                continue
            seen = self._node.resident_bytes(record.execution)
            if seen is not None:
                less |= self._world.observe(job, seen)
            await anyio.lowlevel.checkpoint()  # a thousand files are too long a time for everybody else
        return less and len(self._world.lines) > 0
