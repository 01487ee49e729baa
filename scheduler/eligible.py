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
    if not left_at_once(record):
        progress, array = record.progress, record.spec.array
        assert progress is not None and array is not None
        detail = f"{progress.live} tasks of this array live, at most {array.at_once} at once"
        return Reason("array", 1, 0, "tasks", detail=detail)
    return None


def left_at_once(record: Record) -> int:
    """How many more tasks of an array may live; of a single job 1."""
    if record.progress is None or record.spec.array is None:
        return 1
    most = record.spec.array.at_once or record.progress.size
    return max(0, most - record.progress.live)
