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


class TimeUp(Action):
    """The time limit is over: a cancel is committed with the spec's own signal and grace."""


@dataclass(frozen=True, slots=True)
class Place(Action):
    placement: Placement


@dataclass(frozen=True, slots=True)
class ThawPlace(Action):
    placement: Placement
