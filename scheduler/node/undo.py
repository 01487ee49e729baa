"""What must be let go of at the end of an execution, in reverse. A failure is noted and stops nothing."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger("jobs.node")


class Undo:
    """Named steps, unwound last first. Unlike an exit stack it does nothing when its owner is merely cancelled:
    a daemon that stops must not tear down what still runs."""

    def __init__(self) -> None:
        self._steps: list[tuple[str, Callable[[], Awaitable[object]]]] = []

    def push(self, name: str, step: Callable[[], Awaitable[object]]) -> None:
        self._steps.append((name, step))

    async def unwind(self) -> tuple[str, ...]:
        """Names of the steps that failed, with the reason."""
        leftovers = []
        while self._steps:
            name, step = self._steps.pop()
            try:
                await step()
            except Exception as error:
                log.warning("clean-up of %s failed: %s", name, error)
                leftovers.append(f"{name}: {error}")
        return tuple(leftovers)
