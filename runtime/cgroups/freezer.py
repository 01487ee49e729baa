"""Freezing and thawing a group: the contract that both kernels' freezers keep.

- A freeze that is not complete within its deadline, or that is cancelled, is undone before the error leaves.
- `is_frozen` is about this group's own request: a frozen ancestor does not count.
- Anything may fail half way: thawing a group that is not frozen is fine.
- A group that is gone is an OSError (ENOENT, ENODEV) with its path.
"""

from __future__ import annotations

from typing import Protocol

from jobs.errors import HostError


class FreezeTimeout(HostError):
    """Not every process stood still in time; the group runs again."""

    code = "freeze-timeout"
    status = 504

    def __init__(self, path: str, took_s: float, *, undone: bool) -> None:
        super().__init__(
            f"not frozen within {took_s:.3f} s: {path}" + ("" if undone else "; and it could not be thawed again"),
            hint="a process in uninterruptible sleep (state D in its /proc/PID/stat) can't be frozen: see its wchan",
        )
        self.path, self.took_s, self.undone = path, took_s, undone


class ThawTimeout(HostError):
    """The kernel did not confirm the thaw; it was asked for and may still come."""

    code = "thaw-timeout"
    status = 504

    def __init__(self, path: str, took_s: float) -> None:
        super().__init__(f"not thawed within {took_s:.3f} s: {path}", hint="is a group above it frozen?")
        self.path, self.took_s = path, took_s


class Freezer(Protocol):
    """Of one group with everything below it."""

    version: str  # "v1" | "v2"

    async def freeze(self, deadline_s: float) -> float:
        """Seconds from the request to the kernel's confirmation. Raises FreezeTimeout after undoing."""

    async def thaw(self) -> float:
        """Seconds until the kernel confirms. Raises ThawTimeout."""

    def is_frozen(self) -> bool:
        """Asked for on this group and complete."""

    def is_asked(self) -> bool:
        """Asked for on this group, complete or not: a process that joined now would hang without a word."""
