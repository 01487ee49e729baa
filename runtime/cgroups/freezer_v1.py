"""`freezer.state` of cgroup v1, for hosts without a unified hierarchy.

Recipe of docs/design/kernel.md: write FROZEN and read back; it becomes FROZEN only when somebody reads it, and on older
kernels a fork race can keep it at FREEZING for ever: write again with growing pauses, thaw for a moment every 50 tries.
"""

from __future__ import annotations

import time

import anyio

from runtime.cgroups.files import read, write
from runtime.cgroups.freezer import FreezeTimeout, ThawTimeout

_FIRST_PAUSE_S = 50e-6
_LONGEST_PAUSE_S = 0.010
_TRIES_PER_THAW = 50
_THAW_DEADLINE_S = 5.0


class FreezerV1:
    version = "v1"

    def __init__(self, group: str) -> None:
        self.group = group
        self._state = f"{group}/freezer.state"

    async def freeze(self, deadline_s: float) -> float:
        begun = time.monotonic()
        done = False
        try:
            with anyio.move_on_after(deadline_s):
                await self._freeze_until_done()
                done = True
        finally:
            if not done:  # deadline, cancellation or error
                write(self._state, "THAWED")
        took = time.monotonic() - begun
        if not done:
            raise FreezeTimeout(self.group, took, undone=not self.is_asked())
        return took

    async def _freeze_until_done(self) -> None:
        pause, tries = _FIRST_PAUSE_S, 0
        while True:
            write(self._state, "FROZEN")
            if read(self._state) == "FROZEN":
                return
            tries += 1
            if tries % _TRIES_PER_THAW == 0:
                write(self._state, "THAWED")
            await anyio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    async def thaw(self) -> float:
        """The state stays FROZEN below a frozen ancestor; then `self_freezing` is all that can be confirmed."""
        begun = time.monotonic()
        pause = _FIRST_PAUSE_S
        with anyio.move_on_after(_THAW_DEADLINE_S):
            write(self._state, "THAWED")
            while self.is_asked() or not (read(self._state) == "THAWED" or self._ancestor_frozen()):
                await anyio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_S)
            return time.monotonic() - begun
        raise ThawTimeout(self.group, time.monotonic() - begun)

    def is_frozen(self) -> bool:
        return read(self._state) == "FROZEN" and self.is_asked()

    def is_asked(self) -> bool:
        """The parent's request shows in `freezer.state` too; only `self_freezing` is this group's own."""
        return read(f"{self.group}/freezer.self_freezing") == "1"

    def _ancestor_frozen(self) -> bool:
        return read(f"{self.group}/freezer.parent_freezing") == "1"
