"""Reserved times: when next, which CPUs."""

from __future__ import annotations

import pytest

from jobs.policy import Reservation
from scheduler.reservation import first_after, overlaps, reserved_cpus
from tests.builders import a_capacity

ONCE, DAILY = Reservation("once", 1000.0, 100.0), Reservation("daily", 1000.0, 100.0, every_s=86400.0)


@pytest.mark.parametrize(
    ("reservation", "at", "found"),
    [
        (ONCE, 0.0, (1000.0, 1100.0)),
        (ONCE, 1099.0, (1000.0, 1100.0)),
        (ONCE, 1100.0, None),
        (DAILY, 1100.0, (87400.0, 87500.0)),
        (DAILY, 87499.0, (87400.0, 87500.0)),
        (DAILY, 87500.0, (173800.0, 173900.0)),
    ],
)
def test_the_first_time_that_is_not_over(
    reservation: Reservation, at: float, found: tuple[float, float] | None
) -> None:
    assert first_after(reservation, at) == found


def test_overlaps() -> None:
    assert not overlaps(DAILY, 1100.0, 87400.0)
    assert overlaps(DAILY, 1100.0, 87401.0)
    assert overlaps(DAILY, 1099.0, 1100.0)


def test_each_has_its_own_cpus_while_there_are_enough_and_the_same_ones_always() -> None:
    some = [Reservation(name, 0.0, 1.0, cpus=cpus) for name, cpus in (("a", 3), ("b", 4), ("c", 2), ("d", 9))]
    found = reserved_cpus([*some, Reservation("whole", 0.0, 1.0)], a_capacity(nodes=2, cpus_per_node=4))
    assert (len(found["a"]), len(found["b"]), len(found["c"])) == (3, 4, 2)
    assert not set(found["a"]) & set(found["b"])
    assert found["whole"] == found["d"] == tuple(range(8)), "more than there are: all"
    assert found == reserved_cpus([*some, Reservation("whole", 0.0, 1.0)], a_capacity(nodes=2, cpus_per_node=4))
