"""When a queue's windows are open, by the wall clock of the policy's time zone, summer time included. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from jobs.policy import Window

DAY_MIN = 24 * 60


def is_open(windows: Sequence[Window], at: float, timezone: str) -> bool:
    """`at` in seconds since 1970. No windows: always open. Raises ZoneInfoNotFoundError."""
    if not windows:
        return True
    local = datetime.fromtimestamp(at, ZoneInfo(timezone))
    today, minute = local.weekday(), local.hour * 60 + local.minute
    return any(_holds(window, today, minute) for window in windows)


def next_change(windows: Sequence[Window], at: float, timezone: str) -> float | None:
    """When `is_open` changes next, in seconds since 1970; None when it never does. Looks eight days ahead."""
    zone = ZoneInfo(timezone)
    local = datetime.fromtimestamp(at, zone)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    edges = {0, *(edge % DAY_MIN for window in windows for edge in (window.from_min, window.to_min))}
    now = is_open(windows, at, timezone)
    hours = range(24)  # and at each hour of the next two days: clocks that are put forward or back open and close too
    times = {midnight + timedelta(days=day, minutes=edge) for day in range(9) for edge in edges}
    found = sorted({moment.timestamp() for moment in times} | {at - at % 3600 + 3600 * (1 + hour) for hour in hours})
    return next((moment for moment in found if moment > at and is_open(windows, moment, timezone) != now), None)


def _holds(window: Window, today: int, minute: int) -> bool:
    if window.from_min < window.to_min:
        return today in window.days and window.from_min <= minute < window.to_min
    began_yesterday = (today - 1) % 7 in window.days and minute < window.to_min
    return began_yesterday or (today in window.days and minute >= window.from_min)
