"""Whether a queued job may start if there is room. One that may not stands in no line and costs a round nothing. Pure.

What a queue as a whole forbids (drained, outside its windows, limits) is not here: that closes lines and buckets.
"""

from __future__ import annotations

import time

from jobs.record import Record, State
from jobs.verdict import Reason


def not_before(record: Record) -> float:
    """Wall clock; 0: at once."""
    return record.not_before


def due(record: Record) -> float:
    """When its deadline next asks for something: the warning, the stop, or of a waiting job the end. Wall clock; 0:
    never."""
    if not record.deadline_at or record.cancel is not None or record.state.final:
        return 0.0
    if record.state in (State.QUEUED, State.HELD):
        return record.latest_start_at
    return (warning_at(record) or record.deadline_at) if record.state.on_node else 0.0


def warning_at(record: Record) -> float:
    """Of a running job that is to be warned before its deadline and was not. Wall clock; 0: no warning."""
    warns = record.state is State.RUNNING and record.deadline_at and record.spec.warn.before_s and not record.warned
    return record.deadline_at - record.spec.warn.before_s if warns else 0.0


def hindrance(record: Record, now: float) -> Reason | None:
    """Why not yet. What it depends on must lead to `World.reconsider` when it changes; time does so by `World.tick`."""
    if record.attempt and not record.cleaned:
        return Reason("cleanup", 1, 0, detail="its last attempt is still being cleared away")
    if (begins := not_before(record)) > now:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(begins))
        return Reason("begin", begins, now, "s", detail=f"not before {stamp}")
    if 0 < record.latest_start_at <= now:
        return Reason("deadline", now, record.latest_start_at, "s", detail="too late to end before its deadline")
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
