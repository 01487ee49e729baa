"""Opening hours of queues, summer time included."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from jobs.policy import Window
from scheduler.windows import is_open, next_change

BERLIN = "Europe/Berlin"
WEEKDAYS, DAY, NIGHT = (0, 1, 2, 3, 4), (8 * 60, 17 * 60), (22 * 60, 6 * 60)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(BERLIN)).timestamp()


@pytest.mark.parametrize(
    ("window", "when", "is_so", "changes"),
    [
        (Window(WEEKDAYS, *DAY), "2026-11-24T07:59:59", False, "2026-11-24T08:00"),
        (Window(WEEKDAYS, *DAY), "2026-11-24T08:00", True, "2026-11-24T17:00"),
        (Window(WEEKDAYS, *DAY), "2026-11-27T17:00", False, "2026-11-30T08:00"),  # over the weekend
        (Window((5,), *NIGHT), "2026-11-29T05:59", True, "2026-11-29T06:00"),  # Saturday's night, on Sunday
        (Window((5,), *NIGHT), "2026-11-28T05:59", False, "2026-11-28T22:00"),  # Friday's night is not Saturday's
        (Window((6,), 150, 180), "2026-03-29T01:59", False, "2026-04-05T02:30"),  # 02:30 does not exist on that day
        (Window((6,), 0, 300), "2026-10-25T00:00", True, "2026-10-25T05:00"),  # an hour longer
    ],
)
def test_hours(window: Window, when: str, is_so: bool, changes: str) -> None:
    assert is_open([window], at(when), BERLIN) is is_so
    assert next_change([window], at(when), BERLIN) == at(changes)


def test_no_windows_are_always_open() -> None:
    assert is_open([], 0.0, "UTC") and next_change([], 0.0, "UTC") is None


def test_windows_that_cover_all_never_change() -> None:
    assert next_change([Window(tuple(range(7)), 0, 24 * 60)], at("2026-11-24T12:00"), BERLIN) is None
