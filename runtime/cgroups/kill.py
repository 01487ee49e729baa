"""How everything in a group dies, for certain.

v2: `cgroup.kill` (Linux 5.14) takes the frozen too and no fork escapes it. Otherwise: stop forks by freezing, SIGKILL
by pidfd in every subgroup, thaw from the bottom to the top (v1 delivers nothing while frozen), until empty.
"""

from __future__ import annotations

import os
import signal
import time

import anyio

from jobs.errors import HostError
from runtime.cgroups.files import exists, read, write
from runtime.cgroups.freezer import Freezer, FreezeTimeout
from runtime.cgroups.freezer_v1 import FreezerV1
from runtime.cgroups.freezer_v2 import FreezerV2, events_of

_DEADLINE_S = 10.0
_FREEZE_DEADLINE_S = 0.2  # only to stop fork races; a second round follows anyway
_LONGEST_PAUSE_S = 0.050


class StillAlive(HostError):
    """Processes that survived SIGKILL for so long: in uninterruptible sleep, or below a frozen ancestor."""

    code = "still-alive"

    def __init__(self, group: str, pids: list[int]) -> None:
        super().__init__(
            f"processes survive SIGKILL in {group}: {pids}", hint="see /proc/PID/stack and /proc/PID/wchan"
        )
        self.group, self.pids = group, pids


async def kill(group: str, version: int, deadline_s: float = _DEADLINE_S) -> None:
    """Returns when no process is left in `group` or below. Raises StillAlive."""
    if version == 2 and exists(f"{group}/cgroup.kill"):
        await _kill_v2(group, deadline_s)
    else:
        await _kill_by_pid(group, deadline_s)


async def _kill_v2(group: str, deadline_s: float) -> None:
    with events_of(group) as events:
        write(f"{group}/cgroup.kill", "1")
        if not await events.wait_until("populated", 0, deadline_s):
            raise StillAlive(group, pids_below(group))


async def _kill_by_pid(group: str, deadline_s: float) -> None:
    until = time.monotonic() + deadline_s
    pause = 0.001
    while pids_below(group):
        if time.monotonic() > until:
            raise StillAlive(group, pids_below(group))
        await _kill_round(group)
        await anyio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE_S)


async def _kill_round(group: str) -> None:
    freezer = _freezer(group)
    try:
        if freezer is not None and not freezer.is_asked():
            await freezer.freeze(_FREEZE_DEADLINE_S)
    except FreezeTimeout:
        pass  # killing the unfrozen works too; whoever forked away is met in the next round
    finally:
        _signal(pids_below(group), group)
        if freezer is not None:
            for below in subgroups(group):
                _ask_thaw(below)


def _freezer(group: str) -> Freezer | None:
    if exists(f"{group}/cgroup.freeze"):
        return FreezerV2(group)
    return FreezerV1(group) if exists(f"{group}/freezer.state") else None


def _ask_thaw(group: str) -> None:
    for name, value in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
        if exists(f"{group}/{name}"):
            write(f"{group}/{name}", value)


def _signal(pids: list[int], group: str) -> None:
    """By pidfd, and only when the pid is still listed after it was opened: then the pidfd is that process."""
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            continue  # gone
        try:
            if pid in pids_below(group):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        except ProcessLookupError:
            pass
        finally:
            os.close(handle)


def pids_below(group: str) -> list[int]:
    """Processes in `group` and its subgroups, as seen from our own pid namespace (0 stands for those outside)."""
    found: list[int] = []
    for below in subgroups(group):
        try:
            found += [int(line) for line in read(f"{below}/cgroup.procs").splitlines()]
        except OSError:
            continue
    return sorted(set(found))


def subgroups(group: str) -> list[str]:
    """`group` and everything below it, the deepest first."""
    return [path for path, _, _ in os.walk(group, topdown=False)]
