"""Store, writer and loop as the daemon wires them, on a real SQLite file, with a fake node and any clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.lowlevel

from scheduler.capacity import Capacity
from scheduler.clock import Clock
from scheduler.loop import Loop
from scheduler.resolving import outcomes
from scheduler.store import Store
from scheduler.world import World
from scheduler.writer import Writer
from tests.builders import a_capacity
from tests.fakes.clock import FakeClock
from tests.fakes.node import FakeNode


@dataclass
class Parts:
    store: Store
    world: World
    writer: Writer
    loop: Loop
    node: FakeNode
    clock: Clock
    stop: Callable[[], None]

    async def until_idle(self) -> None:
        """All commits made and every consequence told: rounds until one has nothing new."""
        told = -1
        while told != len(self.node.verbs):
            told = len(self.node.verbs)
            await self.loop.round()


@asynccontextmanager
async def parts(
    folder: Path, *, capacity: Capacity | None = None, clock: Clock | None = None, run_loop: bool = False
) -> AsyncIterator[Parts]:
    """The writer runs; the loop only with `run_loop` (else the test calls `round`). Leaving it is a stop."""
    store = await Store(str(folder / "journal.db")).open()
    clock = clock or FakeClock()
    records = await store.live_records()
    known = await outcomes(records, store)
    policy, used = await store.policy(), await store.used()
    world = World.of(capacity or a_capacity(), records, policy, clock.wall(), known, used)
    writer, node = Writer(store, world, clock), FakeNode()
    loop = Loop(world, writer, node, clock)  # type: ignore[arg-type]  # looks and exec are not the loop's
    writer.listen(loop.wake)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(writer.run)
            if run_loop:
                tasks.start_soon(loop.run)
            await anyio.lowlevel.checkpoint()
            yield Parts(store, world, writer, loop, node, clock, tasks.cancel_scope.cancel)
            tasks.cancel_scope.cancel()
    finally:
        await store.close()
