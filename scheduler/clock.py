"""Time as a value that can be replaced: the only module of the scheduler that asks the operating system for it."""

from __future__ import annotations

import time
from typing import Protocol

import anyio


class Clock(Protocol):
    def wall(self) -> float:
        """Seconds since 1970, for display and for `submitted_at`; may jump."""

    def monotonic(self) -> float:
        """Seconds since some moment of this boot; never jumps."""

    async def sleep_until(self, deadline: float) -> None:
        """`deadline` on the monotonic scale."""


class SystemClock:
    def wall(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep_until(self, deadline: float) -> None:
        await anyio.sleep(max(0.0, deadline - time.monotonic()))
