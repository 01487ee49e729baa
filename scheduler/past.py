"""The world as it was: made of the journal's events, in order, up to a moment. Pure.

Records alone are followed until a world is asked for (`open`); from then on each event is applied to it. What the host
could give is known from the first `DaemonStarted` on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from jobs import states
from jobs.events import DaemonStarted, Event, PolicyEvent, Submitted, TaskMade
from jobs.policy import Policy
from jobs.policy_changes import advance_policy
from jobs.record import Record
from scheduler.capacity import Capacity
from scheduler.decide import DECIDE_VERSION
from scheduler.dependency import Became, became
from scheduler.fairshare import Key, Used, charged, faded
from scheduler.world import World


@dataclass(slots=True)
class Past:
    """`at`: of the last entry. `started`: the last start of a daemon. `world`: None until it is opened."""

    at: float = 0.0
    started: DaemonStarted | None = None
    world: World | None = None
    _live: dict[int, Record] = field(default_factory=dict)
    _ended: dict[int, Became] = field(default_factory=dict)  # for those that wait for them
    _policy: Policy = field(default_factory=Policy)
    _used: dict[Key, Used] = field(default_factory=dict)

    def record(self, job: int) -> Record | None:
        """None before its submission, and after it was cleared away."""
        return self._live.get(job)

    def ended(self, job: int) -> bool:
        """And was cleared away."""
        return job in self._ended

    @property
    def note(self) -> str:
        """What must be said of an answer; "": nothing."""
        if self.started is None or self.started.decide_version == DECIDE_VERSION:
            return ""
        return (
            f"version {self.started.decide_version} of the scheduler decided then; "
            f"this is what version {DECIDE_VERSION} would have decided"
        )

    def open(self, now: float) -> World | None:
        """The world of this moment; None where it is not known what the host could give."""
        if self.world is None and self.started is not None:
            live = [self._live[job] for job in sorted(self._live)]
            known = self._ended | {record.job: became(record) for record in live}
            capacity = _capacity(self.started)
            self.world = World.of(capacity, live, self._policy, now, known, self._used)
        if self.world is not None:
            self.world.tick(now)
        return self.world

    def happen(self, at: float, events: Iterable[Event]) -> None:
        """One entry."""
        self.at = at
        if self.world is not None:
            self.world.tick(at)
        for event in events:
            match event:
                case DaemonStarted():
                    self._start(event)
                case PolicyEvent():
                    self._change(event)
                case _:
                    self._advance(event)

    def _start(self, event: DaemonStarted) -> None:
        """The host may be another one now."""
        if self.started is not None and _capacity(self.started) != _capacity(event):
            self.world = None
        self.started = event

    def _change(self, event: PolicyEvent) -> None:
        self._used.update(faded(self._used, event, self._policy))
        self._policy = advance_policy(self._policy, event)
        if self.world is not None:
            self.world.change_policy(event)

    def _advance(self, event: Event) -> None:
        before = self._live.get(event.job)
        if before is None and not isinstance(event, Submitted | TaskMade):
            return  # of one that was cleared away
        array = self._live.get(event.array) if isinstance(event, TaskMade) else None
        after = states.advance(before, event, array)
        self._used.update(charged(self._used, event, before, self._policy.half_life_s))
        if after.state.final and after.cleaned:
            self._live.pop(event.job, None)
            self._ended[event.job] = became(after)
        else:
            self._live[event.job] = after
        if self.world is not None:
            self.world.apply(event, before, after)


def _capacity(event: DaemonStarted) -> Capacity:
    return Capacity.of(
        event.topology, reserve_bytes=event.reserve_bytes, node_id=event.node_id, max_jobs=event.max_jobs
    )
