"""What a round may want done: one class per verb. Values only, pure; all are safe to repeat."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.placement import Placement


@dataclass(frozen=True, slots=True)
class Action:
    """`version` is that of the record it was decided on."""

    job: int
    version: int


class Start(Action):
    """Placed and committed, not yet running: the node builds the container."""


class Freeze(Action):
    pass


class Thaw(Action):
    """CPUs are committed; the node writes them and thaws."""


class Stop(Action):
    pass


class Reprioritise(Action):
    pass


class Warn(Action):
    """The end is near: the node sends the signal of the spec's `warn`, once in an attempt."""


class Overdue(Action):
    """It did not end by its deadline, or no longer can: a cancel is committed, as for the time limit."""


class TimeUp(Action):
    """The time limit is over: a cancel is committed with the spec's own signal and grace."""


@dataclass(frozen=True, slots=True)
class GiveUp(Action):
    """What it waits for can never come. `tasks`: only these pending indexes of an array; (): all of the job."""

    reason: str
    tasks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Preempt(Action):
    """Frozen, or with `requeue` stopped and queued again, for the job `by`."""

    by: int
    resident_bytes: int  # counted on as staying resident
    requeue: bool


@dataclass(frozen=True, slots=True)
class Place(Action):
    """`index`: the task of an array that begins there; each task of a round is an action of its own."""

    placement: Placement
    index: int | None = None


@dataclass(frozen=True, slots=True)
class ThawPlace(Action):
    placement: Placement
