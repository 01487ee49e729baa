"""Reserved times as an operator gave them: which CPUs, and when next. Pure.

The CPUs of a reservation are always the same ones, so that no job that runs into it is placed on them beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence

from jobs.policy import Reservation
from scheduler.allocate import allocate
from scheduler.capacity import Capacity, Ledger, hold_for
from scheduler.demand import Demand


def first_after(reservation: Reservation, at: float) -> tuple[float, float] | None:
    """(start, end) of the first time that has not ended at `at`; None when all are over. Seconds since 1970."""
    start, end = reservation.at, reservation.at + reservation.for_s
    if at < end:
        return start, end
    if not reservation.every_s:
        return None
    gone = int((at - end) // reservation.every_s) + 1
    return start + gone * reservation.every_s, end + gone * reservation.every_s


def overlaps(reservation: Reservation, start: float, end: float) -> bool:
    """Whether it has a time that shares a moment with [start, end)."""
    found = first_after(reservation, start)
    return found is not None and found[0] < end


def reserved_cpus(reservations: Sequence[Reservation], capacity: Capacity) -> dict[str, tuple[int, ...]]:
    """Name → CPUs. Different ones for each while there are enough, then whatever an empty host would give."""
    ledger = Ledger(capacity)
    found = {}
    for number, reservation in enumerate(reservations, 1):
        demand = Demand(cpus=reservation.cpus, shares=0.0, memory_bytes=0, numa="any")
        place = allocate(ledger, demand) if reservation.cpus else None
        if place is not None:
            ledger.charge(number, hold_for(place))
        elif reservation.cpus:
            place = allocate(Ledger(capacity), demand)
        found[reservation.name] = place.cpus if place is not None else tuple(sorted(capacity.node_of))
    return found
