"""cgroup v1 kills one process of a container that is out of memory and lets the rest go on; v2's memory.oom.group kills
all. Here the daemon learns of such a kill, so that it can end the rest.

cgroup-v1/memory.rst, "OOM Control": an eventfd that is written when the group meets its limit, before the victim is
chosen; `oom_kill` of the same file counts a moment later.
"""

from __future__ import annotations

import os

import anyio

from runtime.cgroups.files import write
from runtime.cgroups.memory import oom_kills
from runtime.cgroups.place import Place

_FIRST_PAUSE_S = 0.001
_COUNTED_WITHIN_S = 2.0  # after the notice; a group that found memory after all counts none


class OomWatch:
    """Of one container. `close` it; a daemon that dies closes it too, and the next one looks at the counter first."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._notices = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            control = os.open(f"{place.run}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
            try:
                write(f"{place.run}/cgroup.event_control", f"{self._notices} {control}")
            finally:
                os.close(control)
        except OSError:
            os.close(self._notices)
            raise

    async def wait_for_a_kill(self) -> None:
        """Returns when the kernel has killed for want of memory in the container, now or before."""
        while not oom_kills(self._place):
            await anyio.wait_readable(self._notices)
            os.eventfd_read(self._notices)
            await self._counted()

    async def _counted(self) -> None:
        pause = _FIRST_PAUSE_S
        with anyio.move_on_after(_COUNTED_WITHIN_S):
            while not oom_kills(self._place):
                await anyio.sleep(pause)
                pause *= 2

    def close(self) -> None:
        os.close(self._notices)
