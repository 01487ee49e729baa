"""A clock that jumps: time stands still until `advance`, which wakes whoever's moment has come."""

from __future__ import annotations

import anyio


class FakeClock:
    def __init__(self, wall: float = 1_000_000.0) -> None:
        self._wall, self._monotonic = wall, 0.0
        self._moved = anyio.Event()

    def wall(self) -> float:
        return self._wall

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep_until(self, deadline: float) -> None:
        while self._monotonic < deadline:
            await self._moved.wait()

    def advance(self, seconds: float) -> None:
        self._wall += seconds
        self._monotonic += seconds
        moved, self._moved = self._moved, anyio.Event()
        moved.set()
