"""One integer: urgency in hours of waiting, then age, then the id."""

from __future__ import annotations

import pytest

from scheduler.priority import POINT_MS, own_rank, parts
from tests.builders import a_record


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((50, 100.0, 1), (50, 200.0, 2)),  # older
        ((51, 200.0, 2), (50, 100.0, 1)),  # more urgent
        ((50, 100.0, 1), (50, 100.0, 2)),  # the id
        ((50, 0.0, 1), (51, 3601.0, 2)),  # an hour and a second older is more than a point of urgency
        ((0, 0.0, 1), (100, 100 * 3600 + 1.0, 2)),  # age is uncapped
    ],
)
def test_order(first: tuple[int, float, int], second: tuple[int, float, int]) -> None:
    one, other = (a_record(job=job, at=at, priority=urgency) for urgency, at, job in (first, second))
    assert own_rank(one) < own_rank(other)


def test_the_rank_is_an_integer_and_does_not_depend_on_the_time() -> None:
    record = a_record(at=1.0004, priority=3)
    assert own_rank(record) == (1000 - 3 * POINT_MS, 1)


def test_the_parts_add_up_in_points() -> None:
    found = parts(7200.0, 3, 10, -POINT_MS // 2, 7200.0 + 3600.0)
    assert (found.urgency, found.queue, found.share, found.age, found.total) == (3, 10, -0.5, 1.0, 13.5)
