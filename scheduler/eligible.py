"""Whether a queued job may start if there is room. One that may not stands in no line and costs a round nothing. Pure.

What a queue as a whole forbids (drained, outside its windows, limits) is not here: that closes lines and buckets.
"""

from __future__ import annotations

from jobs.record import Record
from jobs.verdict import Reason


def not_before(record: Record) -> float:
    """Wall clock; 0: at once."""
    return 0.0


def hindrance(record: Record, now: float) -> Reason | None:
    """Why not yet. What it depends on must lead to `World.reconsider` when it changes; time does so by `World.tick`."""
    begins = not_before(record)
    if begins > now:
        return Reason("begin", 1, 0, detail=f"it begins in {begins - now:.0f} s")
    return None
