"""Jobs that talk to each other (`freeze_with`): the scheduler freezes all of a group or none, and thaws them together.

A group is what of one user's jobs is on the node under one name, if all of it would fit there at once; else they are no
group. What people pause and resume is theirs to say, job by job: who is held by them, or is about to end, stands apart
and keeps nobody waiting. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from jobs.record import Record, State
from scheduler.allocate import allocate
from scheduler.capacity import Capacity, Ledger, hold_for
from scheduler.demand import thaw_demand

GroupName = tuple[int, str]  # uid, freeze_with


@dataclass(slots=True)
class Groups:
    """Changed by the world with each record."""

    capacity: Capacity
    members: dict[GroupName, dict[int, Record]] = field(default_factory=dict)
    _fits: dict[GroupName, bool] = field(default_factory=dict, compare=False)  # a memo

    def enter(self, record: Record) -> None:
        if record.spec.freeze_with:
            self.members.setdefault(_name(record), {})[record.job] = record
            self._fits.pop(_name(record), None)

    def leave(self, record: Record) -> None:
        if (group := self.members.get(_name(record))) is not None:
            group.pop(record.job, None)
            self._fits.pop(_name(record), None)
            if not group:
                del self.members[_name(record)]

    def running_with(self, record: Record) -> tuple[Record, ...]:
        """It, and all that would have to stand still with it and do not yet; who is starting or thawing too."""
        return self._which(record, _goes_on) or (record,)

    def coming_with(self, record: Record) -> tuple[Record, ...]:
        """It, frozen, and all that must come back with it."""
        return self._which(record, may_come_back) or (record,)

    def stopping(self, record: Record) -> tuple[int, ...]:
        """Who of its group is being frozen and does not stand still yet."""
        return tuple(mate.job for mate in self._which(record, _is_stopping))

    def kept_by(self, record: Record) -> tuple[int, ...]:
        """Whom of its group the scheduler froze or freezes: a waiting one does not start beside them."""
        return tuple(mate.job for mate in self._which(record, _made_room))

    def same(self, one: Record, other: Record) -> bool:
        return bool(one.spec.freeze_with) and _name(one) == _name(other)

    def torn(self, thawed: AbstractSet[int]) -> list[tuple[Record, int]]:
        """Who runs although others of its group were frozen for a job, and that job: it was starting, or could not be
        frozen. In order of job. `thawed`: who comes back in this round."""
        found = []
        for group in self.members.values():
            first = next(iter(group.values()))
            whom = [mate.preempted_by for mate in self._which(first, _made_room) if mate.job not in thawed]
            running = [mate for mate in group.values() if mate.state is State.RUNNING and _goes_on(mate)]
            found += [(mate, whom[0]) for mate in running if whom]
        return sorted(found, key=lambda item: item[0].job)

    def _which(self, record: Record, wanted: Callable[[Record], bool]) -> tuple[Record, ...]:
        """Of its group, in order of job."""
        group = self.members.get(_name(record), {}) if record.spec.freeze_with else {}
        found = tuple(mate for _, mate in sorted(group.items()) if wanted(mate))
        return found if found and self._fit(_name(record)) else ()

    def _fit(self, name: GroupName) -> bool:
        if name not in self._fits:
            self._fits[name] = _fit_together(self.capacity, self.members[name])
        return self._fits[name]


def _fit_together(capacity: Capacity, members: dict[int, Record]) -> bool:
    empty = Ledger(capacity)
    for job, record in sorted(members.items()):
        place = allocate(empty, thaw_demand(record), headroom=False)
        if place is None:
            return False
        empty.charge(job, hold_for(place))
    return True


def _name(record: Record) -> GroupName:
    return record.owner.uid, record.spec.freeze_with


def _goes_on(record: Record) -> bool:
    return record.state is not State.FROZEN and not record.to_freeze and record.cancel is None


def _is_stopping(record: Record) -> bool:
    return record.state is State.RUNNING and bool(record.preempted_by)


def _made_room(record: Record) -> bool:
    return bool(record.preempted_by) and record.cancel is None and not record.pause_holds


def may_come_back(record: Record) -> bool:
    return record.state is State.FROZEN and record.cancel is None and not record.pause_holds
