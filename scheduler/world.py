"""What `decide` looks at: live records, the queue grouped by demand, and who holds what. Pure.

Changed by `apply` with events only, lent read-only to `decide`. A world that was applied to equals the one rebuilt from
its records (a property test says so), so a restart decides the same. Final and cleaned-up jobs are not here.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass, field

from jobs.events import Event
from jobs.record import Record, State
from scheduler.allocate import allocate
from scheduler.capacity import NOTHING, Capacity, Ledger, hold_of
from scheduler.demand import Demand, demand_of
from scheduler.priority import order_key


@dataclass(slots=True)
class World:
    """`queue[demand]` holds (order key) of queued jobs, sorted; `active` the records that are on the node."""

    capacity: Capacity
    ledger: Ledger
    live: dict[int, Record] = field(default_factory=dict)
    active: dict[int, Record] = field(default_factory=dict)
    queue: dict[Demand, list[tuple[int, int]]] = field(default_factory=dict)
    _fits_empty: dict[Demand, bool] = field(default_factory=dict, compare=False)  # a memo, not a fact

    @classmethod
    def of(cls, capacity: Capacity, records: Iterable[Record] = ()) -> World:
        """Rebuilt from records, as after a restart."""
        world = cls(capacity, Ledger(capacity))
        for record in records:
            world._enter(record)
        return world

    def apply(self, event: Event, before: Record | None, after: Record) -> None:
        """Called once for each committed event, in the journal's order. `event` is what made `after` of `before`."""
        assert event.job == after.job and (before is None or before.job == after.job)
        if before is not None:
            self._leave(before)
        self._enter(after)

    def _enter(self, record: Record) -> None:
        hold = hold_of(record)
        if hold != NOTHING:
            self.ledger.charge(record.job, hold)
        if not record.state.final or not record.cleaned:
            self.live[record.job] = record
        if record.state.on_node:
            self.active[record.job] = record
        if record.state is State.QUEUED:
            insort(self.queue.setdefault(demand_of(record.spec), []), order_key(record))

    def _leave(self, record: Record) -> None:
        self.ledger.release(record.job)
        self.live.pop(record.job, None)
        self.active.pop(record.job, None)
        if record.state is State.QUEUED:
            demand = demand_of(record.spec)
            waiting = self.queue[demand]
            del waiting[bisect_left(waiting, order_key(record))]
            if not waiting:
                del self.queue[demand]

    def ever(self, demand: Demand) -> bool:
        """Whether the demand would fit if this host were empty."""
        known = self._fits_empty.get(demand)
        if known is None:
            known = self._fits_empty[demand] = allocate(Ledger(self.capacity), demand) is not None
        return known

    def frozen_only(self) -> Ledger:
        """What will be held when every running job has ended."""
        ledger = Ledger(self.capacity)
        for record in self.active.values():
            if record.state is State.FROZEN:
                ledger.charge(record.job, hold_of(record))
        return ledger
