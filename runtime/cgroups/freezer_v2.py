"""`cgroup.freeze` of a unified hierarchy: a core file that needs no controller, so hybrid hosts have it too.

Recipe of docs/design/kernel.md: open `cgroup.events` (it arms POLLPRI), write, re-read at once, only then wait.
Notifications are limited to one per 10 ms, so between them the file is read again after short, growing pauses.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from runtime.cgroups.files import exists, read, table, write
from runtime.cgroups.freezer import FreezeTimeout, ThawTimeout

_FIRST_PAUSE_S = 100e-6
_LONGEST_PAUSE_S = 0.010  # CGROUP_FILE_NOTIFY_MIN_INTV
_THAW_DEADLINE_S = 5.0


class EventsFile:
    """A cgroup's `cgroup.events`, waited for without a thread.

    The file itself is always readable for epoll; only its POLLPRI says "changed". An epoll of its own that asks for
    POLLPRI alone turns that into a descriptor that *is* readable exactly when something changed: asyncio waits on it.
    """

    def __init__(self, group: str) -> None:
        self.path = f"{group}/cgroup.events"
        self._file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self._epoll = select.epoll()
        self._epoll.register(self._file, select.EPOLLPRI)
        self.now()

    def now(self) -> dict[str, int]:
        """Its values; reading also arms the next notification."""
        lines = os.pread(self._file, 4096, 0).decode().splitlines()
        return {name: int(value) for name, value in (line.split() for line in lines)}

    async def wait_until(self, name: str, value: int, deadline_s: float) -> bool:
        """False when the deadline passed first. Reads once before any waiting."""
        pause = _FIRST_PAUSE_S
        with anyio.move_on_after(deadline_s) as scope:
            while self.now().get(name) != value:
                with anyio.move_on_after(pause):
                    await anyio.wait_readable(self._epoll)
                pause = min(pause * 2, _LONGEST_PAUSE_S)
        return not scope.cancelled_caught or self.now().get(name) == value

    def close(self) -> None:
        self._epoll.close()
        os.close(self._file)


@contextmanager
def events_of(group: str) -> Iterator[EventsFile]:
    events = EventsFile(group)
    try:
        yield events
    finally:
        events.close()


class FreezerV2:
    version = "v2"

    def __init__(self, group: str) -> None:
        self.group = group
        self._file = f"{group}/cgroup.freeze"

    async def freeze(self, deadline_s: float) -> float:
        with events_of(self.group) as events:
            begun = time.monotonic()
            done = False
            try:
                write(self._file, "1")
                done = await events.wait_until("frozen", 1, deadline_s)
            finally:
                if not done:  # deadline, cancellation or error: a failed freeze could still take effect later
                    write(self._file, "0")
            took = time.monotonic() - begun
            if not done:
                raise FreezeTimeout(self.group, took, undone=read(self._file) == "0")
            return took

    async def thaw(self) -> float:
        """`frozen` stays 1 below a frozen ancestor; then the group's own file is all that can be confirmed."""
        with events_of(self.group) as events:
            begun = time.monotonic()
            write(self._file, "0")
            if not _ancestor_frozen(self.group) and not await events.wait_until("frozen", 0, _THAW_DEADLINE_S):
                raise ThawTimeout(self.group, time.monotonic() - begun)
            return time.monotonic() - begun

    def is_frozen(self) -> bool:
        return self.is_asked() and table(f"{self.group}/cgroup.events").get("frozen") == 1

    def is_asked(self) -> bool:
        return read(self._file) == "1"


def _ancestor_frozen(group: str) -> bool:
    parent = os.path.dirname(group)
    while exists(f"{parent}/cgroup.freeze"):  # the root of the hierarchy has none
        if read(f"{parent}/cgroup.freeze") == "1":
            return True
        parent = os.path.dirname(parent)
    return False
